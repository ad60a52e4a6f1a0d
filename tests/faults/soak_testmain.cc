// faults_soak POINTS SEED: faults drawn at random, in runs drawn at random, one after the other in
// the same folder; and power losses. Prints what replays a failure, and ends with status 1.
#include <fmt/format.h>

#include <cstdlib>
#include <random>

#include "points_testing.h"
#include "timeline_testing.h"

namespace cairn::faults {
namespace {

using Random = std::mt19937_64;

constexpr int kFaultsARun = 20;
constexpr int kFaultsInARow = 3;
constexpr size_t kStatesAtAnOperation = 4;

const Plan& Draw(const std::vector<Plan>& plans, Random& random) {
  return plans[random() % plans.size()];
}

bool Report(const std::string& what, const std::vector<std::string>& problems) {
  for (const std::string& problem : problems) fmt::print("{}: {}\n", what, problem);
  return problems.empty();
}

// A fault, and while it is a kill, others in what it left. Counts them; false if one is not borne.
bool InjectInARow(Points& points, const Plan& plan, int more, Random& random, int64_t& count) {
  ++count;
  const bool kill = plan.action <= Action::kTear && plan.action != Action::kNone;
  const bool go_on = !kill || more == 0 || random() % 2 == 0;
  const std::vector<std::string> problems = points.Inject(plan, go_on);
  if (!Report(Describe(plan, points.shared().report), problems)) return false;
  if (go_on) return true;
  const Scenario next = Found(points.scenario(), points.scratch().run());
  Points left(next, ReadFolder(points.scratch().root()));
  if (InjectInARow(left, Draw(left.All(), random), more - 1, random, count)) return true;
  fmt::print("... after {}\n", Describe(plan, points.shared().report));
  return false;
}

bool LosePowerSomewhere(Points& points, const std::vector<Plan>& plans, Random& random,
                        int64_t& count) {
  Plan kill;
  while (kill.action != Action::kKillAfter || kill.one_rank) kill = Draw(plans, random);
  const Timeline timeline = random() % 2 == 0 ? TimelineOf(points) : KillThenRun(points, kill, {});
  Seen seen;
  const std::vector<std::string> problems =
      LosePower(timeline, kStatesAtAnOperation, seen, random());
  count += static_cast<int64_t>(seen.size());
  const std::string before =
      timeline.skipped == 0
          ? ""
          : fmt::format("after a kill after operation {} of rank {}: ", kill.index, kill.rank);
  return Report(before + "power loss", problems);
}

int Main(int64_t points_wanted, uint64_t seed) {
  int64_t faults = 0;
  int64_t losses = 0;
  int64_t told = 0;
  for (; faults + losses < points_wanted; ++seed) {
    Random random(seed);
    Points points(RandomScenario(seed));
    const std::vector<Plan> plans = points.All();
    bool good = true;
    for (int i = 0; i < kFaultsARun && good; ++i) {
      good = InjectInARow(points, Draw(plans, random), kFaultsInARow - 1, random, faults);
    }
    good = good && LosePowerSomewhere(points, plans, random, losses);
    if (!good) {
      fmt::print("in a run of {} ranks; to replay: tests/soak.sh 1 {}\n", points.scenario().ranks,
                 seed);
      return 1;
    }
    if ((faults + losses) / 10000 > told) {
      told = (faults + losses) / 10000;
      fmt::print("{} faults, {} power losses; next seed {}\n", faults, losses, seed + 1);
      std::fflush(stdout);
    }
  }
  fmt::print("{} faults, {} power losses: all borne\n", faults, losses);
  return 0;
}

}  // namespace
}  // namespace cairn::faults

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  return cairn::faults::Main(std::atoll(argv[1]), std::strtoull(argv[2], nullptr, 10));
}
