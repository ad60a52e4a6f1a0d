#pragma once

#include <functional>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/tensor/tensor.h"

namespace cairn {

/// A tensor in the forward pass, and the place of its gradient on the tape (-1: none is wanted).
struct Value {
  Tensor data;
  int id = -1;
  /// Where set: computes `data` once more, bit by bit, from what the tape keeps anyway. (Where a
  /// GPU's product computed `data` on its way, from a sum that the tape keeps rounded, or has it
  /// from another kernel: up to that rounding, the same in every run.) The op that needs the data
  /// in the backward pass keeps this in its place.
  std::function<Tensor()> again = {};

  bool needs_gradient() const { return id >= 0; }
};

/// What an op keeps of an input for the backward pass: the data, or how to have it again.
class Saved {
 public:
  Saved() = default;
  explicit Saved(const Value& value)
      : data_(value.again ? Tensor() : value.data), again_(value.again) {}
  explicit Saved(std::function<Tensor()> again) : again_(std::move(again)) {}

  Tensor Get() const { return again_ ? again_() : data_; }

 private:
  Tensor data_;
  std::function<Tensor()> again_;
};

/// The record of one forward pass through one chunk of the model for one microbatch: a flat list of
/// nodes in the order in which ops ran. The backward pass has two phases, so that schedules may
/// delay weight gradients (zero bubble, Qi et al. 2023).
class Tape {
 public:
  struct Options {
    /// False: ops compute values only (evaluation, generation).
    bool recording = true;
    /// Rows of one sample in a [tokens, features] matrix. Not 0: products run sample by sample, so
    /// that the bits of a token's result do not depend on the microbatch it came with.
    int64_t rows_per_sample = 0;
    /// False: what a GELU was applied to is not kept. The product that it came from runs again.
    bool keep_gelu_inputs = true;
  };
  using BackwardInputFn = std::function<void(Tape& tape, const Tensor& output_gradient)>;

  Tape() = default;
  explicit Tape(const Options& options) : options_(options) {}
  Tape(const Tape&) = delete;
  Tape& operator=(const Tape&) = delete;

  const Options& options() const { return options_; }
  bool recording() const { return options_.recording; }

  /// A value whose gradient the caller will take (the activation a stage received).
  Value Input(Tensor data);

  /// Appends a node: `output` came out of the op `name`; `backward` gets the gradient of the
  /// output, adds to the gradients of the op's inputs and defers its weight gradients. When not
  /// recording, or when `backward` is null, the value is a constant.
  Value Record(std::string_view name, Tensor output, BackwardInputFn backward);

  /// Called by `backward`: adds `gradient` to that of the value `id` (-1: dropped). The first
  /// gradient is kept as it is, so the caller gives it away: nobody may write to it later. (An id
  /// and not a Value: a closure that holds a Value keeps its data alive, wanted or not.)
  void AddGradient(int id, Tensor gradient);

  /// Called by `backward`: `work` computes gradients of weights in BackwardWeight().
  void DeferWeightGradient(std::function<void()> work);

  /// Both phases, node by node: what a node saved is released with it. One of this and
  /// BackwardInput() can be called, once.
  void Backward(const Value& output, Tensor gradient);
  /// Walks the nodes in reverse from `output` with its gradient. Saved tensors are released node by
  /// node, but for what the deferred weight gradients hold.
  void BackwardInput(const Value& output, Tensor gradient);
  /// The gradient of an Input after the backward pass; each can be taken once.
  Tensor TakeGradient(const Value& input);
  /// Runs the deferred weight gradients in the order in which they were deferred, releasing what
  /// they held.
  void BackwardWeight();

  size_t num_nodes() const { return nodes_.size(); }

 private:
  struct Node {
    std::string_view name;  // string literals
    int output;
    BackwardInputFn backward;
  };

  template <typename AfterNode>
  void Walk(const Value& output, Tensor gradient, AfterNode after_node);

  Options options_;
  std::vector<Node> nodes_;
  std::vector<Tensor> gradients_;  // by value id
  std::vector<std::function<void()>> weight_work_;
};

}  // namespace cairn
