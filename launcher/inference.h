#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "launcher/factories.h"
#include "launcher/program.h"
#include "runtime/data/tokenizer.h"

namespace cairn {

/// A model on one rank for evaluation and generation, whatever layout its checkpoint has.
class LoadedModel {
 public:
  /// `name`: a checkpoint's step folder, a run folder (its newest good checkpoint), or a config or
  /// preset (its untrained weights).
  LoadedModel(const std::string& name, const Program& program);
  ~LoadedModel();

  const TrainConfig& config() const { return config_; }
  int64_t iteration() const { return iteration_; }

  /// Logits over the vocabulary of what follows `tokens` (1 to seq_length of them).
  std::vector<float> NextLogits(std::span<const int32_t> tokens);
  /// Sum of the losses of `targets` after `tokens`, samples × seq_length of each.
  double SumOfLosses(std::span<const int32_t> tokens, std::span<const int32_t> targets);

 private:
  void BuildStage();
  void BuildBuffers();
  Microbatch MakeBatch(std::span<const int32_t> tokens, int64_t seq_length) const;

  TrainConfig config_;
  int64_t iteration_ = 0;
  std::unique_ptr<Device> device_;
  std::unique_ptr<Communicator> world_;
  std::unique_ptr<Mesh> mesh_;
  std::unique_ptr<ParameterRegistry> registry_;
  std::unique_ptr<GptStage> stage_;
  std::unique_ptr<ParameterBuffers> buffers_;
};

}  // namespace cairn
