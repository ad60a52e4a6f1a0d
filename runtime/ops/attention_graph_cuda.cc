#include "runtime/ops/attention_graph_cuda.h"

#include <array>
#include <optional>
#include <utility>
#include <vector>

namespace cairn::cuda {
namespace {

using Dims = std::array<int64_t, 4>;

Dims RowMajor(const Dims& dims) {
  return {dims[1] * dims[2] * dims[3], dims[2] * dims[3], dims[3], 1};
}

// The transposed matrices of a view: a product takes its second factor like this.
AttentionView Transposed(AttentionView view) {
  std::swap(view.dims[2], view.dims[3]);
  std::swap(view.strides[2], view.strides[3]);
  return view;
}

cudnnDataType_t CudnnType(DType dtype) {
  return dtype == DType::kBFloat16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_HALF;
}

// The operations of a pass. Matrices of scores are "virtual": but for dropout's mask, they never
// exist in memory.
class Graph {
 public:
  Graph(const Cudnn& cudnn, const CudnnAttention& attention, const std::string& what)
      : cudnn_(cudnn),
        what_(what),
        io_(CudnnType(attention.dtype)),
        scores_{attention.batch, attention.heads, attention.seq_length, attention.seq_length},
        rows_{attention.batch, attention.heads, attention.seq_length, 1} {
    if (!attention.dropout) return;
    mask_ = InOut(kMask, attention.Mask());
    kept_scale_ = Scalar(kKeptScale);
  }

  struct Node {
    size_t index;
    Dims dims;
  };

  Node Memory(Uid uid, const AttentionView& view, cudnnDataType_t type) {
    return Tensor(uid, view.dims, view.strides, type, false, false);
  }
  Node InOut(Uid uid, const AttentionView& view) { return Memory(uid, view, io_); }
  Node Scalar(Uid uid) {
    return Tensor(uid, {1, 1, 1, 1}, {1, 1, 1, 1}, CUDNN_DATA_FLOAT, false, true);
  }

