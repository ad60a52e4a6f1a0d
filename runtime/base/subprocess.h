#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace cairn {

/// What a finished process left behind.
struct ProcessResult {
  int status = 0;  ///< exit status, or 128 + the signal that ended it
  std::string out;
  std::string err;
};

/// Runs the program `words[0]`, looked up on the PATH, with the other words as they are (no shell
/// reads them), nothing on its standard input, no signal blocked, and both outputs captured, of
/// which a MiB each is kept. Waits for its end. Throws Error(kIo) when it cannot be started.
ProcessResult RunProcess(const std::vector<std::string>& words);

/// Starts `words` as the leader of a process group of its own, with the standard streams of this
/// process. Returns its id; the caller waits for it.
pid_t StartProcessGroup(const std::vector<std::string>& words);

/// As RunProcess, with the standard streams of this process. Returns the status.
int RunProcessHere(const std::vector<std::string>& words);

/// Becomes the program `words[0]`. Throws Error(kIo) when it cannot be started.
[[noreturn]] void BecomeProcess(const std::vector<std::string>& words);

}  // namespace cairn
