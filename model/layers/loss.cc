#include "model/layers/loss.h"

#include "runtime/ops/cross_entropy.h"

namespace cairn {

Value VocabParallelCrossEntropy(Tape& tape, const Value& logits, const Tensor& targets,
                                const VocabShard& shard, Communicator& tp) {
  Device& device = logits.data.device();
  const int64_t tokens = logits.data.dim(0);
  const Tensor parts = Tensor::Empty({tp.size(), tokens, 3}, DType::kFloat32, device);
  const Tensor own = parts.Select(tp.rank());
  CrossEntropyStats(own, logits.data, targets, shard.first_row, shard.rows);
  if (tp.size() > 1) tp.AllGather(parts, own, device.compute_stream());

  Tensor loss = Tensor::Empty({tokens}, DType::kFloat32, device);
  const Tensor logsumexp = Tensor::Empty({tokens}, DType::kFloat32, device);
  CrossEntropyMerge(loss, logsumexp, parts, targets);
  return tape.Record("cross_entropy", loss,
                     [logits, targets, logsumexp, shard](Tape& t, const Tensor& loss_gradient) {
                       CrossEntropyGradient(logits.data, targets, logsumexp, shard.first_row,
                                            shard.rows, loss_gradient);
                       t.AddGradient(logits.id, logits.data);
                     });
}

}  // namespace cairn
