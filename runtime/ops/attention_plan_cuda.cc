#include "runtime/ops/attention_plan_cuda.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <span>
#include <vector>

#include "runtime/base/error.h"

namespace cairn::cuda {
namespace {

// The names by which a call tells the tensors of a graph that are in memory.
enum Uid : int64_t {
  kQuery = 1,
  kKey,
  kValue,
  kOut,
  kLogsumexp,
  kOutGradient,
  kQueryGradient,
  kKeyGradient,
  kValueGradient,
  kOutDot,    // backward's own: the sum of out * dout over a row
  kQuerySum,  // backward's own, where nothing must be deterministic: fp32 sums of dq
  kScale,
  kHidden,
  kOne,
  kFirstVirtual,
};

// More than cuDNN offers for any attention.
constexpr int kMostChoices = 16;

// Own tensors of a workspace start at multiples of this; so does cuDNN's part.
int64_t AlignUp(uint64_t bytes) { return static_cast<int64_t>((bytes + 255) / 256 * 256); }

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

// The operations of a pass. Matrices of scores are "virtual": they never exist in memory.
class Graph {
 public:
  Graph(const Cudnn& cudnn, const CudnnAttention& attention, const std::string& what)
      : cudnn_(cudnn),
        what_(what),
        io_(CudnnType(attention.dtype)),
        scores_{attention.batch, attention.heads, attention.seq_length, attention.seq_length},
        rows_{attention.batch, attention.heads, attention.seq_length, 1} {}

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
};

using Node = Graph::Node;

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
  const Node probabilities = g.Virtual(scores.dims, CudnnType(attention.dtype));
  g.Pointwise(CUDNN_POINTWISE_DIV, exp, &sum, probabilities);
  g.Matmul(probabilities, g.InOut(kValue, attention.Value()), g.InOut(kOut, attention.Out()));
  return g.Finish();
}

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
  const Node one = g.Scalar(kOne);

  const Node dot =
      g.Reduce(CUDNN_REDUCE_TENSOR_ADD, g.Pointwise(CUDNN_POINTWISE_MUL, dout, &out), g.Rows());
  // cuDNN knows the pattern with a product here: by dropout's scale, where there is dropout.
  const Node out_dot = g.Memory(
      kOutDot, {dot.dims, {attention.heads * attention.seq_length, attention.seq_length, 1, 1}, 0},
      CUDNN_DATA_FLOAT);
  g.Pointwise(CUDNN_POINTWISE_MUL, dot, &one, out_dot);

  const Node scores = g.Scores();
  g.Matmul(query, key, scores);
  const Node scaled = g.Pointwise(CUDNN_POINTWISE_MUL, scores, &scale);
  const Node probabilities = g.Pointwise(
      CUDNN_POINTWISE_EXP, g.Causal(g.Pointwise(CUDNN_POINTWISE_SUB, scaled, &logsumexp)));
  KeyGradient(g, attention, probabilities, dout, g.InOut(kValueGradient, attention.Value()));

  const Node dprobabilities = g.Scores();
  g.Matmul(dout, value, dprobabilities);
  const Node centred = g.Pointwise(CUDNN_POINTWISE_SUB, dprobabilities, &out_dot);
  const Node product = g.Pointwise(CUDNN_POINTWISE_MUL, centred, &probabilities);
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

}  // namespace

CudnnDescriptor CudnnDeviceOf(const Cudnn& cudnn, cudnnHandle_t handle, const std::string& what) {
  CudnnDescriptor device(cudnn, CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, what);
  device.Set(CUDNN_ATTR_DEVICEPROP_HANDLE, handle);
  device.Finalize();
  return device;
}

CudnnDescriptor CudnnDeviceOf(const Cudnn& cudnn, const std::string& json,
                              const std::string& what) {
  CudnnDescriptor device(cudnn, CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, what);
  device.Set(CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION,
             std::vector<char>(json.begin(), json.end()));
  device.Finalize();
  return device;
}

AttentionPlan::AttentionPlan(const Cudnn& cudnn, const CudnnDescriptor& device,
                             const CudnnAttention& attention, AttentionPass pass)
    : cudnn_(cudnn),
      attention_(attention),
      pass_(pass),
      what_(std::make_unique<const std::string>(
          fmt::format("the {} pass of {}", pass == AttentionPass::kForward ? "forward" : "backward",
                      attention.ToString()))),
      plan_(Choose(device, pass == AttentionPass::kForward
                               ? ForwardGraph(cudnn, attention, *what_)
                               : BackwardGraph(cudnn, attention, *what_))) {
  own_bytes_ = 0;
  if (pass == AttentionPass::kBackward) {
    const int64_t rows = attention.batch * attention.heads * attention.seq_length;
    query_sum_at_ = AlignUp(rows * sizeof(float));
    own_bytes_ = query_sum_at_;
    if (!attention.deterministic) own_bytes_ += AlignUp(rows * attention.head_dim * sizeof(float));
  }
  workspace_bytes_ = own_bytes_ + plan_.Get<int64_t>(CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE);
}

