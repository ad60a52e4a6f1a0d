#include "runtime/telemetry/metrics_log.h"

#include <fcntl.h>
#include <glog/logging.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>

#include "runtime/base/error.h"

namespace cairn {
namespace {

// Our lines have about 300 bytes; a longer one is not ours and is never read whole.
constexpr size_t kMaxLineBytes = 16384;

/// The iteration that a line belongs to; nothing if it is not a line of metrics.
std::optional<int64_t> IterationOf(std::string_view line) {
  if (line.find('\0') != std::string_view::npos) return std::nullopt;  // ends the parser's input
  const auto json = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return std::nullopt;
  const auto iteration = json.find("iteration");
  if (iteration == json.end() || !iteration->is_number_integer()) return std::nullopt;
  return iteration->get<int64_t>();
}

void SyncDirectoryOf(const std::string& path) {
  const std::filesystem::path parent = std::filesystem::path(path).parent_path();
  const std::string directory = parent.empty() ? "." : parent.string();
  const int descriptor = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) ThrowErrno(errno, "open", directory);
  const int failure = ::fsync(descriptor) != 0 ? errno : 0;
  ::close(descriptor);
  if (failure != 0) ThrowErrno(failure, "fsync", directory);
}

struct Pruned {
  int64_t later = 0;     ///< lines of iterations that will be run again
  int64_t damaged = 0;   ///< lines that are no metrics
  bool unended = false;  ///< the last line had no newline

  bool any() const { return later > 0 || damaged > 0 || unended; }
};

/// Copies to `to` the lines of `from` that belong to iterations up to `iteration`.
Pruned CopyLines(const std::string& from, OutputFile& to, int64_t iteration) {
  std::ifstream in(from, std::ios::binary);
  if (!in) Throw(ErrorKind::kIo, from, "cannot be opened for reading");
  Pruned pruned;
  std::string buffer(kMaxLineBytes, '\0');
  std::string kept;
  const auto read_piece = [&] {
    in.getline(buffer.data(), static_cast<std::streamsize>(buffer.size()));
    return in.gcount() > 0;
  };
  while (read_piece()) {
    const bool too_long = in.fail() && !in.eof() && !in.bad();
    const auto length = static_cast<size_t>(in.gcount()) - (in.good() ? 1 : 0);  // no newline
    const std::string_view line(buffer.data(), length);
    const std::optional<int64_t> found = too_long ? std::nullopt : IterationOf(line);
    if (!found.has_value()) {
      ++pruned.damaged;
    } else if (*found > iteration) {
      ++pruned.later;
    } else {
      kept.append(line).push_back('\n');
    }
    while (in.fail() && !in.eof() && !in.bad()) {  // skip the rest of a line that is too long
      in.clear();
      read_piece();
    }
    pruned.unended = in.eof();
    if (kept.size() >= size_t{1} << 20) {
      to.Append(kept);
      kept.clear();
    }
  }
  if (in.bad()) Throw(ErrorKind::kIo, from, "cannot be read");
  to.Append(kept);
  return pruned;
}

}  // namespace

MetricsLog::MetricsLog(const std::string& path) : file_(path, OutputFile::Mode::kAppend) {}

MetricsLog MetricsLog::OpenForResume(const std::string& path, int64_t iteration) {
  std::error_code failure;
  const auto status = std::filesystem::status(path, failure);
  if (!std::filesystem::exists(status)) return MetricsLog(path);
  if (!std::filesystem::is_regular_file(status)) {
    Throw(ErrorKind::kIo, path, "is not a regular file");
  }
  const std::string rewritten = path + ".part";
  Pruned pruned;
  {
    OutputFile out(rewritten, OutputFile::Mode::kReplace);
    pruned = CopyLines(path, out, iteration);
    if (pruned.any()) out.Sync();
  }
  if (!pruned.any()) {
    if (::unlink(rewritten.c_str()) != 0) ThrowErrno(errno, "unlink", rewritten);
    return MetricsLog(path);
  }
  if (std::rename(rewritten.c_str(), path.c_str()) != 0) ThrowErrno(errno, "rename", path);
  SyncDirectoryOf(path);
  if (pruned.later > 0) {
    LOG(INFO) << path << ": lines dropped after iteration " << iteration << ": " << pruned.later;
  }
  if (pruned.damaged > 0) {
    LOG(WARNING) << path << ": torn or damaged lines dropped: " << pruned.damaged;
  }
  return MetricsLog(path);
}

void MetricsLog::Write(const StepMetrics& metrics) { file_.Append(MetricsJson(metrics) + '\n'); }

void MetricsLog::Write(const EvalMetrics& metrics) { file_.Append(MetricsJson(metrics) + '\n'); }

// nlohmann writes a number that is not finite as null, and the shortest digits that read back as
// the same double.

std::string MetricsJson(const StepMetrics& metrics) {
  nlohmann::ordered_json json = {
      {"iteration", metrics.iteration},
      {"consumed_samples", metrics.consumed_samples},
      {"lm_loss", metrics.lm_loss},
      {"grad_norm", metrics.grad_norm},
      {"learning_rate", metrics.learning_rate},
      {"loss_scale", metrics.loss_scale},
      {"skipped", metrics.skipped},
      {"iteration_time_ms", metrics.iteration_time_ms},
      {"tokens_per_second", metrics.tokens_per_second},
  };
  if (metrics.mfu.has_value()) json["mfu"] = *metrics.mfu;
  json["peak_memory_bytes"] = metrics.peak_memory_bytes;
  return json.dump();
}

std::string MetricsJson(const EvalMetrics& metrics) {
  const nlohmann::ordered_json json = {{"iteration", metrics.iteration},
                                       {"lm_loss_validation", metrics.lm_loss_validation}};
  return json.dump();
}

}  // namespace cairn
