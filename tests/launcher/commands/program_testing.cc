#include "tests/launcher/commands/program_testing.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <map>
#include <random>
#include <regex>
#include <thread>

namespace cairn::testing {
namespace {

namespace fs = std::filesystem;

constexpr auto kPollInterval = std::chrono::milliseconds(5);

// A failed call of the operating system here is a failed test bench, not a failed test.
void Require(bool holds, const std::string& what) {
  if (holds) return;
  fmt::print(stderr, "test bench: {}\n", what);
  std::abort();
}

constexpr const char* kConfig = R"(run_dir: "run"
model { num_layers: 2 hidden_size: 32 num_attention_heads: 4 seq_length: 16 }
train { micro_batch_size: 1 global_batch_size: 4 train_iters: 4 }
optimizer { lr: 0.001 }
data { data_path: "corpus" tokenizer: "byte" split: "80,10,10" }
)";

void WriteText(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

// Twenty documents of words.
std::string CorpusText() {
  static constexpr std::array<const char*, 12> kWords = {
      "stone", "upon", "a", "hill", "marks", "the", "way", "for", "those", "who", "come", "after"};
  std::mt19937 random(7);
  std::string text;
  for (int document = 0; document < 20; ++document) {
    if (document > 0) text += '\f';
    for (int word = 0; word < 60; ++word) {
      text += fmt::format("{} ", kWords[random() % kWords.size()]);
    }
  }
  return text;
}

// The environment of the programs under test: that of this one, without what launchers and users
// set for other runs.
std::vector<std::string> MakeEnvironment() {
  std::map<std::string, std::string> values;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    const size_t equals = text.find('=');
    if (equals == std::string_view::npos) continue;
    const std::string name(text.substr(0, equals));
    bool keep = true;
    for (const char* prefix : {"OMPI_", "PMIX_", "PMI_", "SLURM_", "OMP_", "GLOG_", "CAIRN_"}) {
      keep = keep && !name.starts_with(prefix);
    }
    if (keep) values[name] = text.substr(equals + 1);
  }
  values["PATH"] = fmt::format("{}/bin:{}:{}", CAIRN_BINARY_DIR,
                               fs::path(CAIRN_MPIRUN).parent_path().string(), values["PATH"]);
  // More ranks than cores, also as root in a container; waiting ranks leave their core.
  values["OMPI_ALLOW_RUN_AS_ROOT"] = "1";
  values["OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"] = "1";
  values["OMPI_MCA_rmaps_base_oversubscribe"] = "1";
  values["OMPI_MCA_hwloc_base_binding_policy"] = "none";
  values["OMPI_MCA_mpi_yield_when_idle"] = "1";
  values["OMP_NUM_THREADS"] = "1";
  values["ASAN_OPTIONS"] = "fast_unwind_on_malloc=0";
  values["LSAN_OPTIONS"] = fmt::format(
      "print_suppressions=0:suppressions={}/tests/parallel/mpi_lsan.supp", CAIRN_SOURCE_DIR);
  std::vector<std::string> environment;
  environment.reserve(values.size());
  for (const auto& [name, value] : values) {
    environment.push_back(fmt::format("{}={}", name, value));
  }
  return environment;
}

std::vector<char*> Pointers(std::vector<std::string>& words) {
  std::vector<char*> pointers;
  pointers.reserve(words.size() + 1);
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  return pointers;
}

struct Process {
  std::string name;
  char state = '?';
  pid_t parent = 0;
};

// Of /proc/PID/stat; the parent is 0 where there is no such process.
Process ReadProcess(pid_t pid) {
  const std::string stat = ReadText(fmt::format("/proc/{}/stat", pid));
  const size_t open = stat.find('(');
  const size_t close = stat.rfind(')');
  if (open == std::string::npos || close == std::string::npos) return {};
  Process process;
  process.name = stat.substr(open + 1, close - open - 1);
  process.state = stat.at(close + 2);
  process.parent = std::stoi(stat.substr(close + 4));
  return process;
}

}  // namespace

Child::Child(const std::string& directory, const std::string& script) {
  static std::atomic<int> number{0};
  captured_ = fmt::format("{}/.captured-{}", directory, number++);
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  Require(posix_spawn_file_actions_init(&actions) == 0, "file actions");
  Require(posix_spawnattr_init(&attributes) == 0, "spawn attributes");
  const std::array<std::string, 3> paths = {"/dev/null", captured_ + ".out", captured_ + ".err"};
  for (int fd = 0; fd < 3; ++fd) {
    const int flags = fd == 0 ? O_RDONLY : O_WRONLY | O_CREAT | O_TRUNC;
    Require(posix_spawn_file_actions_addopen(&actions, fd, paths[fd].c_str(), flags, 0644) == 0,
            "open");
  }
  Require(posix_spawn_file_actions_addchdir_np(&actions, directory.c_str()) == 0, "chdir");
  Require(posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP) == 0, "process group");
  std::vector<std::string> words = {"sh", "-ec", script};
  std::vector<std::string> environment = MakeEnvironment();
  const int spawned = posix_spawnp(&pid_, "sh", &actions, &attributes, Pointers(words).data(),
                                   Pointers(environment).data());
  Require(spawned == 0, "posix_spawnp");
  running_ = true;
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
}

