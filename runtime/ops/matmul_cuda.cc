#include "runtime/ops/matmul_cuda.h"

#include <algorithm>
#include <map>

#include "runtime/base/error.h"
#include "runtime/device/cuda_device.h"
#include "runtime/ops/kernels_cuda.h"
#include "runtime/ops/matmul_plan_cuda.h"
#include "runtime/tensor/elementwise.h"

namespace cairn::cuda {
namespace {

// What NVIDIA recommends for Hopper; less elsewhere does no harm.
constexpr int64_t kWorkspaceBytes = int64_t{32} << 20;

// Shapes that algorithms are timed for: training has some dozens. Who meets more repeats none of
// them often (a text that grows token by token).
constexpr size_t kTimedShapes = 64;

// What a GPU keeps for its products: the choice for a shape is made once.
class Products {
 public:
  explicit Products(CudaDevice& device) {
    context_.workspace = Tensor::Empty({kWorkspaceBytes}, DType::kUInt8, device);
    context_.stream = device.native_stream();
    const cublasStatus_t code = context_.lt.create(&context_.handle);
    if (code != CUBLAS_STATUS_SUCCESS) {
      Throw(ErrorKind::kDevice, fmt::format("cuda:{} cublasLtCreate", device.index()), "{}",
            context_.lt.status_string(code));
    }
  }
  ~Products() {
    plans_.clear();
    (void)context_.lt.destroy(context_.handle);
  }
  Products(const Products&) = delete;
  Products& operator=(const Products&) = delete;

  // False, with nothing done, where cuBLASLt has no such kernel.
  bool Run(const Operands& operands, const MatmulOptions& options) {
    const ProductShape shape(operands.c, operands.a, operands.b, options, operands.epilogue);
    auto found = plans_.find(shape);
    if (found == plans_.end()) {
      const bool may_time = plans_.size() < kTimedShapes;
      found = plans_.try_emplace(shape, context_, shape, operands, may_time).first;
    }
    const ProductPlan& plan = found->second;
    if (plan.found()) {
      plan.Run(context_, operands);
    } else if (shape.epilogue == Epilogue::Kind::kNone) {
      context_.lt.Check(CUBLAS_STATUS_NOT_SUPPORTED, "cublasLtMatmulAlgoGetHeuristic", shape);
    }
    return plan.found();
  }

 private:
  ProductContext context_;
  std::map<ProductShape, ProductPlan> plans_;
};

// The largest power of two up to 16 that divides the number.
uint32_t Alignment(uint64_t number) {
  number |= 16;
  return static_cast<uint32_t>(number & ~(number - 1));
}

uint32_t AlignmentOf(const Tensor& tensor) {
  return Alignment(reinterpret_cast<uintptr_t>(tensor.raw()));
}

// A row-major matrix read column by column: its rows are the columns.
ProductShape::Matrix Stored(const Tensor& matrix) {
  const int64_t stride = matrix.dim(0) > 1 ? matrix.stride(0) : matrix.dim(1);
  return {matrix.dim(1), matrix.dim(0), std::max<int64_t>(stride, 1)};
}

// What all rows of a matrix have.
uint32_t RowAlignment(const Tensor& matrix) {
  const auto row_bytes = static_cast<uint64_t>(Stored(matrix).stride) * DTypeSize(matrix.dtype());
  return std::min(AlignmentOf(matrix), Alignment(row_bytes));
}

bool RunOn(const Tensor& c, const Tensor& a, const Tensor& b, const MatmulOptions& options,
           const Epilogue& epilogue) {
  return AsCuda(c.device()).State<Products>().Run({c, a, b, epilogue}, options);
}

}  // namespace

ProductShape::ProductShape(const Tensor& c, const Tensor& a, const Tensor& b,
                           const MatmulOptions& options, const Epilogue& epilogue)
    : first(Stored(b)),
      second(Stored(a)),
      out(Stored(c)),
      transpose_first(options.transpose_b),
      transpose_second(options.transpose_a),
      accumulate(options.accumulate),
      bias(epilogue.bias != nullptr),
      epilogue(epilogue.kind),
      in(a.dtype()),
      result(c.dtype()),
      alignment(std::min({RowAlignment(a), RowAlignment(b), RowAlignment(c)})),
      bias_alignment(bias ? AlignmentOf(*epilogue.bias) : 0),
      timed(options.row_block == 0) {}

void Matmul(const Tensor& c, const Tensor& a, const Tensor& b, const MatmulOptions& options,
            const Tensor* bias) {
  if (c.numel() == 0) return;
  if (bias != nullptr && c.dtype() != bias->dtype()) {
    Throw(ErrorKind::kDevice, "Matmul", "no cuda kernel adds a {} bias to a {} result",
          DTypeName(bias->dtype()), DTypeName(c.dtype()));
  }
  const Epilogue epilogue{.bias = bias};
  if (options.row_block == 0) {
    RunOn(c, a, b, options, epilogue);
    return;
  }
  const int row_dim = options.transpose_a ? 1 : 0;
  for (int64_t row = 0; row < c.dim(0); row += options.row_block) {
    const int64_t rows = std::min(options.row_block, c.dim(0) - row);
    RunOn(c.Narrow(0, row, rows), a.Narrow(row_dim, row, rows), b, options, epilogue);
  }
}

bool MatmulGelu(const Tensor& y, const Tensor& hidden, const Tensor& a, const Tensor& b,
                const MatmulOptions& options, const Tensor* bias) {
  return RunOn(y, a, b, options, {Epilogue::Kind::kGelu, bias, &hidden});
}

bool MatmulGeluGradient(const Tensor& dhidden, const Tensor& a, const Tensor& b,
                        const Tensor& hidden, const MatmulOptions& options) {
  return RunOn(dhidden, a, b, options, {Epilogue::Kind::kGeluGradient, nullptr, &hidden});
}

bool AddLinearGradients(const Tensor& weight_sum, const Tensor& bias_sum, const Tensor& dy,
                        const Tensor& x) {
  // The epilogue does not accumulate.
  const Tensor row_sums = bias_sum.EmptyLike();
  if (!RunOn(weight_sum, dy, x, {.transpose_a = true, .accumulate = true},
             {Epilogue::Kind::kRowSums, &row_sums, nullptr})) {
    return false;
  }
  AddTo(bias_sum, row_sums);
  return true;
}

}  // namespace cairn::cuda
