#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace cairn {

/// A host, and how many ranks it takes.
struct HostSlots {
  std::string name;
  int slots = 1;
  bool operator==(const HostSlots&) const = default;
};

/// Reads "a:8,b:8,c"; a host without a number takes one rank. Throws Error(kUsage) with what is
/// wrong.
std::vector<HostSlots> ParseHosts(std::string_view text);

/// The slots of all `hosts`.
int TotalSlots(const std::vector<HostSlots>& hosts);

/// How mpirun shall start a program.
struct MpirunOptions {
  int ranks = 1;
  std::vector<HostSlots> hosts;  ///< empty: where mpirun is, or where its scheduler says
  bool oversubscribe = false;    ///< more ranks than slots are meant
  int threads = 0;               ///< cores of a rank, bound to it; 0: ranks share their host's
  std::string interface;         ///< network interface or a.b.c.d/n; empty: MPI chooses
  bool as_root = false;
  /// Set for the ranks of every host; mpirun takes them over by itself on its own host only.
  std::vector<std::pair<std::string, std::string>> environment;
};

/// The variables of this process that change what a rank does: those of Cairn, NCCL, OpenMP, oneDNN
/// and the library path.
std::vector<std::pair<std::string, std::string>> RankEnvironment();

/// `mpirun` and its flags; the program and its arguments follow. Neighbouring ranks share a host,
/// and a rank that waits leaves its core to others.
std::vector<std::string> MpirunWords(const MpirunOptions& options);

}  // namespace cairn
