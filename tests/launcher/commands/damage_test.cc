// Ranks that go on but are not right: one that is slow, and weights that change in memory.
#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>

#include "runtime/checkpoint/checkpoint_reader.h"
#include "runtime/checkpoint/store.h"
#include "tests/launcher/commands/program_testing.h"
#include "tests/runtime/checkpoint/checkpoint_testing.h"

namespace cairn::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::SizeIs;

// Steps that change no weight: those in memory are those of the checkpoint.
constexpr const char* kStill = "lr=1e-30 min_lr=0 ";

std::string Launch(int ranks, const std::string& overrides) {
  return fmt::format(
      "exec mpirun --oversubscribe -n {} cairn train tiny.textproto run_dir=run {}{}", ranks,
      kEndless, overrides);
}

// The first row of a matrix in a checkpoint of `run`, as it lies in memory.
std::string FirstRow(const std::string& run, int64_t iteration, const std::string& tensor) {
  CheckpointReader reader(StepDirectory(run, iteration));
  const TensorEntry* entry = reader.Find(tensor, kWeightKind);
  std::string row(entry->shape[1] * sizeof(float), '\0');
  reader.Read(tensor, kWeightKind, std::vector<int64_t>{0, 0},
              std::vector<int64_t>{1, entry->shape[1]},
              std::as_writable_bytes(std::span(row.data(), row.size())));
  return row;
}

// While it lives, a process stands still.
class Stopped {
 public:
  explicit Stopped(pid_t pid) : pid_(pid) {
    kill(pid, SIGSTOP);
    EXPECT_TRUE(WaitUntil([&] { return std::ranges::all_of(Threads(), StandsStill); }));
  }
  ~Stopped() { kill(pid_, SIGCONT); }
  Stopped(const Stopped&) = delete;
  Stopped& operator=(const Stopped&) = delete;

 private:
  std::filesystem::directory_iterator Threads() const {
    return std::filesystem::directory_iterator(fmt::format("/proc/{}/task", pid_));
  }
  static bool StandsStill(const std::filesystem::path& thread) {
    std::ifstream file(thread / "stat");
    const std::string stat(std::istreambuf_iterator<char>(file), {});
    return stat.find(") T ") != std::string::npos;
  }

  pid_t pid_;
};

// Writes `value` over the first float of each copy of `row` in the memory of a process. The number
// of copies. Memory may soon be something else's in a process that runs.
int Poke(pid_t pid, const std::string& row, float value) {
  const Stopped stopped(pid);
  const int memory = open(fmt::format("/proc/{}/mem", pid).c_str(), O_RDWR);
  EXPECT_GE(memory, 0) << std::strerror(errno);
  int copies = 0;
  std::ifstream maps(fmt::format("/proc/{}/maps", pid));
  for (std::string line; std::getline(maps, line);) {
    uint64_t begin = 0;
    uint64_t end = 0;
    char mode[5] = {};
    if (std::sscanf(line.c_str(), "%lx-%lx %4s", &begin, &end, mode) != 3) continue;
    if (std::string_view(mode).substr(0, 2) != "rw") continue;
    std::string content(end - begin, '\0');
    if (pread(memory, content.data(), content.size(), static_cast<off_t>(begin)) !=
        static_cast<ssize_t>(content.size())) {
      continue;  // a device's memory, or gone
    }
    for (size_t at = content.find(row); at != std::string::npos; at = content.find(row, at + 1)) {
      EXPECT_EQ(pwrite(memory, &value, sizeof(value), static_cast<off_t>(begin + at)),
                static_cast<ssize_t>(sizeof(value)));
      ++copies;
    }
  }
  close(memory);
  return copies;
}

