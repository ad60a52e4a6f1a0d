#pragma once

#include <array>

#include "parallel/communicator.h"

namespace cairn::testing {

inline constexpr std::array<DType, 7> kAllDTypes = {
    DType::kFloat32, DType::kBFloat16, DType::kFloat16, DType::kFloat64,
    DType::kInt32,   DType::kInt64,    DType::kUInt8};

/// Calls every verb of `group`, in place where that is allowed too, on `n` elements a rank, and
/// expects the very bits of a serial reference: what holds for two backends makes them equal.
/// Collective; `stream` runs the verbs.
void CheckEveryVerb(Communicator& group, Stream& stream, DType dtype, int64_t n);

}  // namespace cairn::testing
