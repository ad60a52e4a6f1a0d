#pragma once

#include <string>

#include "runtime/checkpoint/verify.h"

// What the subcommands of `cairn ckpt` do; each prints to standard output, as text or JSON.

namespace cairn {

/// The step folders of a run, oldest first.
void CkptLs(const std::string& run, bool as_json);

/// A checkpoint's progress, training state, sizes by kind, layout and config.
void CkptInfo(const std::string& checkpoint, bool as_json);

/// The logical tensors whose name matches `glob` (all if empty).
void CkptTensors(const std::string& checkpoint, const std::string& glob, bool as_json);

/// Values of a tensor; `tensor` is its name, or name and slice: "layers.0.mlp.fc1.weight[0:3,:8]".
/// Without a slice, its first corner.
void CkptShow(const std::string& checkpoint, const std::string& tensor, const std::string& kind,
              bool as_json);

/// Whether `checkpoint` is sound; prints what is not. For a run, its newest finished checkpoint is
/// judged, good or not.
bool CkptVerify(const std::string& checkpoint, VerifyLevel level, bool as_json);

}  // namespace cairn