// The first of cuDNN's choices, best first, that it can build.
CudnnDescriptor AttentionPlan::Choose(const CudnnDescriptor& device, const CudnnDescriptor& graph) {
  CudnnDescriptor heuristic(cudnn_, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, *what_);
  heuristic.Set(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph);
  heuristic.Set(CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_HEUR_MODE_A);
  heuristic.Set(CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, device);
  heuristic.Finalize();
  std::vector<CudnnDescriptor> configs;
  configs.reserve(kMostChoices);
  for (int i = 0; i < kMostChoices; ++i) {
    configs.emplace_back(cudnn_, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, *what_);
  }
  const int64_t found = heuristic.GetAll(CUDNN_ATTR_ENGINEHEUR_RESULTS, configs);
  std::string refusal = "it knows no way";
  for (const CudnnDescriptor& config : std::span(configs).first(found)) {
    CudnnDescriptor engine(cudnn_, CUDNN_BACKEND_ENGINE_DESCRIPTOR, *what_);
    config.Get(CUDNN_ATTR_ENGINECFG_ENGINE, engine);
    const auto notes = engine.GetAll<cudnnBackendNumericalNote_t>(CUDNN_ATTR_ENGINE_NUMERICAL_NOTE,
                                                                  CUDNN_NUMERICAL_NOTE_TYPE_COUNT);
    if (attention_.deterministic &&
        std::ranges::find(notes, CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC) != notes.end()) {
      continue;
    }
    CudnnDescriptor plan(cudnn_, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, *what_);
    plan.Set(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config);
    plan.Set(CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, device);
    try {
      plan.Finalize();
      return plan;
    } catch (const Error& error) {
      refusal = error.message();
    }
  }
  Throw(ErrorKind::kDevice, "cuDNN", "has no plan for {}: {}", *what_, refusal);
}

void AttentionPlan::Run(cudnnHandle_t handle, const Tensors& tensors, std::byte* workspace) {
  const auto step = [](void* base, int64_t bytes) -> void* {
    return base == nullptr ? nullptr : static_cast<std::byte*>(base) + bytes;
  };
  const auto width = static_cast<int64_t>(DTypeSize(attention_.dtype));
  for (int64_t call = 0; call < attention_.calls; ++call) {
    const int64_t qkv = call * attention_.QkvStep() * width;
    const int64_t out = call * attention_.OutStep() * width;
    const int64_t logsumexp = call * attention_.LogsumexpStep() * int64_t{sizeof(float)};
    Call(handle,
         {step(tensors.qkv, qkv), step(tensors.out, out), step(tensors.logsumexp, logsumexp),
          step(tensors.dout, out), step(tensors.dqkv, qkv)},
         workspace);
  }
}

void AttentionPlan::Call(cudnnHandle_t handle, const Tensors& tensors, std::byte* workspace) {
  const auto width = static_cast<int64_t>(DTypeSize(attention_.dtype));
  const auto at = [width](void* base, const AttentionView& view) -> void* {
    return static_cast<std::byte*>(base) + view.offset * width;
  };
  float scale = 1.0f / std::sqrt(static_cast<float>(attention_.head_dim));
  float hidden = -std::numeric_limits<float>::infinity();
  std::vector<int64_t> uids = {kQuery, kKey, kValue, kOut, kLogsumexp, kScale, kHidden};
  std::vector<void*> pointers = {at(tensors.qkv, attention_.Query()),
                                 at(tensors.qkv, attention_.Key()),
                                 at(tensors.qkv, attention_.Value()),
                                 tensors.out,
                                 tensors.logsumexp,
                                 &scale,
                                 &hidden};
  float one = 1.0f;
  if (pass_ == AttentionPass::kBackward) {
    uids.insert(uids.end(),
                {kOutGradient, kQueryGradient, kKeyGradient, kValueGradient, kOutDot, kOne});
    pointers.insert(pointers.end(), {tensors.dout, at(tensors.dqkv, attention_.Query()),
                                     at(tensors.dqkv, attention_.Key()),
                                     at(tensors.dqkv, attention_.Value()), workspace, &one});
    if (!attention_.deterministic) {
      uids.push_back(kQuerySum);
      pointers.push_back(workspace + query_sum_at_);
    }
  }
  void* const rest = workspace + own_bytes_;
  CudnnDescriptor pack(cudnn_, CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, *what_);
  pack.Set(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, uids);
  pack.Set(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, pointers);
  pack.Set(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, rest);
  pack.Finalize();
  cudnn_.Check(cudnn_.execute(handle, plan_.raw(), pack.raw()), "cudnnBackendExecute", *what_);
}

}  // namespace cairn::cuda
