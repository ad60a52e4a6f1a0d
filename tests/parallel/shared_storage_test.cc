#include "parallel/shared_storage.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "parallel/agreement.h"
#include "parallel/local_communicator.h"

namespace cairn {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class SharedStorageTest : public ::testing::Test {
 protected:
  SharedStorageTest() {
    folder_ = fs::temp_directory_path() / "cairn-shared-XXXXXX";
    EXPECT_NE(mkdtemp(folder_.data()), nullptr);
  }
  ~SharedStorageTest() override { fs::remove_all(folder_); }

  std::string folder_;
};

TEST_F(SharedStorageTest, OneFolderForAllIsMadeAndLeftEmpty) {
  for (const int ranks : {1, 3}) {
    const std::string directory = fmt::format("{}/{}/run", folder_, ranks);
    RunLocalRanks(ranks, [&](Communicator& world) { CheckSharedStorage(world, directory); });
    EXPECT_TRUE(fs::is_empty(directory));
  }
}

TEST_F(SharedStorageTest, TheRankWithAnotherFolderIsNamedToAll) {
  fs::create_directories(folder_ + "/there/run");
  RunLocalRanks(3, [&](Communicator& world) {
    const std::string directory = folder_ + (world.rank() == 2 ? "/there/run" : "/here/run");
    try {
      CheckSharedStorage(world, directory);
      ADD_FAILURE() << "not seen";
    } catch (const CollectiveError& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kConfig);
      EXPECT_THAT(error.what(), HasSubstr("run_dir: rank 2 on "));
      EXPECT_THAT(error.what(), HasSubstr("file system that all hosts share"));
    }
  });
  EXPECT_TRUE(fs::is_empty(folder_ + "/here/run"));
}

}  // namespace
}  // namespace cairn