TEST(StragglerTest, ASlowRankIsNamed) {
  const Workspace workspace;
  Child run(workspace.path(),
            Launch(3, "hidden_size=128 global_batch_size=96 save_interval=1000000"));
  const auto steps = [&] { return ReadMetrics(workspace / "run").size(); };
  ASSERT_TRUE(WaitUntil([&] { return steps() >= 20; }));
  const std::vector<pid_t> ranks = run.Programs();
  ASSERT_THAT(ranks, SizeIs(3));
  const size_t before = steps();
  // A step computes for longer than the rank may run at a time, so that it is stopped in every one.
  const auto slow_down = [&] {
    kill(ranks[2], SIGSTOP);
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    kill(ranks[2], SIGCONT);
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    return run.Told().find("is slow") != std::string::npos;
  };
  EXPECT_TRUE(WaitUntil(slow_down, std::chrono::seconds(120))) << run.Told();
  EXPECT_THAT(run.Told(), HasSubstr("rank 2 ("));
  EXPECT_THAT(run.Told(), HasSubstr("the others wait for it"));
  // 16 steps judge it; one in which it is stopped while it waits anyway is not slow.
  EXPECT_LE(steps() - before, 40U);
  kill(run.pid(), SIGTERM);
}

// With a save under way, as good as always.
TEST(FlippedBitTest, TheRankWhoseReplicaDiffersIsNamed) {
  const Workspace workspace;
  Child run(workspace.path(), Launch(3, fmt::format("{} global_batch_size=6 save_interval=1 "
                                                    "check_weight_hash_across_dp_replicas_"
                                                    "interval=10",
                                                    kStill)));
  ASSERT_TRUE(WaitUntil([&] { return HasCommit(workspace, 5); }));
  const std::vector<pid_t> ranks = run.Programs();
  ASSERT_THAT(ranks, SizeIs(3));
  const std::string row = FirstRow(workspace / "run", 5, "layers.1.attention.qkv.weight");
  float first = 0;
  std::memcpy(&first, row.data(), sizeof(first));
  ASSERT_GE(Poke(ranks[1], row, std::nextafter(first, 2.0f)), 1);
  const Outcome outcome = run.Wait();
  EXPECT_EQ(outcome.status, 3) << outcome.err;
  EXPECT_EQ(CountErrors(outcome.err), 1) << outcome.err;
  EXPECT_THAT(outcome.err, AllOf(HasSubstr("device error: replicated weights"),
                                 HasSubstr("layers.1.attention.qkv.weight"), HasSubstr("rank 1")));
}

TEST(FlippedBitTest, AWeightThatIsNoNumberIsNamedAndTheRunRewinds) {
  const Workspace workspace;
  Child run(workspace.path(), Launch(2, fmt::format("{} save_interval=5 rewind_iters=1 "
                                                    "loss_anomaly_policy=rewind",
                                                    kStill)));
  ASSERT_TRUE(WaitUntil([&] { return HasCommit(workspace, 10); }));
  const std::vector<pid_t> ranks = run.Programs();
  ASSERT_THAT(ranks, SizeIs(2));
  const std::string row = FirstRow(workspace / "run", 10, "layers.1.mlp.fc1.weight");
  ASSERT_GE(Poke(ranks[1], row, NAN), 1);
  ASSERT_TRUE(WaitUntil([&] { return run.Told().find("rewound to") != std::string::npos; }))
      << run.Told();
  EXPECT_THAT(run.Told(), AllOf(HasSubstr("loss anomaly at iteration "),
                                HasSubstr("\"layers.1.mlp.fc1.weight\" (weight) is not finite on "
                                          "rank 1")));
  const size_t steps = ReadMetrics(workspace / "run").size();
  EXPECT_TRUE(WaitUntil([&] { return ReadMetrics(workspace / "run").size() > steps + 10; }));
  kill(run.pid(), SIGTERM);
  const Outcome outcome = run.Wait();
  for (const Json& line : ReadMetrics(workspace / "run")) {
    EXPECT_TRUE(line["lm_loss"].is_number()) << line;
  }
}

}  // namespace
}  // namespace cairn::testing
