#include "points_testing.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <glog/logging.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <functional>

#include "parallel/agreement.h"
#include "parallel/local_communicator.h"
#include "runtime/checkpoint/commit.h"
#include "runtime/checkpoint/file.h"
#include "runtime/checkpoint/store.h"

namespace cairn::faults {
namespace {

constexpr int kRankDied = 77;  // exit status of a child in which one rank stopped

// Of the child: which of its ranks have ended or stopped.
std::atomic<int> ended_ranks = 0;
std::atomic<bool> a_rank_died = false;
int rank_count = 0;
thread_local Communicator* communicator_here = nullptr;

void EndRank() {
  if (++ended_ranks == rank_count && a_rank_died) ::_exit(kRankDied);
}

void Died() {
  a_rank_died = true;
  communicator_here->Abort("killed");
  EndRank();
}

void SetText(char* to, size_t size, const std::string& text) {
  const size_t length = std::min(text.size(), size - 1);
  std::memcpy(to, text.data(), length);
  to[length] = '\0';
}

void Try(Shared::Outcome& outcome, const std::function<void()>& work) {
  try {
    work();
  } catch (const CollectiveError& error) {
    outcome.failed = true;
    SetText(outcome.error, sizeof(outcome.error), error.what());
  }
  outcome.done = true;
}

void SaveAndMark(Communicator& world, const std::string& run_dir, int64_t iteration) {
  if (world.rank() == 0) Mark(fmt::format("begin {}", iteration));
  Save(world, run_dir, iteration);
  if (world.rank() == 0) Mark("saved");
}

void RetainAndMark(Communicator& world, const std::string& run_dir, const Scenario& scenario) {
  Retain(world, run_dir, scenario);
  if (world.rank() == 0) Mark("retained");
}

// What rank 0 finds after the fault, and the saves after it.
void GoOnTraining(Communicator& world, const std::string& run_dir, const Scenario& scenario,
                  const Plan& plan, bool failed) {
  const std::string attempt = StepDirectory(run_dir, scenario.iteration);
  const bool dead_disk = plan.action == Action::kFailForever;
  RunOnFirst(world, [&] {
    std::vector<std::string> problems;
    CheckStopped(scenario, run_dir, !failed, !failed || dead_disk, problems);
    if (failed && !dead_disk && std::filesystem::exists(attempt)) {
      problems.push_back("the failed attempt stays");
    }
    if (!problems.empty()) throw Error(ErrorKind::kInternal, attempt, problems[0]);
    return std::string();
  });
  // The iteration that failed is what the end of a run would try again.
  const bool committed = std::filesystem::exists(attempt + "/" + kCommitFile);
  SaveAndMark(world, run_dir, scenario.iteration + (committed ? 10 : 0));
  RetainAndMark(world, run_dir, scenario);
}

void RunRank(Communicator& world, const std::string& run_dir, const Scenario& scenario,
             const Plan& plan, Shared& shared) {
  const int rank = world.rank();
  Shared::Outcome& save = shared.save[rank];
  Try(save, [&] { SaveAndMark(world, run_dir, scenario.iteration); });
  if (!save.failed) {
    Try(shared.retention[rank], [&] { RetainAndMark(world, run_dir, scenario); });
  }
  world.Barrier();
  if (rank == 0) Relent();
  world.Barrier();
  if (plan.action == Action::kNone || plan.action == Action::kSkip) return;
  GoOnTraining(world, run_dir, scenario, plan, save.failed);
}

void RunRanks(const std::string& root, const std::string& run_dir, const Scenario& scenario,
              Plan plan, Shared& shared, int journal) {
  rank_count = scenario.ranks;
  plan.died = Died;
  Arm(root, plan, &shared.report, journal);
  try {
    RunLocalRanks(scenario.ranks, [&](Communicator& world) {
      SetRank(world.rank());
      communicator_here = &world;
      try {
        RunRank(world, run_dir, scenario, plan, shared);
      } catch (...) {
        EndRank();
        throw;
      }
      EndRank();
    });
  } catch (const std::exception& error) {
    SetText(shared.problem, sizeof(shared.problem), error.what());
  }
}

bool Kills(Action action) {
  return action == Action::kKillBefore || action == Action::kKillAfter || action == Action::kTear;
}

std::vector<Plan> PlansFor(const JournalEntry& entry, int64_t index) {
  std::vector<Plan> plans;
  const auto add = [&](Action action, int error = 0, bool one_rank = false) {
    plans.push_back({.action = action,
                     .rank = entry.rank,
                     .index = index,
                     .error = error,
                     .one_rank = one_rank});
  };
  for (const bool one_rank : {false, true}) {
    add(Action::kKillBefore, 0, one_rank);
    add(Action::kKillAfter, 0, one_rank);
  }
  add(Action::kFail, EIO);
  add(Action::kFailForever, EIO);
  add(Action::kFullForever, ENOSPC);
  const bool frees =
      entry.operation == Operation::kUnlink || entry.operation == Operation::kRemoveFolder;
  if (!frees) {
    add(Action::kFail, ENOSPC);
    add(Action::kFail, EDQUOT);
  }
  if (entry.operation != Operation::kSync && entry.operation != Operation::kClose) {
    add(Action::kFailAfter, EIO);
  }
  if (entry.operation == Operation::kWrite) {
    add(Action::kTear);
    add(Action::kTear, 0, true);
    add(Action::kShort);
    add(Action::kFail, EFBIG);
    add(Action::kFailAfter, ENOSPC);
    add(Action::kFlip);
  }
  return plans;
}

}  // namespace

const char* OperationName(Operation operation) {
  static constexpr std::array kNames = {"create", "write",  "sync",  "close",
                                        "rename", "unlink", "mkdir", "rmdir"};
  return kNames[static_cast<size_t>(operation)];
}

ChildEnd RunChild(const std::function<void()>& body, std::chrono::seconds limit) {
  ChildEnd end;
  const pid_t pid = ::fork();
  CHECK_GE(pid, 0) << std::strerror(errno);
  if (pid == 0) {
    body();
    ::_exit(0);
  }
  const int handle = static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
  CHECK_GE(handle, 0) << std::strerror(errno);
  pollfd wait = {.fd = handle, .events = POLLIN, .revents = 0};
  const auto milliseconds = std::chrono::duration_cast<std::chrono::milliseconds>(limit).count();
  if (::poll(&wait, 1, static_cast<int>(milliseconds)) != 1) {
    end.hung = true;
    ::kill(pid, SIGKILL);
  }
  CHECK_EQ(::waitpid(pid, &end.status, 0), pid);
  ::close(handle);
  return end;
}

std::vector<JournalEntry> Recording::OfRank(int rank) const {
  std::vector<JournalEntry> own;
  for (const JournalEntry& entry : journal) {
    if (!entry.mark && entry.rank == rank) own.push_back(entry);
  }
  return own;
}

int64_t Recording::CommitIndex() const {
  const std::vector<JournalEntry> own = OfRank(0);
  const auto commit = std::ranges::find_if(own, [](const JournalEntry& entry) {
    return entry.operation == Operation::kRename && entry.target.ends_with("/COMMIT");
  });
  CHECK(commit != own.end());
  return commit - own.begin();
}

int64_t Recording::Before(const std::string& mark) const {
  int64_t count = 0;
  for (const JournalEntry& entry : journal) {
    if (entry.mark && entry.path == mark) return count;
    count += entry.rank == 0 && !entry.mark ? 1 : 0;
  }
  LOG(FATAL) << "no mark " << mark;
}

Points::Points(Scenario scenario) : scenario_(std::move(scenario)) {
  recording_.folder = Before(scenario_, scratch_);
  Record();
}

Points::Points(Scenario scenario, FolderImage before) : scenario_(std::move(scenario)) {
  recording_.folder = std::move(before);
  WriteFolder(scratch_.root(), recording_.folder);
  Record();
}

void Points::Record() {
  void* const memory =
      ::mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  CHECK(memory != MAP_FAILED);
  shared_ = {static_cast<Shared*>(memory), [](Shared* s) { ::munmap(s, sizeof(Shared)); }};
  const ChildEnd end = Run(scenario_, {}, /*journal=*/true);
  CHECK(end.status == 0 && !end.hung && shared_->problem[0] == '\0')
      << scenario_.name << ": " << shared_->problem;
  recording_.journal = ReadJournal(scratch_.journal());
}

ChildEnd Points::Run(const Scenario& scenario, const Plan& plan, bool journal) {
  std::memset(static_cast<void*>(shared_.get()), 0, sizeof(Shared));
  int descriptor = -1;
  if (journal) {
    descriptor = ::open(scratch_.journal().c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
    CHECK_GE(descriptor, 0);
  }
  const ChildEnd end = RunChild([&] {
    FLAGS_minloglevel = google::GLOG_ERROR;  // it warns of what it was made to meet
    RunRanks(scratch_.root(), scratch_.run(), scenario, plan, *shared_, descriptor);
  });
  if (journal) ::close(descriptor);
  return end;
}

void Points::Reset() {
  WriteFolder(scratch_.root(), recording_.folder);
  std::filesystem::remove(scratch_.journal());
}

std::vector<Plan> Points::All() const {
  std::vector<Plan> plans;
  for (int rank = 0; rank < scenario_.ranks; ++rank) {
    const std::vector<JournalEntry> own = recording_.OfRank(rank);
    for (size_t index = 0; index < own.size(); ++index) {
      for (const Plan& plan : PlansFor(own[index], static_cast<int64_t>(index))) {
        plans.push_back(plan);
      }
    }
  }
  return plans;
}

std::vector<std::string> Points::Inject(const Plan& plan, bool go_on) {
  std::vector<std::string> problems;
  Reset();
  const ChildEnd end = Run(scenario_, plan, /*journal=*/false);
  if (end.hung) problems.emplace_back("hangs");
  if (!shared_->report.fired) problems.emplace_back("was never reached");
  if (Kills(plan.action)) {
    const bool died = plan.one_rank ? WIFEXITED(end.status) && WEXITSTATUS(end.status) == kRankDied
                                    : WIFSIGNALED(end.status) && WTERMSIG(end.status) == SIGKILL;
    if (!died) problems.push_back(fmt::format("ended with status {}", end.status));
    CheckKilled(plan, problems);
  } else {
    if (end.status != 0) problems.push_back(fmt::format("ended with status {}", end.status));
    CheckSurvived(plan, problems);
  }
  if (go_on && problems.empty()) GoOn(scratch_.run(), scenario_, problems);
  return problems;
}

void CheckStopped(const Scenario& scenario, const std::string& run_dir, bool must_be_committed,
                  bool may_be_committed, std::vector<std::string>& problems) {
  const std::set<int64_t> before(scenario.committed.begin(), scenario.committed.end());
  std::set<int64_t> with_new = before;
  with_new.insert(scenario.iteration);
  const std::set<int64_t> kept = scenario.Kept(with_new);

  std::set<int64_t> good = GoodCheckpoints(run_dir, problems);
  for (const int64_t iteration : scenario.removed) good.erase(iteration);
  const bool committed = good.contains(scenario.iteration);
  if (committed && !may_be_committed) problems.emplace_back("is committed too early");
  if (!committed && must_be_committed) problems.emplace_back("what was committed is lost");
  const bool fits = committed
                        ? std::ranges::includes(good, kept) && std::ranges::includes(with_new, good)
                        : good == before;
  if (!fits) {
    problems.push_back(fmt::format("good are [{}], before [{}], to be kept [{}]",
                                   fmt::join(good, " "), fmt::join(before, " "),
                                   fmt::join(kept, " ")));
  }
  // Leftovers are those of this save, of a removal, or were there.
  std::set<int64_t> leftovers(scenario.aborted.begin(), scenario.aborted.end());
  leftovers.insert(scenario.removed.begin(), scenario.removed.end());
  leftovers.insert(scenario.iteration);
  if (committed) {
    std::ranges::set_difference(before, kept, std::inserter(leftovers, leftovers.end()));
  }
  const std::set<int64_t> aborted = AbortedAttempts(run_dir);
  if (!std::ranges::includes(leftovers, aborted)) {
    problems.push_back(fmt::format("aborted are [{}]", fmt::join(aborted, " ")));
  }
}

void Points::CheckKilled(const Plan& plan, std::vector<std::string>& problems) {
  const int64_t commit = recording_.CommitIndex();
  const bool committed =
      plan.rank == 0 &&
      (plan.index > commit || (plan.index == commit && plan.action == Action::kKillAfter));
  CheckStopped(scenario_, scratch_.run(), committed, committed, problems);
}

void Points::CheckSurvived(const Plan& plan, std::vector<std::string>& problems) {
  if (shared_->problem[0] != '\0') problems.emplace_back(shared_->problem);
  if (shared_->report.trusted_second_sync) {
    problems.emplace_back("a file was synced again after its sync had failed");
  }
  // Rename, sync of the folder, its close: then the commit is done.
  const bool before_commit = plan.rank != 0 || plan.index <= recording_.CommitIndex() + 2;
  const bool save_fails = plan.action != Action::kShort && before_commit;
  // Between the two only the hint is written.
  const bool retention_fails =
      plan.action != Action::kShort && plan.rank == 0 && plan.index >= recording_.Before("saved");
  const char* const reason = plan.action == Action::kFlip ? "" : std::strerror(plan.error);
  const auto expect = [&](const char* what, const Shared::Outcome* outcomes, bool fails) {
    for (int rank = 0; rank < scenario_.ranks; ++rank) {
      const Shared::Outcome& outcome = outcomes[rank];
      const std::string error = outcome.error;
      if (!outcome.done || outcome.failed != fails) {
        problems.push_back(
            fmt::format("{} of rank {}: {}", what, rank,
                        outcome.done ? (outcome.failed ? error : "succeeded") : "never ended"));
      } else if (fails && (error.find(reason) == std::string::npos || error != outcomes[0].error)) {
        problems.push_back(fmt::format("{} of rank {} fails with: {}", what, rank, error));
      } else if (fails && plan.action == Action::kFail &&
                 error.find(shared_->report.path) == std::string::npos) {
        problems.push_back(
            fmt::format("{} does not name {}: {}", what, shared_->report.path, error));
      }
    }
  };
  const bool forever = plan.action == Action::kFailForever || plan.action == Action::kFullForever;
  expect("save", shared_->save, save_fails);
  if (!save_fails && !forever) expect("retention", shared_->retention, retention_fails);
}

std::string Describe(const Plan& plan, const Report& report) {
  static constexpr std::array kActions = {
      "nothing",   "kill before", "kill after",         "tear and kill",      "short write",
      "fail",      "fail after",  "fail for ever from", "full for ever from", "skip",
      "flip a bit"};
  return fmt::format("{}{}{} operation {} of rank {} ({} {})",
                     kActions[static_cast<size_t>(plan.action)],
                     plan.error != 0 ? fmt::format(" ({})", strerrorname_np(plan.error)) : "",
                     plan.one_rank ? " (that rank alone)" : "", plan.index, plan.rank,
                     OperationName(report.operation), report.path);
}

}  // namespace cairn::faults