  Node Pointwise(cudnnPointwiseMode_t mode, const Node& x, const Node* b, const Node& y,
                 const Node* mask = nullptr, cudnnDataType_t compute = CUDNN_DATA_FLOAT,
                 int64_t axis = -1) {
    CudnnDescriptor math(cudnn_, CUDNN_BACKEND_POINTWISE_DESCRIPTOR, what_);
    math.Set(CUDNN_ATTR_POINTWISE_MODE, mode);
    math.Set(CUDNN_ATTR_POINTWISE_MATH_PREC, compute);
    if (axis >= 0) math.Set(CUDNN_ATTR_POINTWISE_AXIS, axis);
    math.Finalize();
    CudnnDescriptor& operation = Add(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    operation.Set(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, math);
    operation.Set(CUDNN_ATTR_OPERATION_POINTWISE_XDESC, tensors_[x.index]);
    if (b != nullptr) operation.Set(CUDNN_ATTR_OPERATION_POINTWISE_BDESC, tensors_[b->index]);
    if (mask != nullptr) operation.Set(CUDNN_ATTR_OPERATION_POINTWISE_TDESC, tensors_[mask->index]);
    operation.Set(CUDNN_ATTR_OPERATION_POINTWISE_YDESC, tensors_[y.index]);
    operation.Finalize();
    return y;
  }
  // The same into a virtual fp32 tensor of x's size.
  Node Pointwise(cudnnPointwiseMode_t mode, const Node& x, const Node* b = nullptr) {
    return Pointwise(mode, x, b, Virtual(x.dims, CUDNN_DATA_FLOAT));
  }

  void Matmul(const Node& a, const Node& b, const Node& c) {
    CudnnDescriptor math(cudnn_, CUDNN_BACKEND_MATMUL_DESCRIPTOR, what_);
    math.Set(CUDNN_ATTR_MATMUL_COMP_TYPE, CUDNN_DATA_FLOAT);
    math.Finalize();
    CudnnDescriptor& operation = Add(CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR);
    operation.Set(CUDNN_ATTR_OPERATION_MATMUL_DESC, math);
    operation.Set(CUDNN_ATTR_OPERATION_MATMUL_ADESC, tensors_[a.index]);
    operation.Set(CUDNN_ATTR_OPERATION_MATMUL_BDESC, tensors_[b.index]);
    operation.Set(CUDNN_ATTR_OPERATION_MATMUL_CDESC, tensors_[c.index]);
    operation.Finalize();
  }

  // y's dimensions say what is summed up.
  Node Reduce(cudnnReduceTensorOp_t op, const Node& x, const Node& y) {
    CudnnDescriptor math(cudnn_, CUDNN_BACKEND_REDUCTION_DESCRIPTOR, what_);
    math.Set(CUDNN_ATTR_REDUCTION_OPERATOR, op);
    math.Set(CUDNN_ATTR_REDUCTION_COMP_TYPE, CUDNN_DATA_FLOAT);
    math.Finalize();
    CudnnDescriptor& operation = Add(CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR);
    operation.Set(CUDNN_ATTR_OPERATION_REDUCTION_DESC, math);
    operation.Set(CUDNN_ATTR_OPERATION_REDUCTION_XDESC, tensors_[x.index]);
    operation.Set(CUDNN_ATTR_OPERATION_REDUCTION_YDESC, tensors_[y.index]);
    operation.Finalize();
    return y;
  }

  Node Reshape(const Node& x, const AttentionView& view) {
    const Node y = Tensor(NextVirtual(), view.dims, view.strides, io_, true, false);
    CudnnDescriptor& operation = Add(CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR);
    operation.Set(CUDNN_ATTR_OPERATION_RESHAPE_XDESC, tensors_[x.index]);
    operation.Set(CUDNN_ATTR_OPERATION_RESHAPE_YDESC, tensors_[y.index]);
    operation.Finalize();
    return y;
  }

  // Dropout: times the mask, then times the scale of what it keeps. The same as `scores` where
  // nothing is dropped.
  Node Masked(const Node& scores) {
    return mask_ ? Pointwise(CUDNN_POINTWISE_MUL, scores, &*mask_) : scores;
  }
  Node Rescaled(const Node& scores) { return mask_ ? Rescale(scores, Scores()) : scores; }
  Node Rescale(const Node& scores, const Node& y) {
    return Pointwise(CUDNN_POINTWISE_MUL, scores, &*kept_scale_, y);
  }

  Node Virtual(const Dims& dims, cudnnDataType_t type) {
    return Tensor(NextVirtual(), dims, RowMajor(dims), type, true, false);
  }
  Node Scores() { return Virtual(scores_, CUDNN_DATA_FLOAT); }
  Node Rows() { return Virtual(rows_, CUDNN_DATA_FLOAT); }

  // -inf where a key comes after its query.
  Node Causal(const Node& scores) {
    const Node row = Pointwise(CUDNN_POINTWISE_GEN_INDEX, scores, nullptr,
                               Virtual(scores_, CUDNN_DATA_INT32), nullptr, CUDNN_DATA_FLOAT, 2);
    const Node column = Pointwise(CUDNN_POINTWISE_GEN_INDEX, scores, nullptr,
                                  Virtual(scores_, CUDNN_DATA_INT32), nullptr, CUDNN_DATA_FLOAT, 3);
    const Node seen = Pointwise(CUDNN_POINTWISE_CMP_GE, row, &column,
                                Virtual(scores_, CUDNN_DATA_BOOLEAN), nullptr, CUDNN_DATA_BOOLEAN);
    const Node hidden = Scalar(kHidden);
    return Pointwise(CUDNN_POINTWISE_BINARY_SELECT, scores, &hidden, Scores(), &seen);
  }

  // The transposed matrices of scores, in the dtype that products take.
  Node TransposedScores(const Node& scores) {
    return Reshape(scores, Transposed({scores_, RowMajor(scores_), 0}));
  }

  CudnnDescriptor Finish() {
    CudnnDescriptor graph(cudnn_, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, what_);
    graph.Set(CUDNN_ATTR_OPERATIONGRAPH_OPS, operations_);
    graph.Finalize();
    return graph;
  }

 private:
  int64_t NextVirtual() { return kFirstVirtual + static_cast<int64_t>(tensors_.size()); }

  Node Tensor(int64_t uid, const Dims& dims, const Dims& strides, cudnnDataType_t type,
              bool is_virtual, bool by_value) {
    CudnnDescriptor& tensor = tensors_.emplace_back(cudnn_, CUDNN_BACKEND_TENSOR_DESCRIPTOR, what_);
    tensor.Set(CUDNN_ATTR_TENSOR_DATA_TYPE, type);
    tensor.Set(CUDNN_ATTR_TENSOR_DIMENSIONS, std::vector<int64_t>(dims.begin(), dims.end()));
    tensor.Set(CUDNN_ATTR_TENSOR_STRIDES, std::vector<int64_t>(strides.begin(), strides.end()));
    tensor.Set(CUDNN_ATTR_TENSOR_UNIQUE_ID, uid);
    tensor.Set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, int64_t{16});
    tensor.Set(CUDNN_ATTR_TENSOR_IS_VIRTUAL, is_virtual);
    tensor.Set(CUDNN_ATTR_TENSOR_IS_BY_VALUE, by_value);
    tensor.Finalize();
    return {tensors_.size() - 1, dims};
  }

  CudnnDescriptor& Add(cudnnBackendDescriptorType_t type) {
    return operations_.emplace_back(cudnn_, type, what_);
  }

