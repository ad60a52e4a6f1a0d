#include "runtime/ops/attention.h"

#include <glog/logging.h>

#include <utility>

#include "runtime/ops/attention_cpu.h"
#include "runtime/ops/kernels_cuda.h"
#include "runtime/tensor/dispatch.h"

namespace cairn {
namespace {

void CheckSpec(const Tensor& qkv, const AttentionSpec& spec) {
  CHECK(spec.groups > 0 && spec.heads > 0 && spec.heads % spec.groups == 0)
      << spec.heads << " heads in " << spec.groups << " groups";
  CHECK_GT(spec.head_dim, 0);
  CHECK(qkv.contiguous());
  CHECK(qkv.shape() ==
        Shape({spec.samples * spec.seq_length, (spec.heads + 2 * spec.groups) * spec.head_dim}))
      << qkv.shape().ToString();
  CHECK(spec.dropout >= 0 && spec.dropout < 1) << spec.dropout;
  CHECK(spec.dropout == 0 || spec.total_heads >= spec.first_head + spec.heads)
      << "heads from " << spec.first_head << " of " << spec.total_heads;
}

void CheckOut(const Tensor& out, const Tensor& qkv, const AttentionSpec& spec) {
  CHECK(out.contiguous() && out.dtype() == qkv.dtype());
  CHECK(out.shape() == Shape({qkv.dim(0), spec.heads * spec.head_dim})) << out.shape().ToString();
}

void CheckLogsumexp(const Tensor& logsumexp, const AttentionSpec& spec) {
  CHECK(logsumexp.contiguous());
  CHECK(logsumexp.shape() == Shape({spec.samples, spec.heads, spec.seq_length}))
      << logsumexp.shape().ToString();
}

}  // namespace

void AttentionForward(const Tensor& out, const Tensor& logsumexp, const Tensor& qkv,
                      const AttentionSpec& spec) {
  CheckSpec(qkv, spec);
  CheckOut(out, qkv, spec);
  CheckLogsumexp(logsumexp, spec);
  Dispatch(
      "Attention", qkv, [&] { cpu::AttentionForward(out, logsumexp, qkv, spec); },
      [&] { cuda::AttentionForward(out, logsumexp, qkv, spec); });
}

void AttentionBackward(const Tensor& dqkv, const Tensor& dout, const Tensor& qkv, const Tensor& out,
                       const Tensor& logsumexp, const AttentionSpec& spec) {
  CheckSpec(qkv, spec);
  CheckOut(out, qkv, spec);
  CheckOut(dout, qkv, spec);
  CheckLogsumexp(logsumexp, spec);
  CHECK(dqkv.contiguous() && dqkv.shape() == qkv.shape() && dqkv.dtype() == qkv.dtype());
  Dispatch(
      "Attention", qkv, [&] { cpu::AttentionBackward(dqkv, dout, qkv, out, logsumexp, spec); },
      [&] { cuda::AttentionBackward(dqkv, dout, qkv, out, logsumexp, spec); });
}

Value CausalAttention(Tape& tape, const Value& qkv, AttentionSpec spec) {
  spec.deterministic = tape.options().rows_per_sample != 0;
  Device& device = qkv.data.device();
  const Tensor out =
      Tensor::Empty({qkv.data.dim(0), spec.heads * spec.head_dim}, qkv.data.dtype(), device);
  const Tensor logsumexp =
      Tensor::Empty({spec.samples, spec.heads, spec.seq_length}, DType::kFloat32, device);
  AttentionForward(out, logsumexp, qkv.data, spec);
  if (!qkv.needs_gradient()) return Value{out};
  return tape.Record(
      "attention", out,
      [id = qkv.id, qkv = qkv.data, out, logsumexp, spec](Tape& tape, const Tensor& dout) {
        Tensor dqkv = qkv.EmptyLike();
        AttentionBackward(dqkv, dout, qkv, out, logsumexp, spec);
        tape.AddGradient(id, std::move(dqkv));
      });
}

}  // namespace cairn
