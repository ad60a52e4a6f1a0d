#include "runtime/ops/matmul_cpu.h"

#include <glog/logging.h>

#include <algorithm>
#include <oneapi/dnnl/dnnl.hpp>
#include <unordered_map>

#include "runtime/base/cpu_kernel.h"
#include "runtime/base/error.h"
#include "runtime/ops/amx.h"
#include "runtime/ops/cpu_isa.h"
#include "runtime/ops/parallel_tasks.h"
#include "runtime/tensor/elementwise.h"

namespace cairn::cpu {
namespace {

// Tiles of a product that is cut for threads. Measured with oneDNN on 512..3072 columns: panels of
// 192 cost at most 3% against the whole product.
constexpr int64_t kPanelColumns = 192;
constexpr int64_t kPanelMultiple = 16;  // an AVX-512 register of fp32
constexpr int64_t kConvertedRows = 256;

// Panels of about kPanelColumns, as equal as can be.
int64_t PanelWidth(int64_t n) {
  const int64_t panels = (n + kPanelColumns - 1) / kPanelColumns;
  const int64_t width = (n + panels - 1) / panels;
  return (width + kPanelMultiple - 1) / kPanelMultiple * kPanelMultiple;
}

// The distance of rows as oneDNN accepts it, also where there is one row or no column.
int64_t RowStride(const Tensor& matrix) {
  return std::max<int64_t>(1, matrix.dim(0) > 1 ? matrix.stride(0) : matrix.dim(1));
}

Tensor ToFloat32(const Tensor& source) {
  Tensor converted = Tensor::Empty(source.shape(), DType::kFloat32, source.device());
  CopyTo(converted, source);
  return converted;
}

CAIRN_CPU_KERNEL void SetRows(float* c, int64_t stride, int64_t rows, int64_t columns,
                              const float* bias) {
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < columns; ++j) c[i * stride + j] = bias[j];
  }
}

CAIRN_CPU_KERNEL void AddToRows(float* c, int64_t stride, int64_t rows, int64_t columns,
                                const float* bias) {
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < columns; ++j) c[i * stride + j] += bias[j];
  }
}

dnnl::memory::desc Describe(const Tensor& matrix, bool transposed) {
  const int64_t rows = matrix.dim(0);
  const int64_t columns = matrix.dim(1);
  const auto dtype = matrix.dtype() == DType::kFloat32 ? dnnl::memory::data_type::f32
                                                       : dnnl::memory::data_type::bf16;
  return transposed
             ? dnnl::memory::desc({columns, rows}, dtype, dnnl::memory::dims{1, RowStride(matrix)})
             : dnnl::memory::desc({rows, columns}, dtype, dnnl::memory::dims{RowStride(matrix), 1});
}

// bf16 by oneDNN's own bf16 kernels. Finding the compiled kernel again in oneDNN's cache takes some
// microseconds.
void ProductBFloat16(const Tensor& c, const Tensor& a, const Tensor& b,
                     const MatmulOptions& options, const Tensor* bias) {
  try {
    const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
    dnnl::stream stream(engine);
    dnnl::primitive_attr attributes;
    if (options.accumulate) {
      dnnl::post_ops sum;
      sum.append_sum(1.0f);
      attributes.set_post_ops(sum);
    }
    const dnnl::memory::desc a_desc = Describe(a, options.transpose_a);
    const dnnl::memory::desc b_desc = Describe(b, options.transpose_b);
    const dnnl::memory::desc c_desc = Describe(c, false);
    const dnnl::memory::desc bias_desc =
        bias != nullptr ? Describe(bias->View({1, bias->numel()}), false) : dnnl::memory::desc();
    const dnnl::matmul::desc product = bias != nullptr
                                           ? dnnl::matmul::desc(a_desc, b_desc, bias_desc, c_desc)
                                           : dnnl::matmul::desc(a_desc, b_desc, c_desc);
    std::unordered_map<int, dnnl::memory> arguments = {
        {DNNL_ARG_SRC, {a_desc, engine, a.raw()}},
        {DNNL_ARG_WEIGHTS, {b_desc, engine, b.raw()}},
        {DNNL_ARG_DST, {c_desc, engine, c.raw()}},
    };
    if (bias != nullptr) arguments[DNNL_ARG_BIAS] = {bias_desc, engine, bias->raw()};
    dnnl::matmul({product, attributes, engine}).execute(stream, arguments);
    stream.wait();
  } catch (const dnnl::error& error) {
    const bool no_memory = error.status == dnnl_out_of_memory;
    Throw(no_memory ? ErrorKind::kOutOfMemory : ErrorKind::kDevice, "Matmul",
          "oneDNN refused a bf16 product {} x {}: {}", a.shape().ToString(), b.shape().ToString(),
          error.what());
  }
}

