#pragma once

#include <cstdint>

#include "runtime/ops/team.h"
#include "runtime/tensor/dtype.h"

namespace cairn {

/// The row of a table that starts at logical row `first` and has `rows` rows; -1 for a token of
/// another table.
CAIRN_HOST_DEVICE inline int64_t TableRow(int32_t token, int64_t first, int64_t rows) {
  const int64_t row = int64_t{token} - first;
  return row >= 0 && row < rows ? row : -1;
}

/// y = x + position over one row of n elements.
template <typename Team, typename T>
[[gnu::always_inline]] CAIRN_HOST_DEVICE inline void AddPositionRow(const Team& team, int64_t n,
                                                                    T* y, const T* x,
                                                                    const T* position) {
  team.zip(
      n,
      [](int64_t, T& y, const T& x, const T& position)
          CAIRN_INLINE { y = T(static_cast<float>(x) + static_cast<float>(position)); },
      y, x, position);
}

}  // namespace cairn
