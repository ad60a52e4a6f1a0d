#include "runtime/autograd/tape.h"

#include <glog/logging.h>

#include "runtime/tensor/elementwise.h"

namespace cairn {

Value Tape::Input(Tensor data) {
  if (!recording()) return Value{std::move(data)};
  gradients_.emplace_back();
  return Value{std::move(data), static_cast<int>(gradients_.size()) - 1};
}

Value Tape::Record(std::string_view name, Tensor output, BackwardInputFn backward) {
  if (!recording() || !backward) return Value{std::move(output)};
  Value value = Input(std::move(output));
  nodes_.push_back({name, value.id, std::move(backward)});
  return value;
}

void Tape::AddGradient(int id, Tensor gradient) {
  if (id < 0) return;
  Tensor& sum = gradients_[id];
  if (!sum.defined()) {
    sum = std::move(gradient);
    return;
  }
  // A fresh tensor: the first gradient may also be held by the op that produced it.
  Tensor total = sum.EmptyLike();
  Add(total, sum, gradient);
  sum = std::move(total);
}

void Tape::DeferWeightGradient(std::function<void()> work) {
  weight_work_.push_back(std::move(work));
}

template <typename AfterNode>
void Tape::Walk(const Value& output, Tensor gradient, AfterNode after_node) {
  CHECK(output.needs_gradient()) << "the output was not recorded";
  AddGradient(output.id, std::move(gradient));
  for (auto node = nodes_.rbegin(); node != nodes_.rend(); ++node) {
    const Tensor output_gradient = std::move(gradients_[node->output]);
    gradients_[node->output] = Tensor();
    // A value that nothing used has no gradient; its op contributes nothing.
    if (output_gradient.defined()) node->backward(*this, output_gradient);
    node->backward = nullptr;
    after_node();
  }
  nodes_.clear();
}

void Tape::Backward(const Value& output, Tensor gradient) {
  Walk(output, std::move(gradient), [this] { BackwardWeight(); });
}

void Tape::BackwardInput(const Value& output, Tensor gradient) {
  Walk(output, std::move(gradient), [] {});
}

Tensor Tape::TakeGradient(const Value& input) {
  CHECK(input.needs_gradient());
  Tensor gradient = std::move(gradients_[input.id]);
  CHECK(gradient.defined()) << "the input has no gradient";
  gradients_[input.id] = Tensor();
  return gradient;
}

void Tape::BackwardWeight() {
  for (std::function<void()>& work : weight_work_) {
    work();
    work = nullptr;
  }
  weight_work_.clear();
}

}  // namespace cairn
