#include "runtime/checkpoint/content_id.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <bit>
#include <tuple>

#include "runtime/checkpoint/digest.h"
#include "runtime/checkpoint/tensor_stream.h"

namespace cairn {
namespace {

std::string ValueText(const StateField& field) {
  const auto* const real = std::get_if<double>(&field.value);
  if (real != nullptr) return fmt::format("{:016x}", std::bit_cast<uint64_t>(*real));
  return std::visit([](auto value) { return fmt::format("{}", value); }, field.value);
}

std::string ElementsSha256(CheckpointReader& reader, const TensorEntry& tensor) {
  Sha256Stream digest;
  TensorStream stream(reader, tensor);
  for (auto piece = stream.Next(); !piece.empty(); piece = stream.Next()) digest.Update(piece);
  return digest.HexDigest();
}

}  // namespace

std::vector<StateField> StateFields(const Manifest& manifest) {
  const TrainingState& state = manifest.training_state;
  return {{"iteration", manifest.iteration},
          {"consumed_samples", manifest.consumed_samples},
          {"tokens", manifest.tokens},
          {"loss_scale", state.loss_scale},
          {"loss_scale_growth_tracker", state.loss_scale_growth_tracker},
          {"loss_scale_hysteresis", state.loss_scale_hysteresis},
          {"optimizer_steps", state.optimizer_steps},
          {"skipped_iterations", state.skipped_iterations},
          {"seed", state.seed},
          {"skipped_samples", state.skipped_samples},
          {"loss_trend_count", state.loss_trend_count},
          {"loss_trend_mean", state.loss_trend_mean},
          {"loss_trend_variance", state.loss_trend_variance}};
}

std::string ContentText(CheckpointReader& reader, ContentScope scope) {
  std::vector<const TensorEntry*> tensors;
  for (const TensorEntry& tensor : reader.manifest().tensors) {
    if (scope == ContentScope::kAll || tensor.kind == kWeightKind) tensors.push_back(&tensor);
  }
  std::ranges::sort(tensors, {}, [](const TensorEntry* t) { return std::tie(t->name, t->kind); });

  std::string text = scope == ContentScope::kAll ? "cairn content 1\n" : "cairn weights 1\n";
  if (scope == ContentScope::kAll) {
    for (const StateField& field : StateFields(reader.manifest())) {
      text += fmt::format("{} {}\n", field.name, ValueText(field));
    }
  }
  for (const TensorEntry* tensor : tensors) {
    text += fmt::format("tensor {} {} {} [{}] {}\n", tensor->name, tensor->kind, tensor->dtype,
                        fmt::join(tensor->shape, ","), ElementsSha256(reader, *tensor));
  }
  return text;
}

std::string ContentId(CheckpointReader& reader, ContentScope scope) {
  return Sha256Hex(ContentText(reader, scope));
}

}  // namespace cairn
