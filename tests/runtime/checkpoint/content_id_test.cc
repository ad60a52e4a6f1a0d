#include "runtime/checkpoint/content_id.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <functional>

#include "runtime/checkpoint/digest.h"
#include "tests/runtime/checkpoint/checkpoint_testing.h"

namespace cairn {
namespace {

Manifest Description() {
  Manifest manifest;
  manifest.iteration = 7;
  manifest.consumed_samples = 56;
  manifest.tokens = 57344;
  manifest.config_text = "train { seed: 9 }\n";
  manifest.training_state = {.loss_scale = 65536,
                             .loss_scale_growth_tracker = 3,
                             .loss_scale_hysteresis = 2,
                             .optimizer_steps = 6,
                             .skipped_iterations = 1,
                             .seed = 9,
                             .skipped_samples = 4,
                             .loss_trend_count = 5,
                             .loss_trend_mean = 2,
                             .loss_trend_variance = 0.5};
  manifest.layout = {{"tensor_model_parallel_size", "2"}};
  return manifest;
}

// The order is not that of the text.
std::vector<WholeTensor> Tensors() {
  return {{"layers.10.w", "weight", "F32", {5, 6}, BytesOf(Values(30, 1))},
          {"layers.2.w", "weight", "F32", {5, 6}, BytesOf(Values(30, 2))},
          {"layers.2.w", "exp_avg", "F32", {5, 6}, BytesOf(Values(30, 3))},
          {"counter", "weight", "I64", {}, BytesOf(std::vector<int64_t>{5})},
          {"bias", "weight", "BF16", {3}, BytesOf(std::vector<uint16_t>{1, 2, 3})},
          {"none", "weight", "F32", {0, 4}, ""}};
}

std::string IdOf(const Manifest& description, const std::vector<WholeTensor>& tensors,
                 ContentScope scope = ContentScope::kAll, int pieces = 1, int shards = 1,
                 uint32_t seed = 0) {
  const TemporaryFolder folder;
  CheckpointReader reader(
      WriteTiledCheckpoint(folder.path(), description, tensors, pieces, shards, seed));
  return ContentId(reader, scope);
}

TEST(ContentIdTest, TheTextIsAsDocumented) {
  const TemporaryFolder folder;
  CheckpointReader reader(WriteTiledCheckpoint(folder.path(), Description(), Tensors(), 4, 2, 1));
  const std::vector<WholeTensor> t = Tensors();
  const std::string weights = fmt::format(
      "tensor bias weight BF16 [3] {}\n"
      "tensor counter weight I64 [] {}\n"
      "tensor layers.10.w weight F32 [5,6] {}\n",
      Sha256Hex(t[4].bytes), Sha256Hex(t[3].bytes), Sha256Hex(t[0].bytes));
  const std::string moment =
      fmt::format("tensor layers.2.w exp_avg F32 [5,6] {}\n", Sha256Hex(t[2].bytes));
  const std::string rest = fmt::format(
      "tensor layers.2.w weight F32 [5,6] {}\n"
      "tensor none weight F32 [0,4] {}\n",
      Sha256Hex(t[1].bytes), Sha256Hex(""));
  const std::string text =
      "cairn content 1\n"
      "iteration 7\n"
      "consumed_samples 56\n"
      "tokens 57344\n"
      "loss_scale 40f0000000000000\n"
      "loss_scale_growth_tracker 3\n"
      "loss_scale_hysteresis 2\n"
      "optimizer_steps 6\n"
      "skipped_iterations 1\n"
      "seed 9\n"
      "skipped_samples 4\n"
      "loss_trend_count 5\n"
      "loss_trend_mean 4000000000000000\n"
      "loss_trend_variance 3fe0000000000000\n" +
      weights + moment + rest;
  EXPECT_EQ(ContentText(reader, ContentScope::kAll), text);
  EXPECT_EQ(ContentId(reader, ContentScope::kAll), Sha256Hex(text));
  EXPECT_EQ(ContentText(reader, ContentScope::kWeights), "cairn weights 1\n" + weights + rest);
}

TEST(ContentIdTest, LayoutsDoNotMatter) {
  const std::string id = IdOf(Description(), Tensors());
  for (uint32_t seed = 0; seed < 8; ++seed) {
    Manifest description = Description();
    description.layout = {{"pipeline_model_parallel_size", fmt::to_string(seed)}};
    description.config_text = "";
    std::vector<WholeTensor> tensors = Tensors();
    std::ranges::rotate(tensors, tensors.begin() + 1 + seed % 5);
    EXPECT_EQ(IdOf(description, tensors, ContentScope::kAll, 2 + static_cast<int>(seed),
                   1 + static_cast<int>(seed % 4), seed),
              id)
        << seed;
  }
}

TEST(ContentIdTest, EverythingElseMatters) {
  const auto state = [](auto change) {
    return std::function<void(Manifest&, std::vector<WholeTensor>&)>(
        [=](Manifest& m, std::vector<WholeTensor>&) { change(m); });
  };
  const auto tensor = [](auto change) {
    return std::function<void(Manifest&, std::vector<WholeTensor>&)>(
        [=](Manifest&, std::vector<WholeTensor>& t) { change(t); });
  };
  const std::vector<std::function<void(Manifest&, std::vector<WholeTensor>&)>> changes = {
      state([](Manifest& m) { ++m.iteration; }),
      state([](Manifest& m) { ++m.consumed_samples; }),
      state([](Manifest& m) { ++m.tokens; }),
      state([](Manifest& m) { m.training_state.loss_scale += 1; }),
      state([](Manifest& m) { ++m.training_state.loss_scale_growth_tracker; }),
      state([](Manifest& m) { ++m.training_state.loss_scale_hysteresis; }),
      state([](Manifest& m) { ++m.training_state.optimizer_steps; }),
      state([](Manifest& m) { ++m.training_state.skipped_iterations; }),
      state([](Manifest& m) { ++m.training_state.seed; }),
      state([](Manifest& m) { ++m.training_state.skipped_samples; }),
      state([](Manifest& m) { ++m.training_state.loss_trend_count; }),
      state([](Manifest& m) { m.training_state.loss_trend_mean += 1; }),
      state([](Manifest& m) { m.training_state.loss_trend_variance += 1; }),
      tensor([](auto& t) { t[2].bytes[60] ^= 1; }),
      tensor([](auto& t) { t[2].kind = "exp_avg_sq"; }),
      tensor([](auto& t) { t.pop_back(); }),
      tensor([](auto& t) { t[0].bytes.back() ^= 1; }),
      tensor([](auto& t) {
        t[0].shape = {6, 5};
      }),
      tensor([](auto& t) { t[0].name = "layers.11.w"; }),
      tensor([](auto& t) { t[0].dtype = "I32"; }),
      tensor([](auto& t) { std::swap(t[0].bytes, t[1].bytes); }),
  };
  constexpr size_t kFirstOfWeights = 15;
  const std::string id = IdOf(Description(), Tensors());
  const std::string weights = IdOf(Description(), Tensors(), ContentScope::kWeights);
  EXPECT_NE(id, weights);
  for (size_t i = 0; i < changes.size(); ++i) {
    Manifest description = Description();
    std::vector<WholeTensor> tensors = Tensors();
    changes[i](description, tensors);
    EXPECT_NE(IdOf(description, tensors), id) << i;
    const std::string changed = IdOf(description, tensors, ContentScope::kWeights);
    EXPECT_EQ(changed == weights, i < kFirstOfWeights) << i;
  }
}

}  // namespace
}  // namespace cairn
