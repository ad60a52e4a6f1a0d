#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <mutex>

#include "parallel/local_communicator.h"
#include "tests/model/gpt_parity_testing.h"

namespace cairn::testing {
namespace {

struct Tolerance {
  double loss;      // relative
  double logits;    // relative, see Deviation; both of its numbers
  double gradient;  // the same, of each parameter
};

struct ParityCase {
  const char* name;
  const char* reference;
  TestLayout layout;
  Tolerance tolerance = {1e-5, 1e-5, 1e-5};

  friend void PrintTo(const ParityCase& wanted, std::ostream* out) { *out << wanted.name; }
};

std::string CaseName(const ::testing::TestParamInfo<ParityCase>& info) { return info.param.name; }

// Markdown rows of what was measured, if CAIRN_PARITY_TABLE is set: for docs/parity.md.
class Table {
 public:
  void Add(const std::string& quantity, const Deviation& deviation) {
    const std::lock_guard<std::mutex> lock(mutex_);
    Deviation& worst = rows_[quantity];
    worst.norm = std::max(worst.norm, deviation.norm);
    worst.max = std::max(worst.max, deviation.max);
  }
  void Print(const char* name) const {
    if (std::getenv("CAIRN_PARITY_TABLE") == nullptr) return;
    fmt::print("\n{}\n\n| quantity | norm | largest |\n|---|---|---|\n", name);
    for (const auto& [quantity, deviation] : rows_) {
      fmt::print("| `{}` | {:.1e} | {:.1e} |\n", quantity, deviation.norm, deviation.max);
    }
  }

 private:
  std::mutex mutex_;
  std::map<std::string, Deviation> rows_;  // the worst rank's
};

class GptParityTest : public ::testing::TestWithParam<ParityCase> {
 protected:
  ~GptParityTest() override { table_.Print(GetParam().name); }

  void Expect(const std::string& quantity, const Deviation& deviation, double tolerance) {
    table_.Add(quantity, deviation);
    EXPECT_LE(deviation.norm, tolerance) << quantity;
    EXPECT_LE(deviation.max, tolerance) << quantity;
  }

  // Runs on each rank.
  void CheckRank(Communicator& world) {
    const Tolerance& tolerance = GetParam().tolerance;
    ModelRank rank(world, reference_, GetParam().layout);
    CheckLogits(rank, tolerance.logits);

    Expect("loss", Compare(rank.Run(), reference_.reference.Read<double>("loss")[0]),
           tolerance.loss);

    for (const Parameter* parameter : rank.parameters()) {
      Expect(
          parameter->name,
          Compare(rank.Gradient(*parameter),
                  reference_.reference.ReadShard(parameter->shard, "gradient." + parameter->name)),
          tolerance.gradient);
    }
  }

  void CheckLogits(ModelRank& rank, double tolerance) {
    const std::vector<float> local = rank.Logits();
    if (!rank.mesh().last_stage()) return;
    Shape shape;  // [samples, seq_length, vocabulary]
    const auto all = reference_.reference.Read<float>("logits", &shape);
    const VocabShard shard = rank.vocab_shard();
    if (shard.rows == 0) return;  // all padding
    const int64_t tokens = reference_.samples / GetParam().layout.mesh.dp * shape[1];
    const auto local_columns = static_cast<int64_t>(local.size()) / tokens;
    ASSERT_GE(local_columns, shard.rows);
    std::vector<float> actual;
    std::vector<float> expected;
    for (int64_t token = 0; token < tokens; ++token) {
      const auto from = local.begin() + token * local_columns;
      actual.insert(actual.end(), from, from + shard.rows);
      const int64_t global_token = rank.first_sample() * shape[1] + token;
      const auto wanted = all.begin() + global_token * shape[2] + shard.first_row;
      expected.insert(expected.end(), wanted, wanted + shard.rows);
    }
    Expect("logits", Compare(actual, expected), tolerance);
  }

