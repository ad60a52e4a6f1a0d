#include "parallel/checkpoint_saver.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>

#include "parallel/checkpoint.h"
#include "parallel/local_communicator.h"
#include "runtime/base/error.h"
#include "runtime/checkpoint/commit.h"
#include "runtime/tensor/elementwise.h"

namespace cairn {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr int64_t kRows = 12;

// What one rank holds of a model of two parameters: a part of a matrix, and a whole vector that
// rank 0 writes.
class State {
 public:
  State(const Communicator& world, int64_t columns = 5) {
    matrix_.name = "layers.0.mlp.fc1.weight";
    matrix_.shard = ShardSpec::Split({kRows, columns}, 0, world.size(), world.rank());
    vector_.name = "norm.bias";
    vector_.shard = ShardSpec::Replicated({7});
    for (const char* kind : {"weight", "exp_avg", "exp_avg_sq"}) {
      for (const Parameter* parameter : {&matrix_, &vector_}) {
        const int64_t elements = parameter->shard.local_shape.numel();
        pieces_.push_back({parameter, kind, Tensor::Zeros({elements}, DType::kFloat32, *device_), 0,
                           parameter == &matrix_ || world.rank() == 0});
      }
    }
    Set(0);
  }

  // Gives every element a value of its own that `time` changes.
  void Set(int64_t time) {
    for (size_t p = 0; p < pieces_.size(); ++p) {
      auto* elements = pieces_[p].data.data<float>();
      const Rectangle& held = pieces_[p].parameter->shard.held;
      const int64_t first = held.offset[0] * held.extent.numel() / held.extent[0];
      for (int64_t i = 0; i < pieces_[p].data.numel(); ++i) {
        elements[i] = static_cast<float>(time * 100'000 + p * 1000 + first + i);
      }
    }
  }

  const std::vector<StatePiece>& pieces() const { return pieces_; }

 private:
  std::unique_ptr<Device> device_ = NewCpuDevice();
  Parameter matrix_;
  Parameter vector_;
  std::vector<StatePiece> pieces_;
};

Manifest Describe(int64_t iteration) {
  Manifest manifest;
  manifest.iteration = iteration;
  return manifest;
}

class CheckpointSaverTest : public ::testing::Test {
 protected:
  CheckpointSaverTest() {
    folder_ = fs::temp_directory_path() / "cairn-saver-XXXXXX";
    EXPECT_NE(mkdtemp(folder_.data()), nullptr);
  }
  ~CheckpointSaverTest() override {
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
  }

  std::string RunDir(const std::string& name = "run") const { return folder_ + "/" + name; }
  CheckpointSaver::Options Options(RetentionPolicy retention = {}) const {
    return {.run_dir = RunDir(), .retention = retention};
  }

  // Committed and sound.
  std::vector<int64_t> Good() const {
    std::vector<int64_t> iterations;
    for (const CheckpointInfo& info : ListCheckpoints(RunDir())) {
      if (VerifyCheckpoint(info.path, VerifyLevel::kFull).empty()) {
        iterations.push_back(info.iteration);
      }
    }
    return iterations;
  }

  // The bytes of each file of a checkpoint.
  static std::map<std::string, std::string> Files(const std::string& directory) {
    std::map<std::string, std::string> files;
    for (const auto& entry : fs::directory_iterator(directory)) {
      std::ifstream in(entry.path(), std::ios::binary);
      files[entry.path().filename()] = {std::istreambuf_iterator<char>(in), {}};
    }
    return files;
  }

