#pragma once

#include <optional>
#include <string>
#include <vector>

namespace cairn {

/// A submitted job, as RUN_DIR/slurm/job remembers it.
struct SlurmJob {
  std::string id;
  std::string log;                    ///< absolute, with SLURM's %A and %a
  std::vector<std::string> run_dirs;  ///< absolute; one for each task of an array, else one
};

/// What SLURM says of a job, or of one task of a job array.
struct SlurmState {
  std::string id;
  std::string state;  ///< "RUNNING"
  std::string elapsed;
  std::string limit;
  std::string reason;  ///< why it waits, or the nodes it runs on

  /// It waits, runs or ends.
  bool active() const;
};

/// The folder that a run's job has its files in.
std::string SlurmDirectory(const std::string& run_dir);
/// The batch script in it.
std::string JobScriptPath(const std::string& run_dir);

/// Writes RUN_DIR/slurm/job.
void RememberJob(const std::string& run_dir, const SlurmJob& job);

/// Reads RUN_DIR/slurm/job; nothing where there is none. Throws Error(kIo) where it is damaged.
std::optional<SlurmJob> RecallJob(const std::string& run_dir);

/// The file that SLURM's pattern names for a job: %A is its id, %a the task of a job array.
std::string ExpandOutput(const std::string& pattern, const std::string& id,
                         std::optional<int> task);

/// Submits a batch script. Returns the job's id. Throws Error(kIo) with what sbatch said.
std::string SubmitJob(const std::string& script);

/// The states of the job and of the tasks it has; none when SLURM does not know it any longer.
std::vector<SlurmState> QueryJob(const std::string& id);

/// Asks SLURM to end the job.
void CancelJob(const std::string& id);

}  // namespace cairn
