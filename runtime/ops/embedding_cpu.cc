#include "runtime/ops/embedding_cpu.h"

#include <glog/logging.h>

#include <cstring>

#include "runtime/base/cpu_kernel.h"
#include "runtime/ops/embedding_kernel.h"
#include "runtime/ops/reduce_rows_cpu.h"

namespace cairn::cpu {
namespace {

template <typename T>
CAIRN_CPU_KERNEL void AddPosition(T* y, const T* x, const T* position, int64_t n) {
  AddPositionRow(CpuTeam(), n, y, x, position);
}

// Row t of dy is added to row row_of(t) of the table, or dropped where that is negative. Threads
// take columns: tokens that share a row are added in one order.
template <typename RowOf>
void ScatterAdd(MainGrad& table, const Tensor& dy, RowOf&& row_of) {
  const GradTarget target(table);
  const int64_t n = dy.dim(-1);
  const int64_t tokens = dy.numel() / n;
  CHECK_EQ(target.numel % n, 0);
  DispatchFloating("embedding", dy.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T* const rows = dy.data<T>();
    const int64_t grain = std::max<int64_t>(64, RowGrain(tokens));
    ParallelFor(n, grain, [&](int64_t begin, int64_t end) {
      for (int64_t t = 0; t < tokens; ++t) {
        const int64_t row = row_of(t);
        if (row >= 0) Deposit(target, row * n + begin, rows + t * n + begin, end - begin);
      }
    });
  });
}

}  // namespace

void EmbeddingForward(const Tensor& y, const Tensor& tokens, const Tensor& table,
                      int64_t first_row) {
  const int64_t rows = table.dim(0);
  const size_t row_bytes = static_cast<size_t>(table.dim(1)) * DTypeSize(table.dtype());
  const auto* ids = tokens.data<int32_t>();
  const auto* in = static_cast<const std::byte*>(table.raw());
  auto* out = static_cast<std::byte*>(y.raw());
  ParallelFor(tokens.numel(), RowGrain(table.dim(1)), [=](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const int64_t row = TableRow(ids[t], first_row, rows);
      if (row >= 0) {
        std::memcpy(out + t * row_bytes, in + row * row_bytes, row_bytes);
      } else {
        std::memset(out + t * row_bytes, 0, row_bytes);
      }
    }
  });
}

void EmbeddingBackward(MainGrad& table, const Tensor& dy, const Tensor& tokens, int64_t first_row) {
  const Tensor& sum = table.exact() ? table.hi() : table.sum();
  const int64_t rows = sum.dim(0);
  ScatterAdd(table, dy, [ids = tokens.data<int32_t>(), first_row, rows](int64_t t) {
    return TableRow(ids[t], first_row, rows);
  });
}

void PositionEmbeddingForward(const Tensor& y, const Tensor& x, const Tensor& table,
                              int64_t seq_length, int64_t first_token) {
  DispatchFloating("position_embedding", x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const int64_t n = x.dim(-1);
    T* const out = y.data<T>();
    const T* const in = x.data<T>();
    const T* const positions = table.data<T>();
    ParallelFor(x.numel() / n, RowGrain(n), [=](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) {
        const int64_t row = (first_token + t) % seq_length;
        AddPosition(out + t * n, in + t * n, positions + row * n, n);
      }
    });
  });
}

void PositionEmbeddingBackward(MainGrad& table, const Tensor& dy, int64_t seq_length,
                               int64_t first_token) {
  ScatterAdd(table, dy, [=](int64_t t) { return (first_token + t) % seq_length; });
}

}  // namespace cairn::cpu
