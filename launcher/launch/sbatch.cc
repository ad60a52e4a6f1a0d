#include "launcher/launch/sbatch.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <string_view>

#include "launcher/launch/mpirun.h"
#include "launcher/launch/slurm.h"
#include "launcher/launch/supervisor.h"
#include "runtime/base/error.h"
#include "runtime/base/shell.h"
#include "runtime/checkpoint/file.h"
#include "runtime/config/text.h"

namespace cairn {
namespace {

// Two digits, below `limit`; -1 otherwise.
int TwoDigits(std::string_view text, int limit) {
  int value = -1;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  const bool fits = error == std::errc() && stop == end && text.size() == 2 && value >= 0;
  return fits && value < limit ? value : -1;
}

// One line of the script, and read by SLURM's own parser: names are kept plain.
void CheckName(const char* option, const std::string& value) {
  constexpr std::string_view kPlain =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.,:@+-";
  if (value.find_first_not_of(kPlain) == std::string::npos && !value.starts_with('-')) return;
  Throw(ErrorKind::kUsage, option, "{} has other characters than letters, digits and _.,:@+-",
        Quoted(value));
}

void CheckPath(const char* option, const std::string& value) {
  if (FirstBadByte(value) == value.size() && value.find('\n') == std::string::npos &&
      value.find('\r') == std::string::npos && value.find('\t') == std::string::npos) {
    return;
  }
  Throw(ErrorKind::kUsage, option, "{} has control characters", Quoted(value));
}

void CheckOutputPattern(const std::string& pattern) {
  for (size_t at = pattern.find('%'); at != std::string::npos; at = pattern.find('%', at + 2)) {
    const char next = at + 1 < pattern.size() ? pattern[at + 1] : '\0';
    if (next == '%' || next == 'A' || next == 'a') continue;
    Throw(ErrorKind::kUsage, "--output", "of SLURM's patterns {} may have %A, %a and %%",
          Quoted(pattern));
  }
}

std::string Directives(const SlurmOptions& options, const std::string& directory) {
  std::string text;
  auto add = [&](const char* name, const std::string& value) {
    if (!value.empty()) text += fmt::format("#SBATCH --{}={}\n", name, ShellQuoted(value));
  };
  auto add_number = [&](const char* name, int value) {
    if (value > 0) add(name, fmt::to_string(value));
  };
  add("job-name", options.job_name);
  add("partition", options.partition);
  add("account", options.account);
  add_number("nodes", options.nodes);
  add_number("ntasks-per-node", options.tasks_per_node);
  add_number("gpus-per-node", options.gpus_per_node);
  add_number("cpus-per-task", options.cpus_per_task);
  add("time", options.time);
  if (options.array > 0) add("array", fmt::format("0-{}", options.array - 1));
  add("chdir", directory);
  add("output", options.output);
  text += "#SBATCH --open-mode=append\n#SBATCH --requeue\n";
  add("signal", fmt::format("B:USR1@{}", options.signal_seconds));
  return text;
}

std::string ChooseLauncher(const SlurmOptions& options) {
  std::vector<std::string> srun = {"srun", "--mpi=pmix", "--wait=30"};
  if (options.cpus_per_task > 0) {
    srun.push_back(fmt::format("--cpus-per-task={}", options.cpus_per_task));
  }
  MpirunOptions mpirun;
  mpirun.ranks = options.ranks();
  mpirun.threads = options.cpus_per_task;
  mpirun.as_root = options.as_root;
  return fmt::format(
      R"(# SLURM starts the ranks itself where it has PMIx, by which ranks of Open MPI find each other; where it
# has not, mpirun does, in the allocation. Once a rank has ended, srun gives the others 30 s.
if srun --mpi=list 2>&1 | grep -qw pmix; then
  launch=({})
else
  launch=({})
fi
)",
      ShellLine(srun), ShellLine(MpirunWords(mpirun)));
}

std::string ContainedProgram(const SlurmOptions& options, const SlurmScript& script) {
  std::vector<std::string> words = {"apptainer", "exec", "--bind", script.directory};
  if (options.gpus_per_node > 0) words.emplace_back("--nv");
  words.insert(words.end(), {options.container, "cairn"});
  return ShellLine(words);
}

}  // namespace

