#include "parallel/flight_files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "runtime/base/error.h"
#include "runtime/checkpoint/file.h"
#include "runtime/telemetry/output_file.h"

namespace cairn {
namespace {

namespace fs = std::filesystem;

constexpr const char* kStall = "STALL";
constexpr const char* kVerdict = "VERDICT";
constexpr const char* kFailed = "FAILED";
constexpr const char* kHosts = "hosts.json";
constexpr size_t kKeptStarts = 8;
constexpr uint64_t kMaxFileBytes = uint64_t{64} << 20;

std::string RollCallPath(const std::string& directory, int number) {
  return JoinPath(directory, fmt::format("roll-call-{:05}", number));
}

std::string AnswerPath(const std::string& directory, int number, int rank) {
  return JoinPath(directory, fmt::format("here-{:05}-{:05}", number, rank));
}

std::string RecordPath(const std::string& directory, size_t rank) {
  return JoinPath(directory, fmt::format("rank-{:05}.json", rank));
}

// The folders of the starts of a run, oldest first.
std::vector<std::string> Starts(const std::string& run_dir) {
  std::vector<std::string> starts;
  std::error_code error;
  for (fs::directory_iterator it(JoinPath(run_dir, "flight"), error), end; !error && it != end;
       it.increment(error)) {
    const std::string name = it->path().filename();
    if (name.starts_with("start-")) starts.push_back(it->path());
  }
  std::ranges::sort(starts);
  return starts;
}

// Whether a file is there by now. A network file system remembers for up to a minute what was
// missing, but asks again about a folder that has just been opened.
bool Appeared(const std::string& directory, const std::string& path) {
  const int folder = open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder >= 0) close(folder);
  std::error_code ignored;
  return fs::exists(path, ignored);
}

// Makes a file that must not exist yet; false where it does.
bool MakeOnce(const std::string& path, std::string_view content) {
  try {
    OutputFile(path, OutputFile::Mode::kNew).Append(content);
    return true;
  } catch (const Error&) {
    if (fs::exists(path)) return false;
    throw;
  }
}

}  // namespace

std::string BeginFlight(const std::string& run_dir, const std::vector<std::string>& hosts) {
  const std::vector<std::string> starts = Starts(run_dir);
  int number = 0;
  if (!starts.empty()) {
    const std::string name = fs::path(starts.back()).filename();
    number = std::atoi(name.c_str() + std::string_view("start-").size()) + 1;
  }
  for (size_t i = 0; i + kKeptStarts <= starts.size(); ++i) {
    std::error_code ignored;  // an old folder that stays does no harm
    fs::remove_all(starts[i], ignored);
  }
  std::string directory = JoinPath(run_dir, fmt::format("flight/start-{:05}", number));
  MakeDirectories(directory);
  WriteFileAtomically(JoinPath(directory, kHosts), nlohmann::json(hosts).dump() + "\n");
  return directory;
}

void DeclareStall(const std::string& directory) { MakeOnce(JoinPath(directory, kStall), ""); }

bool StallDeclared(const std::string& directory) {
  return Appeared(directory, JoinPath(directory, kStall));
}

void CallRoll(const std::string& directory, int number) {
  MakeOnce(RollCallPath(directory, number), "");
}

bool RollCalled(const std::string& directory, int number) {
  return Appeared(directory, RollCallPath(directory, number));
}

void AnswerRoll(const std::string& directory, int number, int rank) {
  MakeOnce(AnswerPath(directory, number, rank), "");
  std::error_code ignored;  // one that stays does no harm
  fs::remove(AnswerPath(directory, number - 2, rank), ignored);
}

bool RollAnswered(const std::string& directory, int number, int rank) {
  return Appeared(directory, AnswerPath(directory, number, rank));
}

void WriteFlightRecord(const std::string& directory, const FlightRecord& record) {
  WriteFileAtomically(RecordPath(directory, record.rank), record.ToJson());
}

StallEvidence ReadEvidence(const std::string& directory) {
  StallEvidence evidence;
  const std::string hosts = JoinPath(directory, kHosts);
  try {
    evidence.hosts =
        nlohmann::json::parse(ReadWholeFile(hosts, kMaxFileBytes)).get<std::vector<std::string>>();
  } catch (const nlohmann::json::exception& error) {
    Throw(ErrorKind::kIo, hosts, "is no list of hosts: {}", error.what());
  }
  evidence.records.resize(evidence.hosts.size());
  for (size_t rank = 0; rank < evidence.records.size(); ++rank) {
    const std::string path = RecordPath(directory, rank);
    if (!fs::exists(path)) continue;
    FlightRecord record = FlightRecord::FromJson(ReadWholeFile(path, kMaxFileBytes), path);
    if (record.rank != static_cast<int>(rank)) {
      Throw(ErrorKind::kIo, path, "is the record of rank {}", record.rank);
    }
    evidence.records[rank] = std::move(record);
  }
  return evidence;
}

bool WriteVerdict(const std::string& directory, const StallVerdict& verdict) {
  return MakeOnce(JoinPath(directory, kVerdict), verdict.text + "\n");
}

bool VerdictGiven(const std::string& directory) {
  std::error_code ignored;
  return fs::exists(JoinPath(directory, kVerdict), ignored);
}

bool AnnounceFailure(const std::string& directory) noexcept {
  try {
    return MakeOnce(JoinPath(directory, kFailed), "");
  } catch (const std::exception&) {
    return true;  // twice reported is better than never
  }
}

std::optional<std::string> NewestStall(const std::string& run_dir) {
  std::vector<std::string> starts = Starts(run_dir);
  while (!starts.empty()) {
    if (StallDeclared(starts.back())) return starts.back();
    starts.pop_back();
  }
  return std::nullopt;
}

}  // namespace cairn
