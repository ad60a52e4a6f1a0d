#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace cairn {

/// One line of the doctor's report.
struct DoctorCheck {
  enum class Status : uint8_t {
    kOk,
    kWarn,  ///< training works, but slower or on less than it could
    kFail,  ///< training cannot work
  };

  explicit DoctorCheck(std::string check_name) : name(std::move(check_name)) {}

  std::string name;
  Status status = Status::kOk;
  std::string text;    ///< what is there
  std::string advice;  ///< what to do; empty if nothing
  nlohmann::ordered_json facts = nlohmann::ordered_json::object();  ///< the same for programs

  void Warn(std::string_view what_to_do) { Raise(Status::kWarn, what_to_do); }
  void Fail(std::string_view what_to_do) { Raise(Status::kFail, what_to_do); }

 private:
  void Raise(Status raised, std::string_view what_to_do);
};

/// Processor, cores, memory, limits, shared memory, disk.
std::vector<DoctorCheck> CheckHost();
/// Instruction sets, and what the CPU libraries make of them.
std::vector<DoctorCheck> CheckInstructions();
/// The MPI library, and how this process was launched. To be called while the process has one
/// thread: it tries MPI out in a child.
std::vector<DoctorCheck> CheckMpi();
/// True unless a launcher started this process beside another of the same job on this host, which
/// reports for both.
bool IsFirstOnHost();
/// GPUs, their driver, and whether this build can use them.
std::vector<DoctorCheck> CheckGpus();
/// Versions of the libraries loaded.
std::vector<DoctorCheck> CheckLibraries();

/// Cores that this process may keep busy: its affinity mask, cut by its cgroups' quotas; at
/// least 1.
int UsableCores();

}  // namespace cairn
