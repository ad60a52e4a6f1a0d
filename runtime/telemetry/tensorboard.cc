#include "runtime/telemetry/tensorboard.h"

#include <isa-l/crc.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <chrono>
#include <climits>
#include <filesystem>

#include "runtime/base/error.h"
#include "runtime/base/host.h"
#include "runtime/telemetry/event.pb.h"

namespace cairn {
namespace {

constexpr std::string_view kFilePrefix = "events.out.tfevents.";

double WallSeconds() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

/// PREFIX SECONDS.HOST.PID. Readers order files by name, so the seconds are later than any there,
/// even if the clock was set back.
std::string NewFilePath(const std::string& directory) {
  std::error_code failure;
  std::filesystem::create_directories(directory, failure);
  if (failure) ThrowErrno(failure.value(), "mkdir", directory);
  auto seconds = static_cast<int64_t>(WallSeconds());
  std::filesystem::directory_iterator entries(directory, failure);
  for (; !failure && entries != std::filesystem::directory_iterator(); entries.increment(failure)) {
    const std::string name = entries->path().filename().string();
    if (!name.starts_with(kFilePrefix)) continue;
    int64_t other = 0;
    const char* digits = name.data() + kFilePrefix.size();
    const auto parsed = std::from_chars(digits, name.data() + name.size(), other);
    constexpr int64_t kMaxSeconds = 9'999'999'998;  // ten digits sort as text as they do as numbers
    if (parsed.ec == std::errc() && other <= kMaxSeconds) seconds = std::max(seconds, other + 1);
  }
  if (failure) ThrowErrno(failure.value(), "readdir", directory);
  return fmt::format("{}/{}{:010}.{}.{}", directory, kFilePrefix, seconds, HostName(), ::getpid());
}

std::string LittleEndian(uint64_t value, size_t bytes) {
  std::string text;
  for (size_t i = 0; i < bytes; ++i) text.push_back(static_cast<char>(value >> (8 * i) & 0xff));
  return text;
}

std::string Record(const tensorboard::Event& event) {
  return EncodeRecord(event.SerializeAsString());
}

tensorboard::Event NewEvent(int64_t step) {
  tensorboard::Event event;
  event.set_wall_time(WallSeconds());
  event.set_step(step);
  return event;
}

}  // namespace

uint32_t MaskedCrc32c(std::string_view data) {
  // ISA-L takes the length as an int; the checksum of a whole is that of its pieces in a row.
  uint32_t crc = ~uint32_t{0};
  while (!data.empty()) {
    std::string piece(data.substr(0, size_t{1} << 20));  // ISA-L's pointer is not const
    crc = crc32_iscsi(reinterpret_cast<unsigned char*>(piece.data()),
                      static_cast<int>(piece.size()), crc);
    data.remove_prefix(piece.size());
  }
  return std::rotr(~crc, 15) + 0xa282ead8U;
}

std::string EncodeRecord(std::string_view data) {
  const std::string length = LittleEndian(data.size(), 8);
  std::string record = length + LittleEndian(MaskedCrc32c(length), 4);
  record.append(data);
  return record + LittleEndian(MaskedCrc32c(data), 4);
}

TensorBoardWriter::TensorBoardWriter(const std::string& directory, int64_t first_iteration)
    : file_(NewFilePath(directory), OutputFile::Mode::kNew) {
  tensorboard::Event version = NewEvent(0);
  version.set_file_version("brain.Event:2");
  tensorboard::Event start = NewEvent(first_iteration);
  start.mutable_session_log()->set_status(tensorboard::SessionLog::START);
  file_.Append(Record(version) + Record(start));
}

void TensorBoardWriter::Write(const StepMetrics& metrics) {
  const std::array<Scalar, 6> scalars = {{{"lm loss", metrics.lm_loss},
                                          {"learning-rate", metrics.learning_rate},
                                          {"loss-scale", metrics.loss_scale},
                                          {"grad-norm", metrics.grad_norm},
                                          {"iteration-time", metrics.iteration_time_ms / 1000},
                                          {"throughput", metrics.tokens_per_second}}};
  WriteScalars(metrics.iteration, scalars);
}

void TensorBoardWriter::Write(const EvalMetrics& metrics) {
  const std::array<Scalar, 1> scalars = {{{"lm loss validation", metrics.lm_loss_validation}}};
  WriteScalars(metrics.iteration, scalars);
}

void TensorBoardWriter::WriteScalars(int64_t step, std::span<const Scalar> scalars) {
  tensorboard::Event event = NewEvent(step);
  for (const Scalar& scalar : scalars) {
    tensorboard::Summary::Value* value = event.mutable_summary()->add_value();
    value->set_tag(std::string(scalar.tag));
    value->set_simple_value(static_cast<float>(scalar.value));
  }
  file_.Append(Record(event));
}

}  // namespace cairn
