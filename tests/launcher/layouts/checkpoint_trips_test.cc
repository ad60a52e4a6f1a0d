// A checkpoint belongs to the model: what layout A saved and B loads and saves again is the same to
// the bit, for every ordered pair of layouts.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "checkpoint_runs_testing.h"

namespace cairn::testing {
namespace {

struct Trips {
  const char* name;
  ModelSize size;
  const char* precision;
  std::vector<Layout> layouts;
};

void PrintTo(const Trips& trips, std::ostream* out) { *out << trips.name; }

// Five layers, which neither 2, 3 nor 4 stages share evenly.
ModelSize Small(int vocabulary) {
  return {.layers = 5,
          .hidden = 48,
          .heads = 12,
          .seq_length = 12,
          .vocabulary = vocabulary,
          .global_batch = 12,
          .initial_loss_scale = 0x1p26,
          .loss_scale_window = 2};
}

// Some steps of it, so that no component is what it is at the start: in fp16 some overflow, others
// let the scale grow.
constexpr int kSteps = 7;

std::vector<Trips> AllTrips() {
#ifdef CAIRN_SANITIZED
  return {{"Vocabulary17",
           Small(17),
           "fp16",
           {{}, {.tp = 3, .pp = 2}, {.tp = 2, .dp = 2, .zero = true}, {.pp = 4}}}};
#else
  return {{"Vocabulary127",
           Small(127),
           "fp16",
           {{},
            {.tp = 2},
            {.tp = 3},
            {.tp = 4},
            {.tp = 6},
            {.pp = 2},
            {.pp = 3},
            {.pp = 5},
            {.dp = 2, .zero = true},
            {.dp = 3, .zero = true},
            {.tp = 2, .pp = 2},
            {.tp = 2, .dp = 2, .zero = true},
            {.tp = 3, .pp = 2, .dp = 2},
            {.tp = 2, .pp = 3, .dp = 2, .zero = true},
            {.pp = 4, .dp = 3, .zero = true}}},
          // With six tensor-parallel ranks the last one holds padding alone.
          {"Vocabulary17",
           Small(17),
           "fp32",
           {{},
            {.tp = 6},
            {.tp = 3, .pp = 4},
            {.pp = 5, .dp = 2},
            {.tp = 4, .dp = 3, .zero = true},
            {.tp = 2, .pp = 2, .dp = 2, .zero = true}}},
          // An embedding of more than one block.
          {"Vocabulary31123",
           Small(31123),
           "bf16",
           {{},
            {.tp = 4},
            {.pp = 3},
            {.dp = 3, .zero = true},
            {.tp = 3, .pp = 2, .dp = 2, .zero = true}}}};
#endif
}

class TripsTest : public ::testing::TestWithParam<Trips> {
 protected:
  Layout WithPrecision(Layout layout) const {
    layout.precision = GetParam().precision;
    layout.micro_batch_size = 1;
    return layout;
  }

  // Loads run `from` in `layout` and saves into `into`.
  void Pass(const Layout& layout, const std::string& from, const std::string& into,
            const RunFolders::Sabotage& sabotage = {}) const {
    runs_.Train(WithPrecision(layout), 0, from, into, GetParam().size, sabotage);
  }

  void MakeOrigin() const { runs_.Train(WithPrecision({}), kSteps, "", "origin", GetParam().size); }

  const RunFolders runs_;
};

TEST_P(TripsTest, EveryPairOfLayoutsKeepsEveryBit) {
  MakeOrigin();
  const CheckpointContent origin = runs_.ContentOf("origin");
  const std::vector<Layout>& layouts = GetParam().layouts;
  for (size_t i = 0; i < layouts.size(); ++i) {
    const std::string saved = fmt::format("saved-{}", i);
    Pass(layouts[i], "origin", saved);
    ASSERT_TRUE(runs_.ContentOf(saved) == origin) << layouts[i].Name();
    for (const Layout& to : layouts) {
      Pass(to, saved, "trip");
      EXPECT_TRUE(runs_.ContentOf("trip") == origin) << layouts[i].Name() << " -> " << to.Name();
      runs_.Remove("trip");
    }
    runs_.Remove(saved);
  }
}

// The comparison can fail: with any one component left as a fresh engine has it, it does.
TEST_P(TripsTest, AComponentThatIsNotRestoredShows) {
  MakeOrigin();
  const CheckpointContent origin = runs_.ContentOf("origin");
  runs_.Train(WithPrecision({}), 0, "", "fresh", GetParam().size);
  const bool fp16 = std::string_view(GetParam().precision) == "fp16";
  const Layout layout{.tp = 2, .pp = 2};
  for (const ComponentFault& fault : ComponentFaults(runs_.ContentOf("fresh"))) {
    if (fault.only_fp16 && !fp16) continue;
    Pass(layout, "origin", "trip", fault.sabotage);
    EXPECT_FALSE(runs_.ContentOf("trip") == origin) << fault.name;
    runs_.Remove("trip");
  }
  Pass(layout, "origin", "trip");
  EXPECT_TRUE(runs_.ContentOf("trip") == origin);
}

INSTANTIATE_TEST_SUITE_P(Vocabularies, TripsTest, ::testing::ValuesIn(AllTrips()),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace cairn::testing
