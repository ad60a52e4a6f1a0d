#include <fmt/format.h>
#include <mpi.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>

#include "launcher/commands/doctor_checks.h"

namespace cairn {
namespace {

std::optional<std::string> Environment(const char* name) {
  const char* value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): one thread so far
  if (value == nullptr) return std::nullopt;
  return value;
}

std::optional<int> EnvironmentNumber(const char* name) {
  const std::optional<std::string> text = Environment(name);
  int value = 0;
  if (!text ||
      std::from_chars(text->data(), text->data() + text->size(), value).ec != std::errc()) {
    return std::nullopt;
  }
  return value;
}

/// How a trial of MPI_Init_thread in a child process went.
struct MpiTrial {
  bool started = false;
  int thread_level = MPI_THREAD_SINGLE;
  std::string output;  ///< what the library said, if it did not start
};

constexpr std::string_view kTrialMark = "cairn-mpi-thread-level=";

[[noreturn]] void RunTrial(int output) {
  // Whatever MPI prints goes to the pipe; a trial that hangs ends with its parent at the latest.
  if (::prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || ::dup2(output, STDOUT_FILENO) < 0 ||
      ::dup2(output, STDERR_FILENO) < 0) {
    ::_exit(1);
  }
  int level = MPI_THREAD_SINGLE;
  if (MPI_Init_thread(nullptr, nullptr, MPI_THREAD_MULTIPLE, &level) != MPI_SUCCESS) ::_exit(1);
  if (MPI_Finalize() != MPI_SUCCESS) ::_exit(1);
  const std::string result = fmt::format("\n{}{}\n", kTrialMark, level);
  const ssize_t written = ::write(output, result.data(), result.size());
  ::_exit(written == static_cast<ssize_t>(result.size()) ? 0 : 1);
}

/// Reads `descriptor` to its end, or until `deadline`, or 64 KiB.
std::string ReadUntil(int descriptor, std::chrono::steady_clock::time_point deadline) {
  constexpr size_t kMaxBytes = size_t{64} << 10;
  std::string text;
  std::array<char, 4096> buffer;
  while (text.size() < kMaxBytes) {
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    pollfd event{.fd = descriptor, .events = POLLIN, .revents = 0};
    const int ready = left.count() <= 0 ? 0 : ::poll(&event, 1, static_cast<int>(left.count()));
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) break;
    const ssize_t bytes = ::read(descriptor, buffer.data(), buffer.size());
    if (bytes < 0 && errno == EINTR) continue;
    if (bytes <= 0) break;
    text.append(buffer.data(), static_cast<size_t>(bytes));
  }
  return text;
}

/// Starts MPI in a child, since a library that cannot start takes its process down.
MpiTrial TryMpi() {
  constexpr std::chrono::seconds kPatience(30);
  MpiTrial trial;
  std::array<int, 2> pipe{};
  if (::pipe(pipe.data()) != 0) {
    trial.output = "no pipe could be made";
    return trial;
  }
  const pid_t child = ::fork();
  if (child == 0) {
    ::close(pipe[0]);
    RunTrial(pipe[1]);
  }
  ::close(pipe[1]);
  if (child < 0) {
    ::close(pipe[0]);
    trial.output = "no process could be made";
    return trial;
  }
  trial.output = ReadUntil(pipe[0], std::chrono::steady_clock::now() + kPatience);
  ::close(pipe[0]);
  const size_t mark = trial.output.find(kTrialMark);
  if (mark == std::string::npos) {
    ::kill(child, SIGKILL);  // it hangs, or has ended already and waits to be collected
    if (trial.output.empty()) trial.output = "it said nothing and did not start";
  } else {
    const char* digits = trial.output.data() + mark + kTrialMark.size();
    std::from_chars(digits, trial.output.data() + trial.output.size(), trial.thread_level);
    trial.started = true;
  }
  while (::waitpid(child, nullptr, 0) < 0 && errno == EINTR) {
  }
  return trial;
}

const char* ThreadLevelName(int level) {
  if (level == MPI_THREAD_MULTIPLE) return "MULTIPLE";
  if (level == MPI_THREAD_SERIALIZED) return "SERIALIZED";
  return level == MPI_THREAD_FUNNELED ? "FUNNELED" : "SINGLE";
}

/// The beginning of what MPI said, on one line: without the rules it draws, and without its own
/// trouble with saying it.
std::string Excerpt(const std::string& output) {
  constexpr size_t kMaxBytes = 400;
  std::istringstream lines(output);
  std::string text;
  for (std::string line; std::getline(lines, line);) {
    if (line.find("ORTE_ERROR_LOG") != std::string::npos) continue;
    std::istringstream words(line);
    for (std::string word; words >> word;) {
      if (word.find_first_not_of('-') == std::string::npos) continue;
      text += text.empty() ? word : " " + word;
    }
    if (text.size() >= kMaxBytes) return text.substr(0, kMaxBytes) + "...";
  }
  return text;
}

