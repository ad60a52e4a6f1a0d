// A part of the layout matrix over MPI: this world's layouts equal one rank.
#include "layouts_testing.h"
#include "parallel/local_communicator.h"
#include "parallel/mpi_communicator.h"
#include "runtime/base/error.h"

namespace {

using cairn::testing::LargestDeviation;
using cairn::testing::Layout;
using cairn::testing::LayoutConfig;
using cairn::testing::LayoutsOf;
using cairn::testing::TrainOnRank;

constexpr int kIterations = 5;

// Returns how many layouts deviate; every rank sees the same losses.
int CountFailures(cairn::Communicator& world) {
  const auto one = cairn::NewSingleCommunicator();
  const auto expected = TrainOnRank(LayoutConfig({}), *one, kIterations);
  int failures = 0;
  for (Layout layout : LayoutsOf(world.size())) {
    layout.sequence_parallel = layout.tp > 1 && layout.pp > 1;
    layout.zero = layout.dp > 1 && layout.tp == 1;
    layout.micro_batch_size = layout.dp == 1 ? 3 : 1;
    const double deviation =
        LargestDeviation(TrainOnRank(LayoutConfig(layout), world, kIterations), expected);
    const bool good = deviation <= 2e-5;
    failures += good ? 0 : 1;
    if (world.rank() == 0) {
      std::printf("%s: %s, deviation %.1e\n", good ? "ok" : "FAILED", layout.Name().c_str(),
                  deviation);
    }
  }
  return failures;
}

}  // namespace

int main(int argc, char** argv) {
  cairn::MpiSession session(&argc, &argv);
  try {
    const auto world = session.World();
    if (argc > 1 && std::string(argv[1]) == "fail" && world->rank() == 1) {
      throw cairn::Error(cairn::ErrorKind::kInternal, "rank 1", "thrown on purpose");
    }
    return CountFailures(*world) == 0 ? 0 : 1;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    session.Abort(cairn::kExitRunFailed);
  }
}
