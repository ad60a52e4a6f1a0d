#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "runtime/checkpoint/checkpoint_reader.h"

namespace cairn {

/// A scalar without which training would not go on alike.
struct StateField {
  const char* name;
  std::variant<int64_t, uint64_t, double> value;

  bool operator==(const StateField&) const = default;
};

/// Progress and training state of a checkpoint, always the same names in the same order.
std::vector<StateField> StateFields(const Manifest& manifest);

/// How much of a checkpoint an identity covers.
enum class ContentScope {
  kAll,      ///< all tensors, progress and training state
  kWeights,  ///< the model: tensors of kind "weight" alone
};

/// What a checkpoint holds, however it is laid out over ranks and files, as text:
///
///     cairn content 1
///     iteration 200
///     ... (one line for each of StateFields; a double is the 16 hexadecimal digits of its bits)
///     tensor NAME KIND DTYPE [4096,256] SHA256
///     ... (one line for each tensor, sorted by the bytes of NAME, then of KIND)
///
/// SHA256 is that of the tensor's elements, row-major and little-endian. With kWeights the first
/// line is "cairn weights 1" and the state is left out. Every line ends in a newline. Reads every
/// byte once or little more, in bounded memory; damage is an Error of kind kCheckpoint.
std::string ContentText(CheckpointReader& reader, ContentScope scope);

/// The SHA-256 of ContentText: equal for equal content, whatever layout saved it.
std::string ContentId(CheckpointReader& reader, ContentScope scope);

}  // namespace cairn
