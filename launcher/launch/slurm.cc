#include "launcher/launch/slurm.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string_view>

#include "runtime/base/error.h"
#include "runtime/base/subprocess.h"
#include "runtime/checkpoint/file.h"
#include "runtime/config/text.h"

namespace cairn {
namespace {

using Json = nlohmann::ordered_json;

constexpr uint64_t kMaxJobFile = uint64_t{1} << 20;

std::string JobFile(const std::string& run_dir) { return JoinPath(SlurmDirectory(run_dir), "job"); }

bool IsJobId(std::string_view text) {
  return !text.empty() && text.size() <= 20 &&
         text.find_first_not_of("0123456789") == std::string_view::npos;
}

// What a command said, on one line.
std::string OneLine(const std::string& text) {
  std::istringstream words(text);
  std::string line;
  for (std::string word; words >> word;) line += (line.empty() ? "" : " ") + word;
  return Printable(line, 400);
}

[[noreturn]] void ThrowRefused(const char* command, const ProcessResult& result) {
  const std::string said = OneLine(result.err.empty() ? result.out : result.err);
  Throw(ErrorKind::kIo, command, "ended with status {}: {}", result.status,
        said.empty() ? "it said nothing" : said);
}

ProcessResult RunWell(const std::vector<std::string>& words) {
  ProcessResult result = RunProcess(words);
  if (result.status != 0) ThrowRefused(words[0].c_str(), result);
  return result;
}

}  // namespace

bool SlurmState::active() const {
  constexpr std::array<std::string_view, 9> kEnded = {"COMPLETED", "FAILED",    "CANCELLED",
                                                      "TIMEOUT",   "NODE_FAIL", "PREEMPTED",
                                                      "BOOT_FAIL", "DEADLINE",  "OUT_OF_MEMORY"};
  return std::find(kEnded.begin(), kEnded.end(), state) == kEnded.end();
}

std::string SlurmDirectory(const std::string& run_dir) { return JoinPath(run_dir, "slurm"); }

std::string JobScriptPath(const std::string& run_dir) {
  return JoinPath(SlurmDirectory(run_dir), "job.sbatch");
}

void RememberJob(const std::string& run_dir, const SlurmJob& job) {
  const Json json = {{"job", job.id}, {"log", job.log}, {"run_dirs", job.run_dirs}};
  WriteFileAtomically(JobFile(run_dir), json.dump(2) + "\n");
}

std::optional<SlurmJob> RecallJob(const std::string& run_dir) {
  const std::string path = JobFile(run_dir);
  if (!std::filesystem::exists(path)) return std::nullopt;
  try {
    const Json json = Json::parse(ReadWholeFile(path, kMaxJobFile));
    SlurmJob job{json.at("job").get<std::string>(), json.at("log").get<std::string>(),
                 json.at("run_dirs").get<std::vector<std::string>>()};
    if (IsJobId(job.id) && !job.log.empty() && !job.run_dirs.empty()) return job;
  } catch (const Json::exception&) {
    // Told below, as every other damage.
  }
  Throw(ErrorKind::kIo, path, "is not what `cairn launch slurm --submit` wrote");
}

std::string ExpandOutput(const std::string& pattern, const std::string& id,
                         std::optional<int> task) {
  std::string path;
  for (size_t i = 0; i < pattern.size(); ++i) {
    const char next = pattern[i] == '%' && i + 1 < pattern.size() ? pattern[++i] : '\0';
    if (next == '\0' || next == '%') {
      path += pattern[i];
    } else if (next == 'A') {
      path += id;
    } else if (next == 'a') {
      path += fmt::to_string(task.value_or(0));
    }
  }
  return path;
}

std::string SubmitJob(const std::string& script) {
  const ProcessResult result = RunWell({"sbatch", "--parsable", script});
  // "ID" or "ID;CLUSTER"
  std::string id = result.out.substr(0, result.out.find_first_of(";\n"));
  if (!IsJobId(id)) ThrowRefused("sbatch", result);
  return id;
}

std::vector<SlurmState> QueryJob(const std::string& id) {
  const ProcessResult result = RunProcess(
      {"squeue", "--jobs=" + id, "--states=all", "--noheader", "--format=%i|%T|%M|%l|%R"});
  if (result.status != 0) {
    if (result.err.find("Invalid job id") != std::string::npos) return {};
    ThrowRefused("squeue", result);
  }
  std::vector<SlurmState> states;
  std::istringstream lines(result.out);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream fields(line);
    SlurmState state;
    for (std::string* field : {&state.id, &state.state, &state.elapsed, &state.limit}) {
      std::getline(fields, *field, '|');
    }
    std::getline(fields, state.reason);
    if (!state.state.empty()) states.push_back(std::move(state));
  }
  return states;
}

void CancelJob(const std::string& id) { RunWell({"scancel", id}); }

}  // namespace cairn
