#include "runtime/ops/kernels_cuda.h"
#include "runtime/ops/reduce_rows_cuda.h"

namespace cairn::cuda {

void AddRowsToVector(MainGrad& grad, const Tensor& rows) {
  DispatchFloating("AddRowsToVector", rows.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const int64_t n = rows.dim(-1);
    AddColumnSums(grad, rows.device(), rows.numel() / n, n, kPackWidth<T>, AddRowsKernel<true, T>,
                  AddRowsKernel<false, T>, rows.data<T>());
  });
}

}  // namespace cairn::cuda
