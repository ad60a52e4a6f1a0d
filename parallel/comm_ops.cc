#include "parallel/comm_ops.h"

#include <glog/logging.h>

#include "runtime/tensor/elementwise.h"

namespace cairn {
namespace {

Stream& ComputeStream(const Tensor& tensor) { return tensor.device().compute_stream(); }

Tensor Contiguous(const Tensor& tensor) {
  return tensor.contiguous() ? tensor : ContiguousCopy(tensor);
}

Tensor EmptyRows(const Tensor& like, int64_t rows) {
  Shape shape = like.shape();
  shape[0] = rows;
  return Tensor::Empty(shape, like.dtype(), like.device());
}

int64_t RowsPerRank(const Tensor& whole, const Communicator& group) {
  CHECK_EQ(whole.dim(0) % group.size(), 0)
      << whole.shape().ToString() << " over " << group.size() << " ranks of " << group.name();
  return whole.dim(0) / group.size();
}

// The sum of the ranks' tensors, in a new one: the operand may be held elsewhere.
Tensor Sum(const Tensor& partial, Communicator& group) {
  Tensor sum = ContiguousCopy(partial);
  group.AllReduce(sum, ReduceOp::kSum, ComputeStream(sum));
  return sum;
}

Tensor GatherRows(const Tensor& rows, Communicator& group) {
  Tensor all = EmptyRows(rows, rows.dim(0) * group.size());
  group.AllGather(all, Contiguous(rows), ComputeStream(all));
  return all;
}

Tensor SumOwnRows(const Tensor& partial, Communicator& group) {
  Tensor own = EmptyRows(partial, RowsPerRank(partial, group));
  group.ReduceScatter(own, Contiguous(partial), ComputeStream(own));
  return own;
}

Tensor SwapRows(const Tensor& rows, Communicator& group) {
  RowsPerRank(rows, group);
  Tensor swapped = rows.EmptyLike();
  group.AllToAll(swapped, Contiguous(rows), ComputeStream(swapped));
  return swapped;
}

using Collective = Tensor (*)(const Tensor&, Communicator&);

// Records `output`, whose gradient reaches x through `backward`.
Value RecordPair(Tape& tape, const char* name, const Value& x, Tensor output, Communicator& group,
                 Collective backward) {
  if (!x.needs_gradient()) return tape.Record(name, std::move(output), nullptr);
  return tape.Record(name, std::move(output),
                     [id = x.id, &group, backward](Tape& t, const Tensor& gradient) {
                       t.AddGradient(id, backward(gradient, group));
                     });
}

}  // namespace

Value CopyToTensorParallel(Tape& tape, const Value& x, Communicator& tp) {
  if (tp.size() == 1) return x;
  Value copy = RecordPair(tape, "CopyToTensorParallel", x, x.data, tp, Sum);
  copy.again = x.again;
  return copy;
}

Value ReduceFromTensorParallel(Tape& tape, const Value& x, Communicator& tp) {
  if (tp.size() == 1) return x;
  return RecordPair(tape, "ReduceFromTensorParallel", x, Sum(x.data, tp), tp,
                    [](const Tensor& gradient, Communicator&) { return gradient; });
}

Value GatherFromSequenceParallel(Tape& tape, const Value& x, Communicator& tp) {
  if (tp.size() == 1) return x;
  return RecordPair(tape, "GatherFromSequenceParallel", x, GatherRows(x.data, tp), tp, SumOwnRows);
}

Value ReduceScatterToSequenceParallel(Tape& tape, const Value& x, Communicator& tp) {
  if (tp.size() == 1) return x;
  return RecordPair(tape, "ReduceScatterToSequenceParallel", x, SumOwnRows(x.data, tp), tp,
                    GatherRows);
}

Value ScatterToSequenceParallel(Tape& tape, const Value& x, Communicator& tp) {
  if (tp.size() == 1) return x;
  const int64_t rows = RowsPerRank(x.data, tp);
  // A copy: a view would keep the other ranks' rows in memory.
  return RecordPair(tape, "ScatterToSequenceParallel", x,
                    ContiguousCopy(x.data.Narrow(0, tp.rank() * rows, rows)), tp, GatherRows);
}

Value ExchangeRows(Tape& tape, const Value& x, Communicator& group) {
  if (group.size() == 1) return x;
  return RecordPair(tape, "ExchangeRows", x, SwapRows(x.data, group), group, SwapRows);
}

}  // namespace cairn
