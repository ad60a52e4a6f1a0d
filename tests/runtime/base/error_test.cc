#include "runtime/base/error.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <exception>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "runtime/base/cpu_kernel.h"

namespace cairn {
namespace {

TEST(ErrorTest, SaysWhereAndWhat) {
  try {
    Throw(ErrorKind::kConfig, "gpt.textproto:4:9", "{} is not one of {}", "tripple", "{1, 2}");
    FAIL() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kConfig);
    EXPECT_EQ(error.where(), "gpt.textproto:4:9");
    EXPECT_EQ(error.message(), "tripple is not one of {1, 2}");
    EXPECT_STREQ(error.what(), "gpt.textproto:4:9: tripple is not one of {1, 2}");
  }
}

TEST(ErrorTest, WithoutAPlaceOnlyTheMessage) {
  EXPECT_STREQ(Error(ErrorKind::kInternal, "", "broken").what(), "broken");
}

TEST(ErrorTest, TextFromOutsideIsNotAFormat) {
  const Error error(ErrorKind::kData, "a{}b", "100% {0} %s");
  EXPECT_STREQ(error.what(), "a{}b: 100% {0} %s");
}

TEST(ErrorTest, NamesFromOutsideNeitherSteerTheTerminalNorForgeALine) {
  const Error error(ErrorKind::kCheckpoint, "a\nb", "tensor \"\x1b[2J\x7f\t\" größer");
  EXPECT_STREQ(error.what(), "a\\x0ab: tensor \"\\x1b[2J\\x7f\\x09\" größer");
}

TEST(ErrorTest, CopyKeepsEverything) {
  const auto original = std::make_unique<Error>(ErrorKind::kIo, "file", "gone");
  std::exception_ptr copy = std::make_exception_ptr(*original);
  try {
    std::rethrow_exception(copy);
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), original->what());
    EXPECT_EQ(error.kind(), ErrorKind::kIo);
  }
}

TEST(ErrorTest, ExitStatusTellsUsersMistakesFromFailedRuns) {
  const auto status = [](ErrorKind kind) { return Error(kind, "", "").exit_status(); };
  EXPECT_EQ(status(ErrorKind::kUsage), 2);
  EXPECT_EQ(status(ErrorKind::kConfig), 2);
  EXPECT_EQ(status(ErrorKind::kInterrupted), 4);
  for (ErrorKind kind :
       {ErrorKind::kData, ErrorKind::kCheckpoint, ErrorKind::kIo, ErrorKind::kCommunication,
        ErrorKind::kDevice, ErrorKind::kOutOfMemory, ErrorKind::kInternal}) {
    EXPECT_EQ(status(kind), 3) << ErrorKindName(kind);
  }
}

TEST(ErrorTest, KindsHaveDistinctNames) {
  std::set<std::string> names;
  for (int kind = 0; kind <= static_cast<int>(ErrorKind::kInternal); ++kind) {
    names.insert(ErrorKindName(static_cast<ErrorKind>(kind)));
  }
  EXPECT_EQ(names.size(), static_cast<size_t>(ErrorKind::kInternal) + 1);
}

TEST(ErrorTest, ErrnoNamesCallFileAndReason) {
  try {
    ThrowErrno(ENOENT, "open", "/nowhere/at all");
    FAIL() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kIo);
    EXPECT_STREQ(error.what(), "/nowhere/at all: open failed: No such file or directory");
  }
}

TEST(ParallelForTest, CoversEachItemOnce) {
  for (int64_t n : {0, 1, 2, 7, 1000}) {
    for (int64_t grain : {1, 3, 5000}) {
      std::vector<int> hits(static_cast<size_t>(n));
      ParallelFor(n, grain, [&](int64_t begin, int64_t end) {
        ASSERT_LT(begin, end);
        for (int64_t i = begin; i < end; ++i) ++hits[i];
      });
      EXPECT_THAT(hits, ::testing::Each(1)) << n << " by " << grain;
    }
  }
}

}  // namespace
}  // namespace cairn
