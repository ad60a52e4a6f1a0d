#pragma once

#include <sys/types.h>

#include <chrono>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace cairn::testing {

using Json = nlohmann::ordered_json;

/// What a program left behind.
struct Outcome {
  int status = 0;  ///< exit status, or 128 + the signal that ended it
  std::string out;
  std::string err;
};

/// A started shell script; stopped by SIGKILL, with all its process group, at the end of its scope.
class Child {
 public:
  /// Runs `script` by `sh -e` in `directory`, with `cairn` and `mpirun` on the PATH and no
  /// variables of a launcher around this test.
  Child(const std::string& directory, const std::string& script);
  ~Child();
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  pid_t pid() const { return pid_; }
  /// Its descendants whose command is `cairn`, or itself where it is one.
  std::vector<pid_t> Programs() const;
  /// What it has written to standard error so far.
  std::string Told() const;
  /// Waits for the end; after `limit`, ends it and fails the test.
  Outcome Wait(std::chrono::seconds limit = std::chrono::seconds(60));

 private:
  bool TryReap();

  pid_t pid_ = -1;
  bool running_ = false;
  int wait_status_ = 0;
  std::string captured_;  // prefix of the two files of output
};

/// A folder with a small corpus ("corpus.bin", "corpus.idx", "text.txt") and "tiny.textproto", a
/// model that trains in milliseconds; removed at the end of its scope.
class Workspace {
 public:
  Workspace();
  ~Workspace();
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

  std::string operator/(std::string_view name) const { return path_ + "/" + std::string(name); }
  const std::string& path() const { return path_; }
  /// The outcome of a shell script in this folder; see Child.
  Outcome Run(const std::string& script) const;
  /// As Run, and expects exit status 0. Its standard output.
  std::string RunWell(const std::string& script) const;

 private:
  std::string path_;
};

/// Overrides for more iterations than any test waits for, at a constant pace.
inline constexpr const char* kEndless =
    "train_iters=1000000 lr_decay_style=constant log_interval=1 tensorboard=false ";

/// Whether the run in `workspace`/run has committed `iteration`.
bool HasCommit(const Workspace& workspace, int64_t iteration);

/// Waits until `condition` holds; false after `limit`.
bool WaitUntil(const std::function<bool()>& condition,
               std::chrono::seconds limit = std::chrono::seconds(30));

/// True while a process of this id exists and is not merely unreaped.
bool IsAlive(pid_t pid);

std::string ReadText(const std::string& path);

/// The objects of RUN_DIR/metrics.jsonl, in order.
std::vector<Json> ReadMetrics(const std::string& run_dir);

/// How often an error of Cairn's is reported in `text`.
int CountErrors(const std::string& text);

/// Expects that `outcome` shows no crash: no uncaught exception, failed check, or stack trace.
void ExpectNoCrash(const Outcome& outcome);

}  // namespace cairn::testing
