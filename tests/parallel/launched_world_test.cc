#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <optional>
#include <string>

#include "parallel/mpi_communicator.h"
#include "runtime/base/error.h"

namespace cairn {
namespace {

using ::testing::HasSubstr;

// An environment without launchers, restored afterwards.
class LaunchedWorldTest : public ::testing::Test {
 protected:
  LaunchedWorldTest() {
    for (const char* name :
         {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK", "PMI_SIZE", "SLURM_STEP_ID",
          "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS", "SLURM_PROCID"}) {
      const char* value = std::getenv(name);
      saved_[name] = value == nullptr ? std::nullopt : std::optional<std::string>(value);
      unsetenv(name);
    }
  }
  ~LaunchedWorldTest() override {
    for (const auto& [name, value] : saved_) {
      value ? setenv(name.c_str(), value->c_str(), 1) : unsetenv(name.c_str());
    }
  }
  static void Set(const char* name, const char* value) { ASSERT_EQ(setenv(name, value, 1), 0); }

  static std::string Refusal(int world_size) {
    try {
      CheckLaunchedWorld(world_size);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kUsage);
      return error.what();
    }
    return "";
  }

 private:
  std::map<std::string, std::optional<std::string>> saved_;
};

TEST_F(LaunchedWorldTest, NoLauncher) {
  EXPECT_FALSE(LaunchedByMpi());
  EXPECT_EQ(Refusal(1), "");
}

TEST_F(LaunchedWorldTest, Mpirun) {
  Set("OMPI_COMM_WORLD_SIZE", "4");
  EXPECT_TRUE(LaunchedByMpi());
  EXPECT_EQ(Refusal(4), "");
  EXPECT_THAT(Refusal(1), HasSubstr("mpirun started 4 tasks but MPI formed a world of 1"));
}

TEST_F(LaunchedWorldTest, Srun) {
  Set("SLURM_STEP_ID", "0");
  Set("SLURM_STEP_NUM_TASKS", "4");
  Set("SLURM_NTASKS", "8");
  EXPECT_TRUE(LaunchedByMpi());
  EXPECT_EQ(Refusal(4), "");
  EXPECT_EQ(Refusal(1),
            "SLURM_STEP_NUM_TASKS: srun started 4 tasks but MPI formed a world of 1: use srun "
            "--mpi=pmix");
}

TEST_F(LaunchedWorldTest, SrunWithoutPmixIsRefusedBeforeMpiStarts) {
  EXPECT_NO_THROW(CheckLauncher());
  Set("SLURM_STEP_ID", "0");
  Set("SLURM_STEP_NUM_TASKS", "1");
  EXPECT_NO_THROW(CheckLauncher());
  Set("SLURM_STEP_NUM_TASKS", "4");
  Set("PMI_RANK", "0");  // what --mpi=pmi2 sets
  try {
    CheckLauncher();
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kUsage);
    EXPECT_THAT(error.what(), HasSubstr("srun started 4 tasks without PMIx"));
    EXPECT_THAT(error.what(), HasSubstr("use srun --mpi=pmix"));
    EXPECT_THAT(error.what(), HasSubstr("mpirun inside the allocation"));
  }
  Set("PMIX_RANK", "0");
  EXPECT_NO_THROW(CheckLauncher());
  unsetenv("PMIX_RANK");
  Set("OMPI_COMM_WORLD_SIZE", "4");
  EXPECT_NO_THROW(CheckLauncher());
}

TEST_F(LaunchedWorldTest, OneTaskSpeaksForAll) {
  EXPECT_TRUE(IsFirstTask());
  Set("SLURM_PROCID", "0");
  EXPECT_TRUE(IsFirstTask());
  Set("SLURM_PROCID", "10");
  EXPECT_FALSE(IsFirstTask());
}

TEST_F(LaunchedWorldTest, MpirunInsideASlurmJobIsTrustedFirst) {
  Set("SLURM_STEP_ID", "0");
  Set("SLURM_STEP_NUM_TASKS", "2");  // one orted a node
  Set("OMPI_COMM_WORLD_SIZE", "16");
  EXPECT_EQ(Refusal(16), "");
}

TEST_F(LaunchedWorldTest, ABatchScriptAndAnInteractiveShellAreNoLaunch) {
  Set("SLURM_NTASKS", "8");
  Set("SLURM_PROCID", "0");
  EXPECT_FALSE(LaunchedByMpi());
  EXPECT_EQ(Refusal(1), "");
  Set("SLURM_STEP_ID", "0");
  Set("SLURM_STEP_NUM_TASKS", "1");
  EXPECT_FALSE(LaunchedByMpi());
  EXPECT_EQ(Refusal(1), "");
}

TEST_F(LaunchedWorldTest, ForeignLauncher) {
  Set("PMI_RANK", "0");
  Set("PMI_SIZE", "2");
  EXPECT_TRUE(LaunchedByMpi());
  EXPECT_THAT(Refusal(1), HasSubstr("the launcher started 2 tasks"));
}

TEST_F(LaunchedWorldTest, NonsenseIsNamed) {
  for (const char* value : {"", "four", "4x", "-1", "0", "99999999999999999999"}) {
    Set("OMPI_COMM_WORLD_SIZE", value);
    EXPECT_THAT(Refusal(1), HasSubstr("is not a number of ranks")) << value;
  }
}

}  // namespace
}  // namespace cairn
