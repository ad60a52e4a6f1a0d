#include "model/layers/loss.h"

#include <glog/logging.h>

#include <algorithm>
#include <bit>

#include "runtime/ops/cross_entropy.h"
#include "runtime/ops/linear.h"
#include "runtime/ops/matmul.h"

namespace cairn {
namespace {

// Tokens of a chunk: a power of two, for the sake of the products' tiles (an odd number costs
// oneDNN a quarter of its speed), of as many as fit `logits_bytes`. Samples stay whole where
// products run sample by sample.
int64_t TokensAtOnce(int64_t rows_per_sample, int64_t row_bytes, int64_t logits_bytes) {
  const int64_t unit = std::max<int64_t>(1, rows_per_sample);
  const auto fit = static_cast<uint64_t>(std::max<int64_t>(1, logits_bytes / (row_bytes * unit)));
  return static_cast<int64_t>(std::bit_floor(fit)) * unit;
}

}  // namespace

Value VocabParallelLoss(ForwardContext& context, const Value& x, Weight& weight,
                        const VocabShard& shard, Communicator& tp, int64_t logits_bytes) {
  Tape& tape = context.tape;
  Device& device = x.data.device();
  const Microbatch& batch = context.batch;
  const int64_t row_block = tape.options().rows_per_sample;
  const int64_t tokens = x.data.dim(0);
  const Tensor matrix = weight.Current();
  const int64_t columns = matrix.dim(0);
  const int64_t at_once = TokensAtOnce(
      row_block, columns * static_cast<int64_t>(DTypeSize(x.data.dtype())), logits_bytes);
  MainGrad* const weight_grad = tape.recording() ? weight.grad : nullptr;
  const bool backward = x.needs_gradient() || weight_grad != nullptr;
  Tensor dx = x.needs_gradient() ? x.data.EmptyLike() : Tensor();
  Tensor loss = Tensor::Empty({tokens}, DType::kFloat32, device);
  const Tensor logsumexp = loss.EmptyLike();
  const Tensor chunk = Tensor::Empty({std::min(at_once, tokens), columns}, x.data.dtype(), device);
  for (int64_t begin = 0; begin < tokens; begin += at_once) {
    const auto part = [begin, count = std::min(at_once, tokens - begin)](const Tensor& rows) {
      return rows.Narrow(0, begin, count);
    };
    const Tensor inputs = part(x.data);
    const Tensor targets = part(batch.targets);
    const Tensor logits = chunk.Narrow(0, 0, inputs.dim(0));
    Matmul(logits, inputs, matrix, {.transpose_b = true, .row_block = row_block});
    context.Observe("logits", Value{logits});

    const Tensor stats = Tensor::Empty({tp.size(), inputs.dim(0), 3}, DType::kFloat32, device);
    const Tensor own = stats.Select(tp.rank());
    CrossEntropyStats(own, logits, targets, shard.first_row, shard.rows);
    if (tp.size() > 1) tp.AllGather(stats, own, device.compute_stream());
    CrossEntropyMerge(part(loss), part(logsumexp), stats, targets);
    if (!backward) continue;

    CrossEntropyGradient(logits, targets, part(logsumexp), shard.first_row, shard.rows,
                         part(batch.loss_gradient));
    // The weight's gradients of several microbatches may be one sum when they are looked at.
    context.ObserveGradient("the logits", logits);
    if (weight_grad != nullptr) AddWeightGradient(*weight_grad, logits, inputs, row_block);
    if (dx.defined()) Matmul(part(dx), logits, matrix, {.row_block = row_block});
  }
  if (!backward) return Value{std::move(loss)};
  if (weight_grad != nullptr) weight_grad->NoteUse();
  return tape.Record("loss", std::move(loss),
                     [weight_grad, dx = std::move(dx), id = x.id,
                      expected = batch.loss_gradient.raw()](Tape& t, const Tensor& loss_gradient) {
                       CHECK(loss_gradient.raw() == expected)
                           << "the gradient is that of another loss";
                       // Here, as with any other op: a gradient is complete when its backward pass
                       // is.
                       if (weight_grad != nullptr)
                         t.DeferWeightGradient([=] { weight_grad->NoteContribution(); });
                       t.AddGradient(id, dx);
                     });
}

}  // namespace cairn
