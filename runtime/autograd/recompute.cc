#include "runtime/autograd/recompute.h"

#include <memory>

namespace cairn {

Value Recompute(Tape& tape, const Value& x,
                std::function<Value(Tape& tape, const Value& x)> piece) {
  Tape::Options silent = tape.options();
  silent.recording = false;
  Tape first_run(silent);
  Tensor output = piece(first_run, Value{x.data}).data;
  return tape.Record("recompute", std::move(output),
                     [x, piece = std::move(piece)](Tape& outer, const Tensor& output_gradient) {
                       auto inner = std::make_shared<Tape>(outer.options());
                       const Value input = inner->Input(x.data);
                       const Value again = piece(*inner, input);
                       inner->BackwardInput(again, output_gradient);
                       outer.AddGradient(x.id, inner->TakeGradient(input));
                       outer.DeferWeightGradient([inner] { inner->BackwardWeight(); });
                     });
}

}  // namespace cairn
