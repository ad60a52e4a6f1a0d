#pragma once

#include <atomic>
#include <cstdint>
#include <string>

// A library that stands between a program and the C library's file operations: linked before it, or
// preloaded. It counts, for each rank, the operations on what lies below one folder, and lets one
// of them fail. Without a plan everything passes through.

namespace cairn::faults {

enum class Operation : uint8_t {
  kCreate,  ///< open with O_CREAT
  kWrite,
  kSync,
  kClose,  ///< of what was open for writing, or of a folder
  kRename,
  kUnlink,
  kMakeFolder,
  kRemoveFolder,
};

inline constexpr int kMaxRanks = 8;

enum class Action : uint8_t {
  kNone,        ///< only count
  kKillBefore,  ///< SIGKILL instead of the operation
  kKillAfter,
  kTear,         ///< half of the bytes of a write, then SIGKILL
  kShort,        ///< half of the bytes of a write, which says so
  kFail,         ///< an error; a close is done all the same
  kFailAfter,    ///< an error of what was done (half of the bytes of a write)
  kFailForever,  ///< kFail, and so does all that comes after, by any rank, until Relent
  kFullForever,  ///< the same, but what frees space, reads and syncs works
  kSkip,         ///< success of what was not done
  kFlip,         ///< one bit of a write arrives as another
};

/// What happens at operation number `index` of `rank`.
struct Plan {
  Action action = Action::kNone;
  int rank = 0;
  int64_t index = 0;
  int error = 0;             ///< errno of kFail...
  bool one_rank = false;     ///< a kill ends `rank` alone: `died` is called, and its thread stops
  void (*died)() = nullptr;  ///< must end the waiting of the others
};

/// What happened, in memory that outlives the process.
struct Report {
  std::atomic<int64_t> counts[kMaxRanks];  ///< operations of each rank
  std::atomic<bool> fired;                 ///< the plan's operation was reached
  Operation operation;                     ///< which it was
  char path[512];                          ///< and on what
  /// A file was synced again after a sync of it had failed.
  std::atomic<bool> trusted_second_sync;
};

/// Acts on operations below the absolute path `root` from now on. `journal`: a descriptor that
/// receives each operation, see journal.h; negative: none.
void Arm(const std::string& root, const Plan& plan, Report* report, int journal = -1);
/// From now on nothing fails; counting and the journal go on.
void Relent();
void Disarm();

/// The rank of the calling thread and of the threads that it will start. Threads without one pass.
void SetRank(int rank);

/// Adds a line to the journal, if there is one.
void Mark(const std::string& text);

// Without Arm, a process is armed by its environment:
//   CAIRN_FAULT_ROOT    the folder, absolute
//   CAIRN_FAULT         "rank index action error", numbers of the enumerations above; may be
//   missing CAIRN_FAULT_REPORT  the file that receives, at exit, the operations of this process,
//   and, when
//                       the plan's operation is reached, its name; "-RANK" is appended
// The rank is that of mpirun, 0 without.

}  // namespace cairn::faults
