#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "runtime/telemetry/metrics.h"
#include "runtime/telemetry/output_file.h"

namespace cairn {

/// Writes a TensorBoard event file into a directory. Each start of a run makes a file of its own,
/// whose name sorts after those already there; each write reaches the kernel before it returns. One
/// process (rank 0) writes. Errors: kIo.
class TensorBoardWriter {
 public:
  struct Scalar {
    std::string_view tag;
    double value;
  };

  /// `directory` is made if missing. `first_iteration` is the first that this process will run:
  /// what an earlier process wrote of it and of later ones is hidden by readers, as metrics.jsonl
  /// drops it.
  TensorBoardWriter(const std::string& directory, int64_t first_iteration);

  const std::string& path() const { return file_.path(); }

  /// Tags `lm loss`, `learning-rate`, `grad-norm`, `iteration-time` (s), `throughput` (tokens/s).
  void Write(const StepMetrics& metrics);
  /// Tag `lm loss validation`.
  void Write(const EvalMetrics& metrics);
  void WriteScalars(int64_t step, std::span<const Scalar> scalars);

 private:
  OutputFile file_;
};

/// CRC-32C of `data`, masked as the record format asks: rotated right by 15, plus 0xa282ead8.
uint32_t MaskedCrc32c(std::string_view data);

/// `data` framed as one record: u64 length, its masked CRC, the data, its masked CRC;
/// little-endian.
std::string EncodeRecord(std::string_view data);

}  // namespace cairn