  ReferenceCase reference_{GetParam().reference};
  Table table_;
};

TEST_P(GptParityTest, MatchesPyTorch) {
  const int ranks = GetParam().layout.mesh.world();
  if (ranks == 1) {
    const std::unique_ptr<Communicator> alone = NewSingleCommunicator();
    CheckRank(*alone);
  } else {
    RunLocalRanks(ranks, [&](Communicator& world) { CheckRank(world); });
  }
}

INSTANTIATE_TEST_SUITE_P(
    OneRank, GptParityTest,
    ::testing::Values(ParityCase{"Gpt", "gpt", {.micro_batch_size = 4}},
                      ParityCase{"GptMicrobatches", "gpt", {.micro_batch_size = 1}},
                      ParityCase{
                          "GptRecompute", "gpt", {.recompute = "full", .micro_batch_size = 2}},
                      ParityCase{"GptSelective", "gpt", {.recompute = "selective"}},
                      ParityCase{"GptExact", "gpt", {.exact = true, .micro_batch_size = 2}},
                      ParityCase{"Grouped", "grouped", {.micro_batch_size = 2}}),
    CaseName);

INSTANTIATE_TEST_SUITE_P(
    ManyRanks, GptParityTest,
    ::testing::Values(
        // The second rank of the vocabulary holds nothing but padding.
        ParityCase{"Tp2", "gpt", {.mesh = {.tp = 2}, .vocab_multiple = 128}},
        ParityCase{"Tp2Sequence",
                   "gpt",
                   {.mesh = {.tp = 2}, .sequence_parallel = true, .micro_batch_size = 2}},
        ParityCase{"Tp4Sequence",
                   "gpt",
                   {.mesh = {.tp = 4}, .sequence_parallel = true, .micro_batch_size = 4}},
        ParityCase{"Pp3", "gpt", {.mesh = {.pp = 3}}},
        ParityCase{"Pp2Gpipe", "gpt", {.mesh = {.pp = 2}, .schedule = "gpipe"}},
        ParityCase{"Dp2", "gpt", {.mesh = {.dp = 2}}},
        ParityCase{"Tp2Pp3", "gpt", {.mesh = {.tp = 2, .pp = 3}, .micro_batch_size = 2}},
        ParityCase{"Tp2SequencePp3Recompute",
                   "gpt",
                   {.mesh = {.tp = 2, .pp = 3},
                    .sequence_parallel = true,
                    .recompute = "full",
                    .micro_batch_size = 2}},
        ParityCase{"Tp2SequenceDp2Pp2Exact",
                   "gpt",
                   {.mesh = {.tp = 2, .dp = 2, .pp = 2},
                    .sequence_parallel = true,
                    .exact = true,
                    .micro_batch_size = 2}},
        ParityCase{"GroupedTp2Sequence",
                   "grouped",
                   {.mesh = {.tp = 2}, .sequence_parallel = true, .micro_batch_size = 2}}),
    CaseName);

// Weights and activations are rounded to 8 or 11 bits.
constexpr Tolerance kBFloat16 = {2e-2, 4e-2, 4e-2};
constexpr Tolerance kFloat16 = {5e-3, 6e-3, 6e-3};

INSTANTIATE_TEST_SUITE_P(
    HalfPrecision, GptParityTest,
    ::testing::Values(
        ParityCase{
            "BFloat16", "gpt", {.dtype = DType::kBFloat16, .micro_batch_size = 4}, kBFloat16},
        ParityCase{"BFloat16Tp2SequencePp3",
                   "gpt",
                   {.mesh = {.tp = 2, .pp = 3},
                    .sequence_parallel = true,
                    .dtype = DType::kBFloat16,
                    .micro_batch_size = 2},
                   kBFloat16},
        ParityCase{"Float16",
                   "gpt",
                   {.dtype = DType::kFloat16, .micro_batch_size = 4, .loss_scale = 4096},
                   kFloat16},
        ParityCase{
            "Float16Exact",
            "gpt",
            {.exact = true, .dtype = DType::kFloat16, .micro_batch_size = 2, .loss_scale = 4096},
            kFloat16},
        ParityCase{"Float16Tp2SequencePp3",
                   "gpt",
                   {.mesh = {.tp = 2, .pp = 3},
                    .sequence_parallel = true,
                    .dtype = DType::kFloat16,
                    .micro_batch_size = 2},
                   kFloat16}),
    CaseName);

}  // namespace
}  // namespace cairn::testing
