#pragma once

#include <cstdint>
#include <string>

namespace cairn {

/// What a SLURM job asks for, beside its config.
struct SlurmOptions {
  int nodes = 1;
  int tasks_per_node = 1;  ///< ranks
  int gpus_per_node = 0;   ///< 0: none are asked for
  int cpus_per_task = 0;   ///< 0: the cluster's default
  std::string time;        ///< [D-]HH:MM:SS
  int signal_seconds = 0;  ///< the ranks are warned so long before the time limit
  int array = 0;           ///< runs of a job array; 0: one run, no array
  std::string partition;
  std::string account;
  std::string job_name;
  std::string container;  ///< an image that Apptainer runs; it holds `cairn`
  std::string output;     ///< a file name with SLURM's %A and %a
  bool as_root = false;

  int ranks() const { return nodes * tasks_per_node; }
};

/// The seconds of "[D-]HH:MM:SS". Throws Error(kUsage).
int64_t ParseTimeLimit(const std::string& text);

/// Checks what the script would take over as text. Throws Error(kUsage) with what would fit.
void CheckSlurmOptions(const SlurmOptions& options);

/// What a job's script is about.
struct SlurmScript {
  std::string run_dir;    ///< of a job array: the folder of its runs
  std::string load;       ///< where the first life starts: "auto", or a checkpoint
  std::string layout;     ///< for people
  std::string command;    ///< the line that this script comes from
  std::string program;    ///< absolute
  std::string directory;  ///< absolute; relative paths begin here
};

/// The run folder of one task of a job array.
std::string TaskRunDirectory(const std::string& run_dir, int task);

/// The file that a run's job reads its config from.
std::string JobConfigPath(const std::string& run_dir);

/// The batch script. It starts the ranks, passes SLURM's warning on to them, and asks for another
/// life of the job when they left with status 4, or failed in a way that another life may get past.
std::string SbatchScript(const SlurmOptions& options, const SlurmScript& script);

}  // namespace cairn
