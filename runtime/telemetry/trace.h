#pragma once

#include <chrono>
#include <cstdint>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "runtime/telemetry/output_file.h"

namespace cairn {

/// Writes RUN_DIR/trace/rank-N.json, to be opened in Perfetto or chrome://tracing: the rank is a
/// process there, each of its streams a thread. The file is whole JSON after every flush, so that a
/// process that dies leaves a readable trace. Safe to call from several threads.
class TraceWriter {
 public:
  using Clock = std::chrono::steady_clock;

  /// `origin` is the moment shown as 0: taken right after a barrier, it lines the ranks up.
  /// Throws Error(kIo).
  TraceWriter(const std::string& path, int rank, Clock::time_point origin = Clock::now());
  TraceWriter(const TraceWriter&) = delete;
  TraceWriter& operator=(const TraceWriter&) = delete;
  /// Flushes; a failure is logged.
  ~TraceWriter();

  /// Names stream `tid` of this rank.
  void NameStream(int tid, std::string_view name);
  /// A span of time on a stream.
  void Complete(int tid, std::string_view name, Clock::time_point begin, Clock::time_point end);
  /// The values of a counter track from `time` on, stacked.
  void Counter(std::string_view name, Clock::time_point time,
               std::span<const std::pair<std::string_view, double>> values);
  /// Writes out what is buffered. Throws Error(kIo) if that, or a flush that the writer did by
  /// itself before, failed; nothing more is recorded then.
  void Flush();

 private:
  void Add(std::string_view event);
  void FlushLocked();
  double Microseconds(Clock::time_point time) const;

  const int rank_;
  const Clock::time_point origin_;
  std::mutex mutex_;
  OutputFile file_;
  std::string buffer_;   ///< events that are not in the file yet
  int64_t end_ = 0;      ///< where the next event goes; the closing brackets stand there
  bool first_ = true;    ///< no event so far
  bool failed_ = false;  ///< a write failed; events are no longer kept
};

/// Records its life time as a span; does nothing if `writer` is null.
class Span {
 public:
  Span(TraceWriter* writer, int tid, std::string_view name);
  Span(const Span&) = delete;
  Span& operator=(const Span&) = delete;
  ~Span();

 private:
  TraceWriter* writer_;
  int tid_;
  std::string name_;
  TraceWriter::Clock::time_point begin_;
};

}  // namespace cairn
