#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model/forward_context.h"
#include "parallel/parameter_buffers.h"
#include "parallel/state_piece.h"

namespace cairn {

/// Where the first number that is not finite came from.
struct Culprit {
  bool in_state = false;  ///< in the weights or the optimizer's state: no step mends it
  std::string text;       ///< what, on which rank, and where it can be told in which samples
};

/// Searches the numbers of a step that is run again for the first that is not finite, in the order
/// in which one leads to the next: the state, each microbatch's forward pass, its gradients.
/// Each rank looks at its own; Conclude compares.
class Diagnosis {
 public:
  /// The step's batch begins with sample `first_sample` of the run, and each data-parallel rank
  /// takes `samples_per_rank` of it.
  Diagnosis(const Mesh& mesh, const ParameterList& parameters, int64_t first_sample,
            int64_t samples_per_rank);

  /// Main weights and moments, and the weights that the passes read.
  void LookAtState(const std::vector<StatePiece>& state);
  /// What a forward pass observes (ForwardContext).
  void LookAtForward(const Microbatch& batch, std::string_view what, const Tensor& numbers);
  /// The gradients that this rank has summed up, of which those of `batch` are the last.
  void LookAtGradients(const Microbatch& batch, const std::vector<Bucket>& buckets);
  /// The first of all ranks, on every rank; nothing if all that was looked at is finite.
  /// Collective.
  std::optional<Culprit> Conclude();

 private:
  // What comes first is less.
  enum class Kind : int64_t { kMainState, kWeight, kForward, kGradient };
  struct Finding {
    std::array<int64_t, 4> order;
    std::string text;
  };

  template <typename Describe>
  void Look(const std::array<int64_t, 4>& order, const Tensor& tensor, const Describe& describe);
  int64_t IndexOf(const Parameter& parameter) const;
  std::string Name(const Microbatch& batch) const;

  const Mesh* mesh_;
  const ParameterList* parameters_;
  int64_t first_sample_;
  int64_t samples_per_rank_;
  int64_t looks_ = 0;  // at forward passes
  std::optional<Finding> first_;
};

}  // namespace cairn
