#include <glog/logging.h>
#include <mpi.h>
#include <sched.h>

#include <array>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <optional>

#include "parallel/mpi_call.h"
#include "parallel/mpi_communicator.h"
#include "runtime/base/error.h"

namespace cairn {
namespace {

// What a launcher promised to this process through its environment.
struct Promise {
  const char* launcher;
  const char* variable;
  int ranks;
};

std::optional<Promise> ReadPromise(const char* launcher, const char* variable) {
  const char* text = std::getenv(variable);
  if (text == nullptr) return std::nullopt;
  Promise promise{launcher, variable, 0};
  const char* end = text + std::strlen(text);
  const auto [stop, error] = std::from_chars(text, end, promise.ranks);
  if (error != std::errc() || stop != end || promise.ranks < 1) {
    Throw(ErrorKind::kUsage, variable, "'{}' in the environment is not a number of ranks", text);
  }
  return promise;
}

std::optional<Promise> LaunchPromise() {
  // In this order: under mpirun inside a SLURM job the SLURM variables tell of the allocation, and
  // of no step at all in the batch script.
  if (auto promise = ReadPromise("mpirun", "OMPI_COMM_WORLD_SIZE")) return promise;
  if (std::getenv("SLURM_STEP_ID") != nullptr) {
    if (auto promise = ReadPromise("srun", "SLURM_STEP_NUM_TASKS")) return promise;
    if (auto promise = ReadPromise("srun", "SLURM_NTASKS")) return promise;
  }
  return ReadPromise("the launcher", "PMI_SIZE");
}

bool IsSrun(const Promise& promise) { return std::strcmp(promise.launcher, "srun") == 0; }

// What is this rank's of the cores that it may run on, where ranks of `host` share some.
double ShareOfCores(MPI_Comm host) {
  cpu_set_t mine;
  CPU_ZERO(&mine);
  // It fails on hosts with more cores than the type has room for: on all ranks of one, or none.
  if (sched_getaffinity(0, sizeof(mine), &mine) != 0) return 1;
  std::array<int, CPU_SETSIZE> sharers{};
  for (int core = 0; core < CPU_SETSIZE; ++core) sharers[core] = CPU_ISSET(core, &mine) ? 1 : 0;
  CheckMpi(MPI_Allreduce(MPI_IN_PLACE, sharers.data(), CPU_SETSIZE, MPI_INT, MPI_SUM, host),
           "Allreduce", "host");
  double cores = 0;
  for (int core = 0; core < CPU_SETSIZE; ++core) {
    if (CPU_ISSET(core, &mine)) cores += 1.0 / sharers[core];
  }
  return cores;
}

}  // namespace

MpiSession::MpiSession(int* argc, char*** argv) {
  // Ranks often share cores; one that waits in MPI shall leave its core to the others.
  if (setenv("OMPI_MCA_mpi_yield_when_idle", "1", /*overwrite=*/0) != 0) {
    ThrowErrno(errno, "setenv", "OMPI_MCA_mpi_yield_when_idle");
  }
  int provided = MPI_THREAD_SINGLE;
  CheckMpi(MPI_Init_thread(argc, argv, MPI_THREAD_MULTIPLE, &provided), "Init_thread", "world");
  if (provided < MPI_THREAD_MULTIPLE) {
    MPI_Finalize();
    Throw(ErrorKind::kCommunication, "mpi Init_thread",
          "this MPI offers thread level {}; MPI_THREAD_MULTIPLE ({}) is needed", provided,
          MPI_THREAD_MULTIPLE);
  }
  for (const MPI_Comm comm : {MPI_COMM_WORLD, MPI_COMM_SELF}) {
    CheckMpi(MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN), "Comm_set_errhandler", "world");
  }
  CheckMpi(MPI_Comm_rank(MPI_COMM_WORLD, &rank_), "Comm_rank", "world");
  CheckMpi(MPI_Comm_size(MPI_COMM_WORLD, &size_), "Comm_size", "world");
  MPI_Comm host = MPI_COMM_NULL;
  CheckMpi(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, rank_, MPI_INFO_NULL, &host),
           "Comm_split_type", "world");
  const MpiGroup group(host);
  CheckMpi(MPI_Comm_rank(host, &local_rank_), "Comm_rank", "host");
  CheckMpi(MPI_Comm_size(host, &local_size_), "Comm_size", "host");
  cores_ = ShareOfCores(host);
}

MpiSession::~MpiSession() {
  // MPI_Finalize waits for all ranks; an error in flight means that this one no longer serves them.
  // The launcher ends the job when this process ends without it.
  if (std::uncaught_exceptions() > 0) return;
  if (MPI_Finalize() != MPI_SUCCESS) LOG(ERROR) << "MPI_Finalize failed";
}

void MpiSession::Abort(int exit_status) {
  MPI_Abort(MPI_COMM_WORLD, exit_status);
  std::_Exit(exit_status);
}

bool LaunchedByMpi() {
  for (const char* variable : {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK"}) {
    if (std::getenv(variable) != nullptr) return true;
  }
  // A step of one task (an interactive shell, say) needs no MPI.
  const std::optional<Promise> promise = LaunchPromise();
  return promise && promise->ranks > 1;
}

void CheckLauncher() {
#ifdef OPEN_MPI
  // Open MPI would end the process with advice to build it anew.
  const std::optional<Promise> promise = LaunchPromise();
  if (!promise || !IsSrun(*promise) || promise->ranks == 1) return;
  if (std::getenv("PMIX_RANK") != nullptr) return;
  Throw(ErrorKind::kUsage, promise->variable,
        "srun started {} tasks without PMIx, by which Open MPI forms their world: use srun "
        "--mpi=pmix (srun --mpi=list says whether it is there), or mpirun inside the allocation",
        promise->ranks);
#endif
}

bool IsFirstTask() {
  const char* task = std::getenv("SLURM_PROCID");
  return task == nullptr || std::strcmp(task, "0") == 0;
}

void CheckLaunchedWorld(int world_size) {
  const std::optional<Promise> promise = LaunchPromise();
  if (!promise || promise->ranks == world_size) return;
  Throw(ErrorKind::kUsage, promise->variable,
        "{} started {} tasks but MPI formed a world of {}: {}", promise->launcher, promise->ranks,
        world_size,
        IsSrun(*promise) ? "use srun --mpi=pmix"
                         : "use the mpirun of the MPI that this program is built with");
}

}  // namespace cairn