Child::~Child() {
  if (!running_) return;
  // mpirun puts its ranks into process groups of their own.
  const std::vector<pid_t> programs = Programs();
  kill(-pid_, SIGKILL);
  for (const pid_t pid : programs) kill(pid, SIGKILL);
  waitpid(pid_, &wait_status_, 0);
}

std::vector<pid_t> Child::Programs() const {
  std::map<pid_t, Process> processes;
  for (const auto& entry : fs::directory_iterator("/proc")) {
    const pid_t pid = std::atoi(entry.path().filename().c_str());
    if (pid > 0) processes[pid] = ReadProcess(pid);
  }
  std::vector<pid_t> programs;
  for (const auto& [pid, process] : processes) {
    if (process.name != "cairn" || process.state == 'Z') continue;
    pid_t ancestor = pid;
    while (ancestor > 1 && ancestor != pid_) ancestor = processes[ancestor].parent;
    if (ancestor == pid_) programs.push_back(pid);
  }
  return programs;
}

bool Child::TryReap() {
  if (!running_) return true;
  const pid_t reaped = waitpid(pid_, &wait_status_, WNOHANG);
  Require(reaped >= 0, "waitpid");
  running_ = reaped == 0;
  return !running_;
}

std::string Child::Told() const { return ReadText(captured_ + ".err"); }

Outcome Child::Wait(std::chrono::seconds limit) {
  Outcome outcome;
  if (WaitUntil([this] { return TryReap(); }, limit)) {
    outcome.status =
        WIFEXITED(wait_status_) ? WEXITSTATUS(wait_status_) : 128 + WTERMSIG(wait_status_);
  } else {
    ADD_FAILURE() << "still running after " << limit.count() << " s";
    outcome.status = -1;
  }
  outcome.out = ReadText(captured_ + ".out");
  outcome.err = Told();
  return outcome;
}

Workspace::Workspace() {
  std::string pattern = (fs::temp_directory_path() / "cairn-commands-XXXXXX").string();
  Require(mkdtemp(pattern.data()) != nullptr, "mkdtemp");
  path_ = pattern;
  WriteText(*this / "tiny.textproto", kConfig);
  WriteText(*this / "text.txt", CorpusText());
  // Built once; a copy is faster than a process.
  static std::map<std::string, std::string> corpus;
  for (const char* name : {"corpus.bin", "corpus.idx"}) {
    if (corpus.count(name) == 0) {
      RunWell("cairn data build text.txt --tokenizer byte --output corpus");
      corpus[name] = ReadText(*this / name);
    }
    WriteText(*this / name, corpus[name]);
  }
}

Workspace::~Workspace() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

Outcome Workspace::Run(const std::string& script) const { return Child(path_, script).Wait(); }

std::string Workspace::RunWell(const std::string& script) const {
  const Outcome outcome = Run(script);
  EXPECT_EQ(outcome.status, 0) << script << "\n" << outcome.err;
  return outcome.out;
}

bool HasCommit(const Workspace& workspace, int64_t iteration) {
  return fs::exists(workspace / fmt::format("run/checkpoints/step-{:08}/COMMIT", iteration));
}

bool WaitUntil(const std::function<bool()>& condition, std::chrono::seconds limit) {
  const auto deadline = std::chrono::steady_clock::now() + limit;
  while (!condition()) {
    if (std::chrono::steady_clock::now() >= deadline) return false;
    std::this_thread::sleep_for(kPollInterval);
  }
  return true;
}

bool IsAlive(pid_t pid) {
  const Process process = ReadProcess(pid);
  return process.parent != 0 && process.state != 'Z';
}

std::string ReadText(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::vector<Json> ReadMetrics(const std::string& run_dir) {
  std::vector<Json> lines;
  std::ifstream in(run_dir + "/metrics.jsonl");
  for (std::string line; std::getline(in, line);) lines.push_back(Json::parse(line));
  return lines;
}

int CountErrors(const std::string& text) {
  static const std::regex pattern("cairn: [a-z ]+ error: ");
  return static_cast<int>(
      std::distance(std::sregex_iterator(text.begin(), text.end(), pattern), {}));
}

void ExpectNoCrash(const Outcome& outcome) {
  for (const char* trace : {"terminate called", "Check failed", "stack trace", "Segmentation",
                            "core dumped", "internal error", "Sanitizer"}) {
    EXPECT_EQ(outcome.err.find(trace), std::string::npos) << outcome.err;
  }
}

}  // namespace cairn::testing
