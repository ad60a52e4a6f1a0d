#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "runtime/checkpoint/checkpoint_reader.h"
#include "runtime/checkpoint/content_id.h"
#include "runtime/checkpoint/element.h"

namespace cairn {

/// Which differences between two elements a and b are let pass. Bitwise: none. Else those with
/// |a-b| <= absolute + relative·max(|a|,|b|), or of numbers at most `ulp` steps of their dtype
/// apart; two NaNs pass whatever their bits, and a NaN or an infinity on one side only never does.
struct Tolerance {
  bool bitwise = true;
  double absolute = 0;
  double relative = 0;
  uint64_t ulp = 0;
};

/// Two tensors of one name, kind, dtype and shape that are not bitwise equal. Distances are the
/// largest over all elements whose bits differ, infinite where a NaN or an infinity stands on one
/// side only, and 0 for dtypes that are no plain numbers.
struct TensorDiff {
  const TensorEntry* tensor = nullptr;  ///< of the first checkpoint
  uint64_t differing = 0;               ///< elements whose bits differ
  uint64_t beyond = 0;                  ///< those of them beyond the tolerance
  double max_absolute = 0;
  double max_relative = 0;  ///< of the larger magnitude of the two
  double max_ulp = 0;
  /// The first element beyond the tolerance, if there is one, and its two values (where numbers).
  std::vector<int64_t> first;
  ElementValue first_a;
  ElementValue first_b;
};

/// One scalar that is not the same in both.
struct StateDiff {
  StateField a;
  StateField b;
};

/// How two checkpoints differ. The pointers are into the readers' manifests.
struct CheckpointDiff {
  std::vector<StateDiff> state;
  std::vector<const TensorEntry*> only_in_a;
  std::vector<const TensorEntry*> only_in_b;
  /// Tensors whose dtype or shape differ, first that of the first checkpoint.
  std::vector<std::pair<const TensorEntry*, const TensorEntry*>> unlike;
  std::vector<TensorDiff> tensors;
  uint64_t compared = 0;  ///< tensors whose elements were compared

  /// Whether anything is beyond the tolerance.
  bool Differs() const;
};

/// Compares two checkpoints of any layouts, element by element in row-major order and in bounded
/// memory: the tensors that `matches`, and the training state if `with_state`. Damage is an Error
/// of kind kCheckpoint.
CheckpointDiff CompareCheckpoints(CheckpointReader& a, CheckpointReader& b,
                                  const Tolerance& tolerance, bool with_state,
                                  const std::function<bool(const TensorEntry&)>& matches);

}  // namespace cairn
