#pragma once

#include <memory>
#include <string>

#include "parallel/communicator.h"

namespace cairn {

/// MPI_Init_thread ... MPI_Finalize as a scope; one per process, made in `main` and outliving every
/// communicator. Errors are returned, not fatal (MPI_ERRORS_RETURN). An error in flight destroys
/// communicators and session without waiting for other ranks: `main` catches it while the session
/// lives, reports it, and calls Abort, which ends them.
class MpiSession {
 public:
  /// Throws Error(kCommunication) when MPI does not start or lacks MPI_THREAD_MULTIPLE.
  MpiSession(int* argc, char*** argv);
  ~MpiSession();
  MpiSession(const MpiSession&) = delete;
  MpiSession& operator=(const MpiSession&) = delete;

  /// All ranks. Groups whose ranks are all on one host reduce and gather in memory that they share,
  /// or by messages like others unless `share_memory`.
  std::unique_ptr<Communicator> World(bool share_memory = true);
  int rank() const { return rank_; }
  int size() const { return size_; }
  /// Rank and number of ranks on this host (for device choice).
  int local_rank() const { return local_rank_; }
  int local_size() const { return local_size_; }
  /// The cores of this host that are this rank's: one that k of its ranks may run on counts 1/k.
  double cores() const { return cores_; }
  /// Ends the job: no MPI_Finalize follows. Does not return.
  [[noreturn]] void Abort(int exit_status);

 private:
  int rank_ = 0;
  int size_ = 1;
  int local_rank_ = 0;
  int local_size_ = 1;
  double cores_ = 1;
};

/// True when the environment says that an MPI launcher started this process: mpirun, or srun with
/// more than one task.
bool LaunchedByMpi();

/// Refuses, before MPI starts, an srun that this MPI cannot learn its world from. Throws
/// Error(kUsage) with what to change.
void CheckLauncher();

/// True for one of the tasks that a launcher started, and where there was no launcher.
bool IsFirstTask();

/// Refuses "singletons": a launcher that promised N ranks (SLURM_NTASKS of a step,
/// OMPI_COMM_WORLD_SIZE) while MPI formed a world of another size. Throws Error(kUsage) with what
/// to change.
void CheckLaunchedWorld(int world_size);

}  // namespace cairn
