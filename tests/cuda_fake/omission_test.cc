#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>

#include "fake_training_testing.h"

namespace cairn::testing {
namespace {

bool Noticed(const FakeOutcome& outcome) {
  return !outcome.problems.empty() || !outcome.error.empty() ||
         std::ranges::any_of(outcome.points, [](const Point& point) {
           return !std::isfinite(point.lm_loss) || !std::isfinite(point.grad_norm);
         });
}

// Every wait for an event, left out alone, is noticed. But for those before a receive into memory
// that nothing else has used since the host last waited; others before receives are needed.
TEST(OmissionTest, OfEachWaitForAnEvent) {
  bool receive_noticed = false;
  for (const Layout& layout :
       {Layout{.pp = 2, .dp = 2, .zero = true}, Layout{.tp = 2, .dp = 2},
        Layout{.pp = 3, .schedule = "gpipe"},
        Layout{.tp = 2, .pp = 2, .sequence_parallel = true, .deterministic = true}}) {
    const FakeRun run{.layout = layout, .steps = 1};
    ASSERT_FALSE(Noticed(TrainOnFakes(run))) << layout.Name();
    std::vector<int64_t> waits;
    for (int device = 0; device < layout.ranks(); ++device) {
      waits.push_back(fake::Calls(device, "cudaStreamWaitEvent"));
    }
    for (int device = 0; device < layout.ranks(); ++device) {
      for (int64_t index = 0; index < waits[device]; ++index) {
        FakeRun without = run;
        without.behaviour.omission = {device, "cudaStreamWaitEvent", index};
        const bool noticed = Noticed(TrainOnFakes(without));
        const bool receive = fake::OmittedBefore().starts_with("Recv");
        EXPECT_TRUE(noticed || receive) << layout.Name() << ", rank " << device << ", wait "
                                        << index << " before " << fake::OmittedBefore();
        receive_noticed = receive_noticed || (noticed && receive);
      }
    }
  }
  EXPECT_TRUE(receive_noticed);
}

// One rank waits with its host for copies to the host alone; those from the host are the runtime's
// to take before it returns.
TEST(OmissionTest, OfTheWaitForTheLossOrTheNorm) {
  const FakeRun run{.layout = {}, .steps = 1};
  ASSERT_FALSE(Noticed(TrainOnFakes(run)));
  const int64_t waits = fake::Calls(0, "cudaStreamSynchronize");
  int noticed = 0;
  for (int64_t index = 0; index < waits; ++index) {
    FakeRun without = run;
    without.behaviour.omission = {0, "cudaStreamSynchronize", index};
    noticed += Noticed(TrainOnFakes(without)) ? 1 : 0;
  }
  EXPECT_GE(noticed, 3);  // loss and norm of the step, loss of the evaluation
}

}  // namespace
}  // namespace cairn::testing
