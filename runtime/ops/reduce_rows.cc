#include "runtime/ops/reduce_rows.h"

#include <glog/logging.h>

#include "runtime/ops/kernels_cuda.h"
#include "runtime/ops/reduce_rows_cpu.h"
#include "runtime/tensor/dispatch.h"

namespace cairn {

void AddRowsToVector(MainGrad& grad, const Tensor& rows) {
  CHECK(rows.contiguous());
  Dispatch(
      "AddRowsToVector", rows,
      [&] {
        DispatchFloating("AddRowsToVector", rows.dtype(), [&](auto zero) {
          using T = decltype(zero);
          const int64_t n = rows.dim(-1);
          const T* data = rows.data<T>();
          const cpu::GradTarget target(grad);
          CHECK_EQ(target.numel, n);
          cpu::AddRowContributions(target, rows.numel() / n, n,
                                   [&](int64_t row, int64_t column, int64_t, float*) {
                                     return data + row * n + column;
                                   });
        });
      },
      [&] { cuda::AddRowsToVector(grad, rows); });
}

}  // namespace cairn