int64_t ParseTimeLimit(const std::string& text) {
  int64_t days = 0;
  std::string_view clock = text;
  bool fits = true;
  if (const size_t dash = clock.find('-'); dash != std::string_view::npos) {
    const auto [stop, error] = std::from_chars(text.data(), text.data() + dash, days);
    fits = error == std::errc() && stop == text.data() + dash && days >= 0 && days <= 36500;
    clock.remove_prefix(dash + 1);
  }
  fits = fits && clock.size() == 8 && clock[2] == ':' && clock[5] == ':';
  const int hours = fits ? TwoDigits(clock.substr(0, 2), 100) : -1;
  const int minutes = fits ? TwoDigits(clock.substr(3, 2), 60) : -1;
  const int seconds = fits ? TwoDigits(clock.substr(6, 2), 60) : -1;
  const int64_t total = ((days * 24 + hours) * 60 + minutes) * 60 + seconds;
  if (std::min({hours, minutes, seconds}) < 0 || total == 0) {
    Throw(ErrorKind::kUsage, "--time", "{} is no time limit; write HH:MM:SS or D-HH:MM:SS",
          Quoted(text));
  }
  return total;
}

void CheckSlurmOptions(const SlurmOptions& options) {
  CheckName("--partition", options.partition);
  CheckName("--account", options.account);
  CheckName("--job-name", options.job_name);
  CheckPath("--container", options.container);
  CheckPath("--output", options.output);
  CheckOutputPattern(options.output);
  const int64_t limit = ParseTimeLimit(options.time);
  if (options.signal_seconds < 1 || options.signal_seconds >= limit) {
    Throw(ErrorKind::kUsage, "--signal-seconds",
          "{} s before the end of {} the job would not have begun; seconds that fit: 1 to {}",
          options.signal_seconds, options.time, limit - 1);
  }
}

std::string TaskRunDirectory(const std::string& run_dir, int task) {
  return JoinPath(run_dir, fmt::format("run-{}", task));
}

std::string JobConfigPath(const std::string& run_dir) {
  return JoinPath(SlurmDirectory(run_dir), "config.textproto");
}

std::string SbatchScript(const SlurmOptions& options, const SlurmScript& script) {
  const std::string run =
      options.array > 0 ? ShellQuoted(JoinPath(script.run_dir, "run-")) + "\"$SLURM_ARRAY_TASK_ID\""
                        : ShellQuoted(script.run_dir);
  std::string text = fmt::format(
      "#!/bin/bash\n# {}\n# {} ranks: {}. Every life of the job goes on from the newest good "
      "checkpoint of its run.\n{}\nrun={}\n",
      script.command, options.ranks(), script.layout, Directives(options, script.directory), run);
  std::string load = "auto";
  if (script.load != "auto") {
    load = "\"$load\"";
    text += fmt::format(
        R"(# The first life starts from another checkpoint, as long as the run has none of its own.
load={}
for commit in "$run"/checkpoints/step-*/COMMIT; do
  if [ -e "$commit" ]; then load=auto; fi
done
)",
        ShellQuoted(script.load));
  }
  const std::string train =
      options.container.empty() ? ShellQuoted(script.program) : ContainedProgram(options, script);
  text += "\n" + ChooseLauncher(options);
  text += fmt::format(R"script(
# Before the time limit SLURM warns this script, which passes it on: the ranks save and leave with
# status 4. When the job is cancelled, SLURM sends SIGTERM to ranks and script: the ranks save, too.
cancelled=no
trap 'kill -USR1 "$ranks"' USR1
trap 'cancelled=yes' TERM

newest_checkpoint() {{ ls -d "$run"/checkpoints/step-*/COMMIT 2>/dev/null | tail -n 1; }}
before=$(newest_checkpoint)

"${{launch[@]}}" {} train "$run/slurm/config.textproto" checkpoint.load={} &
ranks=$!
# A signal ends the waiting, not the ranks.
while kill -0 "$ranks" 2>/dev/null; do wait "$ranks"; done
wait "$ranks"
status=$?

# Statuses 0 and 2 are final. After any other, a rank that died for instance, another life may get
# further; {} lives in a row without a new checkpoint are enough.
again=""
case $status in
  0 | 2) ;;
  4)
    again="saved before the end"
    rm -f "$run/slurm/fruitless"
    ;;
  *)
    fruitless=$(cat "$run/slurm/fruitless" 2>/dev/null || echo 0)
    if [[ "$(newest_checkpoint)" > "$before" ]]; then fruitless=0; else fruitless=$((fruitless + 1)); fi
    echo "$fruitless" >"$run/slurm/fruitless"
    if [ "$fruitless" -lt {} ]; then
      again="failed with status $status"
    else
      echo "job $SLURM_JOB_ID: given up after $fruitless lives without a new checkpoint (status $status)"
      rm -f "$run/slurm/fruitless"
    fi
    ;;
esac
if [ -n "$again" ] && [ "$cancelled" = no ]; then
  echo "job $SLURM_JOB_ID: $again; queueing it again"
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
)script",
                      train, load, kFruitlessStarts, kFruitlessStarts);
  return text;
}

}  // namespace cairn