/// How this process came to run, from what launchers leave in the environment.
struct Launch {
  std::optional<int> world_size = EnvironmentNumber("OMPI_COMM_WORLD_SIZE");
  std::optional<int> local_size = EnvironmentNumber("OMPI_COMM_WORLD_LOCAL_SIZE");
  std::optional<int> slurm_tasks = EnvironmentNumber("SLURM_NTASKS");
  bool slurm_job = Environment("SLURM_JOB_ID").has_value();
  bool slurm_step = EnvironmentNumber("SLURM_PROCID").has_value() &&
                    EnvironmentNumber("SLURM_STEP_ID").has_value();
  bool pmix = Environment("PMIX_RANK").has_value();

  bool launched() const { return world_size.has_value() || slurm_step || pmix; }
};

DoctorCheck CheckLibrary(const Launch& launch) {
  DoctorCheck check("MPI");
  std::string version(MPI_MAX_LIBRARY_VERSION_STRING, '\0');
  int length = 0;
  if (MPI_Get_library_version(version.data(), &length) != MPI_SUCCESS) length = 0;
  version.resize(static_cast<size_t>(std::max(length, 0)));
  version.resize(std::min(version.find('\0'), version.size()));
  check.text = version.substr(0, version.find(", ident"));
  check.facts = {{"version", version}, {"thread_level", nullptr}};
  // A launched process must join its world itself; a child that joins in its stead would leave the
  // other ranks waiting.
  if (launch.launched()) return check;
  const MpiTrial trial = TryMpi();
  check.facts["starts"] = trial.started;
  if (!trial.started) {
    check.Fail("MPI does not start: " + Excerpt(trial.output));
    return check;
  }
  check.text += fmt::format("; starts, thread level {}", ThreadLevelName(trial.thread_level));
  check.facts["thread_level"] = ThreadLevelName(trial.thread_level);
  if (trial.thread_level < MPI_THREAD_SERIALIZED) {
    check.Warn("communication cannot overlap with computing: use an MPI library built for threads");
  }
  return check;
}

void CheckRanksAndCores(const Launch& launch, int cores, DoctorCheck& check) {
  const int ranks = launch.local_size.value_or(1);
  const bool yields = EnvironmentNumber("OMPI_MCA_mpi_yield_when_idle").value_or(0) != 0 ||
                      EnvironmentNumber("OMPI_MCA_mpi_oversubscribe").value_or(0) != 0;
  check.facts["yields_when_idle"] = yields;
  if (ranks > cores && !yields) {
    check.Warn(
        fmt::format("{} ranks share {} cores and those that wait do not yield: export "
                    "OMPI_MCA_mpi_yield_when_idle=1, or launch with mpirun --oversubscribe",
                    ranks, cores));
  }
}

DoctorCheck CheckLaunch(const Launch& launch) {
  DoctorCheck check("launch");
  const int cores = UsableCores();
  check.facts = {{"world_size", launch.world_size.value_or(1)},
                 {"slurm_tasks", nullptr},
                 {"root", ::geteuid() == 0}};
  if (launch.slurm_tasks) check.facts["slurm_tasks"] = *launch.slurm_tasks;
  if (launch.world_size) {
    check.text = fmt::format("{} ranks by mpirun, {} of them here", *launch.world_size,
                             launch.local_size.value_or(1));
    CheckRanksAndCores(launch, cores, check);
  } else if (launch.slurm_step && launch.pmix) {
    check.text = fmt::format("{} tasks by srun with PMIx", launch.slurm_tasks.value_or(1));
  } else if (launch.slurm_step) {
    check.text = fmt::format("{} tasks by srun", launch.slurm_tasks.value_or(1));
    if (launch.slurm_tasks.value_or(1) > 1) {
      check.Warn("without PMIx each task is a world of its own: srun --mpi=pmix");
    }
  } else if (launch.pmix) {
    check.text = "by a PMIx launcher";
  } else {
    check.text = fmt::format(
        "by hand, one rank{}; {}", launch.slurm_job ? " (inside a SLURM job)" : "",
        cores == 1
            ? "mpirun takes 1 rank here, more with --oversubscribe"
            : fmt::format("mpirun takes up to {} ranks here, more with --oversubscribe", cores));
  }
  const bool root_allowed = Environment("OMPI_ALLOW_RUN_AS_ROOT").has_value() &&
                            Environment("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM").has_value();
  if (::geteuid() == 0 && !root_allowed && !launch.launched()) {
    check.Warn(
        "mpirun refuses root: export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1");
  }
  return check;
}

}  // namespace

bool IsFirstOnHost() {
  return EnvironmentNumber("OMPI_COMM_WORLD_LOCAL_RANK")
             .value_or(EnvironmentNumber("SLURM_LOCALID").value_or(0)) == 0;
}

std::vector<DoctorCheck> CheckMpi() {
  const Launch launch;
  return {CheckLibrary(launch), CheckLaunch(launch)};
}

}  // namespace cairn