 private:
  std::string folder_;
};

TEST_F(CheckpointSaverTest, WritesWhatASynchronousSaveWrites) {
  for (const int ranks : {1, 2, 3, 4}) {
    const std::string name = std::to_string(ranks);
    RunLocalRanks(ranks, [&](Communicator& world) {
      State state(world);
      SaveCheckpoint(world, RunDir("plain" + name), Describe(1), state.pieces());
      for (const bool async : {false, true}) {
        CheckpointSaver saver(
            world, {.run_dir = RunDir((async ? "async" : "sync") + name), .async = async});
        saver.Save(Describe(1), state.pieces());
        if (async) state.Set(2);
        const CheckpointSaver::Outcome outcome = saver.Collect();
        EXPECT_FALSE(outcome.error);
        EXPECT_EQ(outcome.iteration, 1);
        EXPECT_GT(outcome.bytes, 3 * sizeof(float) * kRows * 5);
      }
    });
    const auto files = Files(StepDirectory(RunDir("plain" + name), 1));
    EXPECT_EQ(files.size(), ranks + 2U);
    EXPECT_EQ(Files(StepDirectory(RunDir("sync" + name), 1)), files);
    EXPECT_EQ(Files(StepDirectory(RunDir("async" + name), 1)), files);
  }
}

TEST_F(CheckpointSaverTest, ASecondSaveWaitsInACopyOfItsOwn) {
  RunLocalRanks(3, [&](Communicator& world) {
    State state(world);
    CheckpointSaver saver(world, Options());
    // Nothing can end before rank 2 has come.
    if (world.rank() == 2) world.Barrier();
    for (const int64_t iteration : {1, 2}) {
      EXPECT_TRUE(saver.room());
      state.Set(iteration);
      saver.Save(Describe(iteration), state.pieces());
    }
    EXPECT_FALSE(saver.room());
    EXPECT_EQ(saver.pending(), 2);
    state.Set(9);
    if (world.rank() != 2) {
      EXPECT_FALSE(saver.finished());
      world.Barrier();
    }
    EXPECT_EQ(saver.Collect().iteration, 1);
    EXPECT_TRUE(saver.room());
    // Into the memory of the first, while the second may be written.
    state.Set(3);
    saver.Save(Describe(3), state.pieces());
    state.Set(9);
    for (const int64_t iteration : {2, 3}) {
      const CheckpointSaver::Outcome outcome = saver.Collect();
      EXPECT_EQ(outcome.iteration, iteration);
      EXPECT_EQ(outcome.directory, StepDirectory(RunDir(), iteration));
    }
    EXPECT_FALSE(saver.finished());
    for (const int64_t iteration : {1, 2, 3}) {
      state.Set(iteration);
      SaveCheckpoint(world, RunDir("plain"), Describe(iteration), state.pieces());
    }
  });
  for (const int64_t iteration : {1, 2, 3}) {
    EXPECT_EQ(Files(StepDirectory(RunDir(), iteration)),
              Files(StepDirectory(RunDir("plain"), iteration)));
  }
}

// A limit on the size of files, which rank 0's shard meets: it writes the vector, too.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    EXPECT_NE(signal(SIGXFSZ, SIG_IGN), SIG_ERR);
    EXPECT_EQ(getrlimit(RLIMIT_FSIZE, &before_), 0);
    const rlimit limit = {bytes, before_.rlim_max};
    EXPECT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
  }
  ~FileSizeLimit() { setrlimit(RLIMIT_FSIZE, &before_); }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

 private:
  rlimit before_ = {};
};

TEST_F(CheckpointSaverTest, AFailedWriteReachesAllRanksAndTheNextSaveWorks) {
  // How large shards are, to put a limit between that of rank 0 and the others.
  RunLocalRanks(3, [&](Communicator& world) {
    SaveCheckpoint(world, RunDir("sizes"), Describe(1), State(world, 600).pieces());
  });
  const std::string sizes = StepDirectory(RunDir("sizes"), 1);
  const auto largest = fs::file_size(sizes + "/shard-00000.safetensors");
  ASSERT_GT(largest, fs::file_size(sizes + "/shard-00001.safetensors") + 100);

  RunLocalRanks(3, [&](Communicator& world) {
    const State state(world, 600);
    CheckpointSaver saver(world, Options());
    const auto save = [&](int64_t iteration) {
      saver.Save(Describe(iteration), state.pieces());
      return saver.Collect();
    };
    EXPECT_FALSE(save(1).error);
    std::optional<FileSizeLimit> limit;
    if (world.rank() == 0) limit.emplace(largest - 100);
    world.Barrier();
    const CheckpointSaver::Outcome failed = save(2);
    ASSERT_TRUE(failed.error);
    EXPECT_EQ(failed.error->kind(), ErrorKind::kIo);
    EXPECT_THAT(failed.error->what(), HasSubstr("step-00000002/shard-00000.safetensors"));
    EXPECT_THAT(failed.error->what(), HasSubstr("File too large"));
    EXPECT_EQ(failed.directory, "");
    world.Barrier();
    limit.reset();
    world.Barrier();
    EXPECT_FALSE(save(3).error);
  });
  EXPECT_FALSE(fs::exists(StepDirectory(RunDir(), 2)));
  EXPECT_THAT(Good(), ElementsAre(1, 3));
}

