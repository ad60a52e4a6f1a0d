#pragma once

#include <functional>

#include "launcher/program.h"
#include "parallel/communicator.h"

namespace cairn {

/// What a rank does; its exit status. `local_rank`: its place among the ranks of its host.
using RankBody = std::function<int(Communicator& world, int local_rank)>;

/// Runs `body` on every rank that a launcher started, or on the only one. An error that all ranks
/// share is reported once; one of a single rank ends them all. What takes signals must be there
/// before: MPI starts threads of its own, which would take them with their default effect.
int RunRanks(const Program& program, const RankBody& body);

/// Refuses ranks that run another program or have another config than rank 0: they would corrupt
/// the result, or hang. Collective.
void CheckSameEverywhere(Communicator& world, const Program& program, const TrainConfig& config);

/// Reports a command line that cannot be understood, once even where a launcher started many ranks
/// with it. Returns the exit status.
int FailTogether(const Error& error, const Program& program);

/// A thread for each core that this process may run on, unless OMP_NUM_THREADS says otherwise.
void UseUsableCores();

}  // namespace cairn