// c, a, b fp32; bias fp32.
void ProductFloat32(const Tensor& c, const Tensor& a, const Tensor& b, const MatmulOptions& options,
                    const Tensor* bias) {
  const int64_t m = c.dim(0);
  const int64_t n = c.dim(1);
  const int64_t stride = RowStride(c);
  auto* out = c.data<float>();
  if (bias != nullptr) {
    const float* row = bias->data<float>();
    ParallelFor(m, std::max<int64_t>(1, (1 << 15) / n), [&](int64_t begin, int64_t end) {
      if (options.accumulate) {
        AddToRows(out + begin * stride, stride, end - begin, n, row);
      } else {
        SetRows(out + begin * stride, stride, end - begin, n, row);
      }
    });
  }
  Sgemm(options.transpose_a, options.transpose_b, m, n, a.dim(options.transpose_a ? 0 : 1),
        a.data<float>(), RowStride(a), b.data<float>(), RowStride(b),
        options.accumulate || bias != nullptr ? 1.0f : 0.0f, out, stride);
}

// One tile on one thread. `a` is fp32 already; b, c and bias are converted here where they are not.
void ProductConverted(const Tensor& c, const Tensor& a, const Tensor& b,
                      const MatmulOptions& options, const Tensor* bias) {
  const Tensor b32 = b.dtype() == DType::kFloat32 ? b : ToFloat32(b);
  const Tensor bias32 = bias != nullptr ? ToFloat32(*bias) : Tensor();
  const Tensor* row = bias != nullptr ? &bias32 : nullptr;
  if (c.dtype() == DType::kFloat32) return ProductFloat32(c, a, b32, options, row);
  const Tensor c32 = Tensor::Empty(c.shape(), DType::kFloat32, c.device());
  if (options.accumulate) CopyTo(c32, c);
  ProductFloat32(c32, a, b32, options, row);
  CopyTo(c, c32);
}

// Calls product(c, a, b, options, bias) for row blocks by column panels, each on one thread.
template <typename F>
void ForEachTile(const Tensor& c, const Tensor& a, const Tensor& b, const MatmulOptions& options,
                 const Tensor* bias, int64_t row_block, F&& product) {
  const int64_t m = c.dim(0);
  const int64_t n = c.dim(1);
  const int64_t width = PanelWidth(n);
  const int64_t panels = (n + width - 1) / width;
  const int64_t blocks = (m + row_block - 1) / row_block;
  ParallelTasks(blocks * panels, [&](int64_t tile) {
    const int64_t row = tile / panels * row_block;
    const int64_t column = tile % panels * width;
    const int64_t rows = std::min(row_block, m - row);
    const int64_t columns = std::min(width, n - column);
    const Tensor tile_bias = bias != nullptr ? bias->Narrow(0, column, columns) : Tensor();
    product(c.Narrow(0, row, rows).Narrow(1, column, columns),
            a.Narrow(options.transpose_a ? 1 : 0, row, rows),
            b.Narrow(options.transpose_b ? 0 : 1, column, columns), options,
            bias != nullptr ? &tile_bias : nullptr);
  });
}

}  // namespace

void Sgemm(bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k, const float* a,
           int64_t lda, const float* b, int64_t ldb, float beta, float* c, int64_t ldc) {
  ConfigureCpuLibraries();
  const dnnl_status_t status = dnnl_sgemm(transpose_a ? 'T' : 'N', transpose_b ? 'T' : 'N', m, n, k,
                                          1.0f, a, lda, b, ldb, beta, c, ldc);
  if (status == dnnl_out_of_memory) {
    Throw(ErrorKind::kOutOfMemory, "Matmul", "oneDNN has no memory for a product {} x {} x {}", m,
          n, k);
  }
  CHECK_EQ(status, dnnl_success) << "sgemm " << m << "x" << n << "x" << k << ", rows " << lda
                                 << ", " << ldb << ", " << ldc << " apart";
}

void Matmul(const Tensor& c, const Tensor& a, const Tensor& b, const MatmulOptions& options,
            const Tensor* bias) {
  if (c.numel() == 0) return;
  const int64_t m = c.dim(0);
  if (a.numel() == 0) {  // a sum of no products is one of a product of zeros
    return cpu::Matmul(c, Tensor::Zeros({m, 1}, a.dtype(), c.device()),
                       Tensor::Zeros({1, c.dim(1)}, a.dtype(), c.device()),
                       {.accumulate = options.accumulate, .row_block = options.row_block}, bias);
  }
  const int64_t row_block = options.row_block > 0 ? std::min(options.row_block, m) : m;
  if (a.dtype() == DType::kFloat32) {
    if (options.row_block == 0) return ProductFloat32(c, a, b, options, bias);
    return ForEachTile(c, a, b, options, bias, row_block, ProductFloat32);
  }
#if defined(__x86_64__)
  if (a.dtype() == DType::kBFloat16 && HasOwnAmxProducts()) {
    return TileMatmul<AmxTiles>(c, a, b, options, bias);
  }
#endif
  if (a.dtype() == DType::kBFloat16 && HasFastBFloat16Products()) {
    if (options.row_block == 0) return ProductBFloat16(c, a, b, options, bias);
    return ForEachTile(c, a, b, options, bias, row_block, ProductBFloat16);
  }
  ForEachTile(c, ToFloat32(a), b, options, bias, options.row_block > 0 ? row_block : kConvertedRows,
              ProductConverted);
}

}  // namespace cairn::cpu