TEST_F(CheckpointSaverTest, ASnapshotThatFailsIsAFailedSaveOnAllRanks) {
  RunLocalRanks(2, [&](Communicator& world) {
    const State state(world);
    CheckpointSaver saver(world, Options());
    const std::unique_ptr<Device> meta = NewMetaDevice();
    std::vector<StatePiece> pieces = state.pieces();
    if (world.rank() == 1) {
      // More than any machine has.
      pieces[0].data = Tensor::Empty({int64_t{1} << 55}, DType::kFloat32, *meta);
    }
    saver.Save(Describe(1), pieces);
    const CheckpointSaver::Outcome failed = saver.Collect();
    ASSERT_TRUE(failed.error);
    EXPECT_EQ(failed.error->kind(), ErrorKind::kOutOfMemory);
    EXPECT_THAT(failed.error->what(), HasSubstr("checkpoint.async"));
    saver.Save(Describe(2), state.pieces());
    EXPECT_FALSE(saver.Collect().error);
  });
  EXPECT_THAT(Good(), ElementsAre(2));
}

TEST_F(CheckpointSaverTest, RetentionFollowsEachCommit) {
  RunLocalRanks(2, [&](Communicator& world) {
    State state(world);
    CheckpointSaver saver(world,
                          Options({.keep = 2, .retain_interval = 3, .protect_iteration = 1}));
    for (int64_t iteration = 1; iteration <= 8; ++iteration) {
      if (!saver.room()) {
        EXPECT_EQ(saver.Collect().retention_problem, "");
      }
      state.Set(iteration);
      saver.Save(Describe(iteration), state.pieces());
    }
    while (saver.pending() > 0) EXPECT_EQ(saver.Collect().retention_problem, "");
  });
  EXPECT_THAT(Good(), ElementsAre(1, 3, 6, 7, 8));
}

TEST_F(CheckpointSaverTest, ARetentionThatFailsIsNoFailedSave) {
  RunLocalRanks(2, [&](Communicator& world) {
    const State state(world);
    CheckpointSaver saver(world, Options({.keep = 1}));
    saver.Save(Describe(1), state.pieces());
    EXPECT_FALSE(saver.Collect().error);
    if (world.rank() == 0) fs::create_directory(StepDirectory(RunDir(), 1) + "/a_folder");
    world.Barrier();
    saver.Save(Describe(2), state.pieces());
    const CheckpointSaver::Outcome outcome = saver.Collect();
    EXPECT_FALSE(outcome.error);
    EXPECT_EQ(outcome.retention_problem.empty(), world.rank() != 0);
    EXPECT_EQ(outcome.directory, StepDirectory(RunDir(), 2));
  });
  EXPECT_THAT(Good(), ElementsAre(2));
}

TEST_F(CheckpointSaverTest, WhatIsPendingAtTheEndIsWritten) {
  RunLocalRanks(3, [&](Communicator& world) {
    State state(world);
    CheckpointSaver saver(world, Options());
    saver.Save(Describe(1), state.pieces());
    saver.Save(Describe(2), state.pieces());
  });
  EXPECT_THAT(Good(), ElementsAre(1, 2));
}

TEST_F(CheckpointSaverTest, ARankThatThrowsWaitsForNobody) {
  for (const bool others_save : {false, true}) {
    try {
      RunLocalRanks(3, [&](Communicator& world) {
        const State state(world);
        CheckpointSaver saver(world, Options());
        if (others_save || world.rank() == 1) saver.Save(Describe(1), state.pieces());
        if (world.rank() == 1) {
          // Of this one the others never hear.
          saver.Save(Describe(2), state.pieces());
          Throw(ErrorKind::kData, "sample 12", "damaged");
        }
        world.Barrier();
      });
      ADD_FAILURE() << "nothing was thrown";
    } catch (const Error& error) {
      EXPECT_EQ(error.where(), "sample 12");
    }
    EXPECT_FALSE(fs::exists(StepDirectory(RunDir(), 2) + "/COMMIT"));
  }
}

TEST_F(CheckpointSaverTest, OthersHearOfARankThatGaveUp) {
  RunLocalRanks(2, [&](Communicator& world) {
    const State state(world);
    try {
      CheckpointSaver saver(world, Options());
      if (world.rank() == 1) throw std::runtime_error("lightning");
      saver.Save(Describe(1), state.pieces());
      saver.Collect();
      ADD_FAILURE() << "saved alone";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kCommunication);
      EXPECT_THAT(error.what(), HasSubstr("checkpoint: rank 1 has left"));
    } catch (const std::runtime_error&) {
      EXPECT_EQ(world.rank(), 1);
    }
  });
  EXPECT_THAT(Good(), IsEmpty());
}

TEST_F(CheckpointSaverTest, ItsWaitingIsNotTheTrainings) {
  RunLocalRanks(2, [&](Communicator& world) {
    const State state(world);
    CheckpointSaver saver(world, Options());
    const int64_t before = world.wait_ns();
    saver.Save(Describe(1), state.pieces());
    EXPECT_FALSE(saver.Collect().error);
    EXPECT_EQ(world.wait_ns(), before);
  });
}

}  // namespace
}  // namespace cairn