  const Cudnn& cudnn_;
  const std::string& what_;
  cudnnDataType_t io_;
  Dims scores_;
  Dims rows_;
  std::vector<CudnnDescriptor> tensors_;
  std::vector<CudnnDescriptor> operations_;
  std::optional<Node> mask_;  // none: nothing is dropped
  std::optional<Node> kept_scale_;
};

using Node = Graph::Node;

// The gradient of keys or values: scoresᵀ · rows, summed over the heads that share them.
void KeyGradient(Graph& g, const CudnnAttention& attention, const Node& scores, const Node& rows,
                 const Node& gradient) {
  const Node transposed = g.TransposedScores(scores);
  if (attention.key_heads == attention.heads) return g.Matmul(transposed, rows, gradient);
  const Node by_head =
      g.Virtual({attention.batch, attention.heads, attention.seq_length, attention.head_dim},
                CudnnType(attention.dtype));
  g.Matmul(transposed, rows, by_head);
  g.Reduce(CUDNN_REDUCE_TENSOR_ADD, by_head, gradient);
}

}  // namespace

CudnnDescriptor ForwardGraph(const Cudnn& cudnn, const CudnnAttention& attention,
                             const std::string& what) {
  Graph g(cudnn, attention, what);
  const Node scores = g.Scores();
  g.Matmul(g.InOut(kQuery, attention.Query()), g.InOut(kKey, Transposed(attention.Key())), scores);
  const Node scale = g.Scalar(kScale);
  const Node masked = g.Causal(g.Pointwise(CUDNN_POINTWISE_MUL, scores, &scale));

  const Node max = g.Reduce(CUDNN_REDUCE_TENSOR_MAX, masked, g.Rows());
  const Node exp = g.Pointwise(CUDNN_POINTWISE_EXP, g.Pointwise(CUDNN_POINTWISE_SUB, masked, &max));
  const Node sum = g.Reduce(CUDNN_REDUCE_TENSOR_ADD, exp, g.Rows());
  const Node log = g.Pointwise(CUDNN_POINTWISE_LOG, sum);
  g.Pointwise(CUDNN_POINTWISE_ADD, max, &log,
              g.Memory(kLogsumexp, attention.Logsumexp(), CUDNN_DATA_FLOAT));
  const Node factors = g.Virtual(scores.dims, CudnnType(attention.dtype));
  if (attention.dropout) {
    g.Rescale(g.Masked(g.Pointwise(CUDNN_POINTWISE_DIV, exp, &sum)), factors);
  } else {
    g.Pointwise(CUDNN_POINTWISE_DIV, exp, &sum, factors);
  }
  g.Matmul(factors, g.InOut(kValue, attention.Value()), g.InOut(kOut, attention.Out()));
  return g.Finish();
}

CudnnDescriptor BackwardGraph(const Cudnn& cudnn, const CudnnAttention& attention,
                              const std::string& what) {
  Graph g(cudnn, attention, what);
  const Node query = g.InOut(kQuery, attention.Query());
  const Node key = g.InOut(kKey, Transposed(attention.Key()));
  const Node value = g.InOut(kValue, Transposed(attention.Value()));
  const Node out = g.InOut(kOut, attention.Out());
  const Node dout = g.InOut(kOutGradient, attention.Out());
  const Node logsumexp = g.Memory(kLogsumexp, attention.Logsumexp(), CUDNN_DATA_FLOAT);
  const Node scale = g.Scalar(kScale);
  const Node kept = g.Scalar(kKept);

  const Node dot =
      g.Reduce(CUDNN_REDUCE_TENSOR_ADD, g.Pointwise(CUDNN_POINTWISE_MUL, dout, &out), g.Rows());
  // With D = this, the gradient of scores is P (scale mask dP - D) = scale P (mask dP - D / scale).
  // cuDNN knows the pattern with a product here also where nothing is dropped.
  const Node out_dot = g.Memory(
      kOutDot, {dot.dims, {attention.heads * attention.seq_length, attention.seq_length, 1, 1}, 0},
      CUDNN_DATA_FLOAT);
  g.Pointwise(CUDNN_POINTWISE_MUL, dot, &kept, out_dot);

  const Node scores = g.Scores();
  g.Matmul(query, key, scores);
  const Node scaled = g.Pointwise(CUDNN_POINTWISE_MUL, scores, &scale);
  const Node probabilities = g.Pointwise(
      CUDNN_POINTWISE_EXP, g.Causal(g.Pointwise(CUDNN_POINTWISE_SUB, scaled, &logsumexp)));
  KeyGradient(g, attention, g.Rescaled(g.Masked(probabilities)), dout,
              g.InOut(kValueGradient, attention.Value()));

  const Node dprobabilities = g.Scores();
  g.Matmul(dout, value, dprobabilities);
  const Node centred = g.Pointwise(CUDNN_POINTWISE_SUB, g.Masked(dprobabilities), &out_dot);
  const Node product = g.Rescaled(g.Pointwise(CUDNN_POINTWISE_MUL, centred, &probabilities));
  const Node dscores = g.Pointwise(CUDNN_POINTWISE_MUL, product, &scale);
  KeyGradient(g, attention, dscores, query, g.InOut(kKeyGradient, attention.Key()));

  const Node key_rows = g.Reshape(key, attention.Key());
  const Node dquery = g.InOut(kQueryGradient, attention.Query());
  if (attention.deterministic) {
    g.Matmul(dscores, key_rows, dquery);
  } else {
    const Node sum = g.Memory(kQuerySum, {query.dims, RowMajor(query.dims), 0}, CUDNN_DATA_FLOAT);
    g.Matmul(dscores, key_rows, sum);
    g.Pointwise(CUDNN_POINTWISE_IDENTITY, sum, nullptr, dquery);
  }
  return g.Finish();
}

}  // namespace cairn::cuda
