#include "runtime/telemetry/trace.h"

#include <glog/logging.h>

#include <nlohmann/json.hpp>

#include "runtime/base/error.h"

namespace cairn {
namespace {

constexpr std::string_view kOpening = "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[";
constexpr std::string_view kClosing = "\n]}\n";
constexpr size_t kBufferBytes = size_t{256} << 10;

/// A JSON string literal; bytes that are not UTF-8 are replaced.
std::string Quoted(std::string_view text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace

TraceWriter::TraceWriter(const std::string& path, int rank, Clock::time_point origin)
    : rank_(rank), origin_(origin), file_(path, OutputFile::Mode::kReplace), buffer_(kOpening) {
  Add(fmt::format(R"({{"ph":"M","name":"process_name","pid":{0},"args":{{"name":"rank {0}"}}}})",
                  rank));
  Add(fmt::format(
      R"({{"ph":"M","name":"process_sort_index","pid":{0},"args":{{"sort_index":{0}}}}})", rank));
  Flush();
}

TraceWriter::~TraceWriter() {
  if (failed_) return;  // has been told
  try {
    Flush();
  } catch (const Error& error) {
    LOG(ERROR) << error.what();
  }
}

void TraceWriter::NameStream(int tid, std::string_view name) {
  Add(fmt::format(R"({{"ph":"M","name":"thread_name","pid":{},"tid":{},"args":{{"name":{}}}}})",
                  rank_, tid, Quoted(name)));
}

void TraceWriter::Complete(int tid, std::string_view name, Clock::time_point begin,
                           Clock::time_point end) {
  Add(fmt::format(R"({{"ph":"X","name":{},"pid":{},"tid":{},"ts":{:.3f},"dur":{:.3f}}})",
                  Quoted(name), rank_, tid, Microseconds(begin),
                  std::chrono::duration<double, std::micro>(end - begin).count()));
}

void TraceWriter::Counter(std::string_view name, Clock::time_point time,
                          std::span<const std::pair<std::string_view, double>> values) {
  std::string args;
  for (const auto& [key, value] : values) {
    if (!args.empty()) args += ',';
    args += Quoted(key) + ':' + nlohmann::json(value).dump();
  }
  Add(fmt::format(R"({{"ph":"C","name":{},"pid":{},"ts":{:.3f},"args":{{{}}}}})", Quoted(name),
                  rank_, Microseconds(time), args));
}

void TraceWriter::Flush() {
  const std::lock_guard lock(mutex_);
  FlushLocked();
}

void TraceWriter::Add(std::string_view event) {
  const std::lock_guard lock(mutex_);
  if (failed_) return;
  buffer_ += first_ ? "\n" : ",\n";
  buffer_ += event;
  first_ = false;
  if (buffer_.size() < kBufferBytes) return;
  try {
    FlushLocked();
  } catch (const Error& error) {  // spans end in destructors; Flush() reports it
    LOG(ERROR) << error.what();
  }
}

void TraceWriter::FlushLocked() {
  if (failed_) Throw(ErrorKind::kIo, file_.path(), "an earlier write of the trace failed");
  if (buffer_.empty()) return;
  failed_ = true;
  // One write covers the old closing brackets with new events and closes again.
  file_.WriteAt(end_, buffer_ + std::string(kClosing));
  failed_ = false;
  end_ += static_cast<int64_t>(buffer_.size());
  buffer_.clear();
}

double TraceWriter::Microseconds(Clock::time_point time) const {
  return std::chrono::duration<double, std::micro>(time - origin_).count();
}

Span::Span(TraceWriter* writer, int tid, std::string_view name) : writer_(writer), tid_(tid) {
  if (writer_ == nullptr) return;
  name_ = name;
  begin_ = TraceWriter::Clock::now();
}

Span::~Span() {
  if (writer_ != nullptr) writer_->Complete(tid_, name_, begin_, TraceWriter::Clock::now());
}

}  // namespace cairn
