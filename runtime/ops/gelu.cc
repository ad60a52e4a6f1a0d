#include "runtime/ops/gelu.h"

#include <glog/logging.h>

#include "runtime/ops/gelu_cpu.h"
#include "runtime/ops/kernels_cuda.h"
#include "runtime/tensor/dispatch.h"

namespace cairn {

Value Gelu(Tape& tape, const Value& x) { return RecordGelu(tape, x, Gelu(x.data)); }

Value RecordGelu(Tape& tape, const Value& x, Tensor y) {
  if (!x.needs_gradient()) return Value{std::move(y)};
  Value value = tape.Record("gelu", std::move(y),
                            [id = x.id, saved_x = Saved(x)](Tape& tape, const Tensor& dy) {
                              const Tensor x = saved_x.Get();
                              Tensor dx = x.EmptyLike();
                              GeluBackward(dx, dy, x);
                              tape.AddGradient(id, std::move(dx));
                            });
  value.again = [saved_x = Saved(x)] { return Gelu(saved_x.Get()); };
  return value;
}

Tensor Gelu(const Tensor& x) {
  Tensor y = x.EmptyLike();
  GeluForward(y, x);
  return y;
}

void GeluForward(const Tensor& y, const Tensor& x) {
  CHECK(y.contiguous() && x.contiguous());
  CHECK(y.shape() == x.shape() && y.dtype() == x.dtype());
  Dispatch(
      "gelu", x, [&] { cpu::GeluForward(y, x); }, [&] { cuda::GeluForward(y, x); });
}

void GeluBackward(const Tensor& dx, const Tensor& dy, const Tensor& x) {
  CHECK(dx.contiguous() && dy.contiguous() && x.contiguous());
  CHECK(dx.shape() == x.shape() && dx.dtype() == x.dtype());
  CHECK(dy.numel() == x.numel() && dy.dtype() == x.dtype());
  Dispatch(
      "gelu", x, [&] { cpu::GeluBackward(dx, dy, x); }, [&] { cuda::GeluBackward(dx, dy, x); });
}

}  // namespace cairn
