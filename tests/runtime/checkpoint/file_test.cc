#include "runtime/checkpoint/file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <array>
#include <csignal>
#include <filesystem>

#include "runtime/base/error.h"
#include "tests/runtime/checkpoint/checkpoint_testing.h"

namespace cairn {
namespace {

using ::testing::HasSubstr;

template <typename Function>
std::string IoFailure(Function function) {
  try {
    function();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kIo);
    return error.what();
  }
  ADD_FAILURE() << "no Error was thrown";
  return "";
}

TEST(FileTest, WritesAndReadsBack) {
  const TemporaryFolder folder;
  File out = File::Create(folder / "f");
  out.Write(std::as_bytes(std::span("hello", 5)));
  out.Write(std::as_bytes(std::span(" world", 6)));
  out.Sync();
  out.Close();
  const File in = File::OpenForRead(folder / "f");
  EXPECT_EQ(in.Size(), 11U);
  std::string text(5, ' ');
  in.ReadAt(6, std::as_writable_bytes(std::span(text)));
  EXPECT_EQ(text, "world");
}

TEST(FileTest, CreateReplacesALeftoverWithoutTouchingItsOtherNames) {
  const TemporaryFolder folder;
  WriteFile(folder / "old", "precious");
  std::filesystem::create_hard_link(folder / "old", folder / "new");
  File::Create(folder / "new").Close();
  EXPECT_EQ(ReadFile(folder / "old"), "precious");
  EXPECT_EQ(ReadFile(folder / "new"), "");
}

TEST(FileTest, ReadPastTheEndNamesTheBytes) {
  const TemporaryFolder folder;
  WriteFile(folder / "f", "abc");
  const File in = File::OpenForRead(folder / "f");
  std::array<std::byte, 8> buffer = {};
  const std::string what = IoFailure([&] { in.ReadAt(1, buffer); });
  EXPECT_THAT(what, HasSubstr(folder / "f"));
  EXPECT_THAT(what, HasSubstr("ends at byte 3, 6 more"));
}

TEST(FileTest, OpensRegularFilesOnly) {
  const TemporaryFolder folder;
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  EXPECT_THAT(IoFailure([&] { File::OpenForRead(folder / "pipe"); }), HasSubstr("regular file"));
  EXPECT_THAT(IoFailure([&] { File::OpenForRead(folder.path()); }), HasSubstr("regular file"));
  EXPECT_THAT(IoFailure([&] { File::OpenForRead(folder / "none"); }), HasSubstr("open failed"));
}

TEST(FileTest, AFailedWriteIsReportedAndLeavesTheOldContent) {
  const TemporaryFolder folder;
  WriteFileAtomically(folder / "f", "old");
  struct rlimit before = {};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
  const struct rlimit small = {1000, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const std::string what =
      IoFailure([&] { WriteFileAtomically(folder / "f", std::string(5000, 'x')); });
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  std::signal(SIGXFSZ, old_handler);
  EXPECT_THAT(what, HasSubstr("write failed: File too large"));
  EXPECT_EQ(ReadFile(folder / "f"), "old");
  EXPECT_FALSE(std::filesystem::exists(folder / "f.part"));
}

TEST(FileTest, AtomicWriteReplacesAndLeavesNoPart) {
  const TemporaryFolder folder;
  WriteFileAtomically(folder / "f", "one");
  WriteFileAtomically(folder / "f", "two");
  EXPECT_EQ(ReadFile(folder / "f"), "two");
  EXPECT_FALSE(std::filesystem::exists(folder / "f.part"));
  // A rename onto a folder fails: the part must go, too.
  std::filesystem::create_directory(folder / "d");
  EXPECT_THAT(IoFailure([&] { WriteFileAtomically(folder / "d", "x"); }),
              HasSubstr("rename failed"));
  EXPECT_FALSE(std::filesystem::exists(folder / "d.part"));
}

TEST(FileTest, ReadWholeFileIsBounded) {
  const TemporaryFolder folder;
  WriteFile(folder / "f", "abcdef");
  EXPECT_EQ(ReadWholeFile(folder / "f", 6), "abcdef");
  EXPECT_THAT(IoFailure([&] { ReadWholeFile(folder / "f", 5); }), HasSubstr("at most 5"));
}

TEST(FileTest, MakesAndRemoves) {
  const TemporaryFolder folder;
  MakeDirectories(folder / "a/b/c/");
  MakeDirectories(folder / "a/b/c");
  EXPECT_TRUE(std::filesystem::is_directory(folder / "a/b/c"));
  WriteFile(folder / "file", "");
  EXPECT_THAT(IoFailure([&] { MakeDirectories(folder / "file/x"); }), HasSubstr("mkdir failed"));
  EXPECT_TRUE(RemoveFile(folder / "file"));
  EXPECT_FALSE(RemoveFile(folder / "file"));
  EXPECT_THAT(IoFailure([&] { RemoveFile(folder / "a"); }), HasSubstr("unlink failed"));
  EXPECT_EQ(ParentDirectory("x/y/"), "x");
  EXPECT_EQ(ParentDirectory("x"), ".");
}

}  // namespace
}  // namespace cairn
