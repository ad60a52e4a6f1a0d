#include "runtime/ops/matmul.h"

#include <glog/logging.h>

#include "runtime/ops/kernels_cuda.h"
#include "runtime/ops/matmul_cpu.h"
#include "runtime/tensor/dispatch.h"

namespace cairn {
namespace {

void CheckRows(const char* name, const Tensor& matrix) {
  CHECK_EQ(matrix.rank(), 2) << name;
  CHECK(matrix.stride(1) == 1 || matrix.dim(1) <= 1) << name << ": a row's elements are apart";
  CHECK(matrix.stride(0) >= matrix.dim(1) || matrix.dim(0) <= 1) << name << ": rows overlap";
}

}  // namespace

void CheckProduct(const Tensor& c, const Tensor& a, const Tensor& b, const MatmulOptions& options,
                  const Tensor* bias) {
  CheckRows("c", c);
  CheckRows("a", a);
  CheckRows("b", b);
  CHECK_EQ(a.dim(options.transpose_a ? 1 : 0), c.dim(0));
  CHECK_EQ(b.dim(options.transpose_b ? 0 : 1), c.dim(1));
  CHECK_EQ(a.dim(options.transpose_a ? 0 : 1), b.dim(options.transpose_b ? 1 : 0));
  CHECK(a.dtype() == b.dtype()) << DTypeName(a.dtype()) << " times " << DTypeName(b.dtype());
  CHECK(c.dtype() == a.dtype() || c.dtype() == DType::kFloat32) << DTypeName(c.dtype());
  CHECK_GE(options.row_block, 0);
  if (bias != nullptr) {
    CHECK(bias->contiguous() && bias->numel() == c.dim(1)) << bias->shape().ToString();
    CHECK(bias->dtype() == a.dtype()) << DTypeName(bias->dtype());
  }
}

void Matmul(const Tensor& c, const Tensor& a, const Tensor& b, const MatmulOptions& options,
            const Tensor* bias) {
  CheckProduct(c, a, b, options, bias);
  Dispatch(
      "Matmul", c, [&] { cpu::Matmul(c, a, b, options, bias); },
      [&] { cuda::Matmul(c, a, b, options, bias); });
}

}  // namespace cairn
