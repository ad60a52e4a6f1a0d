#include "launcher/run_ranks.h"

#include <omp.h>
#include <sched.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <span>
#include <vector>

#include "launcher/placement.h"
#include "parallel/agreement.h"
#include "parallel/local_communicator.h"
#include "parallel/mpi_communicator.h"
#include "runtime/checkpoint/digest.h"
#include "runtime/checkpoint/file.h"

namespace cairn {
namespace {

// The cores that this process may run on.
int UsableCores() {
  cpu_set_t cores;
  CPU_ZERO(&cores);
  if (sched_getaffinity(0, sizeof(cores), &cores) != 0) return 1;
  return CPU_COUNT(&cores);
}

// A thread for each core, unless the user decided otherwise.
void UseCores(double cores) {
  if (std::getenv("OMP_NUM_THREADS") == nullptr) {
    omp_set_num_threads(std::max(1, static_cast<int>(cores + 1e-6)));
  }
}

int RunUnderMpi(const Program& program, const RankBody& body) {
  try {
    CheckLauncher();
  } catch (const Error& error) {
    if (IsFirstTask()) ReportError(error);
    return error.exit_status();
  }
  MpiSession session(program.argc, program.argv);
  // An error of one rank alone leaves the others waiting: the job is ended for all.
  try {
    CheckLaunchedWorld(session.size());
    UseCores(session.cores());
    const std::unique_ptr<Communicator> world = session.World();
    try {
      const std::vector<RankPlace> places =
          GatherPlaces(*world, session.local_rank(), omp_get_max_threads());
      if (world->rank() == 0) fmt::print(stderr, "{}\n", FormatPlaces(places));
      return body(*world, session.local_rank());
    } catch (const CollectiveError& error) {
      if (world->rank() == 0) ReportError(error);
      return error.exit_status();
    }
  } catch (const Error& error) {
    if (session.size() == 1) {
      ReportError(error);
      return error.exit_status();
    }
    ReportError(Error(error.kind(), fmt::format("rank {}: {}", session.rank(), error.where()),
                      error.message()));
    session.Abort(error.exit_status());
  } catch (const std::exception& error) {
    ReportError(Error(ErrorKind::kInternal, fmt::format("rank {}", session.rank()), error.what()));
    session.Abort(kExitRunFailed);
  }
}

}  // namespace

int RunRanks(const Program& program, const RankBody& body) {
  if (LaunchedByMpi()) return RunUnderMpi(program, body);
  UseUsableCores();
  const std::unique_ptr<Communicator> world = NewSingleCommunicator();
  return body(*world, 0);
}

void CheckSameEverywhere(Communicator& world, const Program& program, const TrainConfig& config) {
  std::string program_digest;
  RunTogether(world, [&] {
    if (world.size() == 1) return;
    Xxh3Stream digest;
    const std::string bytes = ReadWholeFile(program.executable, uint64_t{1} << 32);
    digest.Update(std::as_bytes(std::span(bytes)));
    program_digest = digest.HexDigest();
  });
  const std::string mine = program_digest + fmt::format("{:016x}", ConfigDigest(config));
  const std::vector<std::string> all = world.AllGatherBytes(mine);
  for (int rank = 0; rank < world.size(); ++rank) {
    if (all[rank] == all[0]) continue;
    const bool program_differs =
        all[rank].substr(0, program_digest.size()) != all[0].substr(0, program_digest.size());
    throw CollectiveError(
        ErrorKind::kUsage, fmt::format("rank {}", rank),
        program_differs
            ? "runs another build of cairn than rank 0; install the same program on every host"
            : "has another config than rank 0; give every rank the same CONFIG and overrides");
  }
}

int FailTogether(const Error& error, const Program& program) {
  if (!LaunchedByMpi()) {
    ReportError(error);
    return error.exit_status();
  }
  return RunUnderMpi(program, [&](Communicator& world, int) -> int {
    RunTogether(world, [&] { throw Error(error); });
    return error.exit_status();
  });
}

void UseUsableCores() { UseCores(UsableCores()); }

}  // namespace cairn
