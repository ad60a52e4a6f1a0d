#include "runtime/base/subprocess.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include "runtime/base/error.h"

namespace cairn {
namespace {

using ::testing::HasSubstr;

TEST(SubprocessTest, WordsAreNotReadByAShell) {
  const ProcessResult result =
      RunProcess({"printf", "%s|", "a b", "$(false)", "; exit 7", "it's \"so\"", ""});
  EXPECT_EQ(result.status, 0);
  EXPECT_EQ(result.out, "a b|$(false)|; exit 7|it's \"so\"||");
  EXPECT_EQ(result.err, "");
}

TEST(SubprocessTest, StatusAndBothOutputs) {
  const ProcessResult result = RunProcess({"sh", "-c", "echo good; echo bad >&2; exit 5"});
  EXPECT_EQ(result.status, 5);
  EXPECT_EQ(result.out, "good\n");
  EXPECT_EQ(result.err, "bad\n");
  EXPECT_EQ(RunProcess({"sh", "-c", "kill -KILL $$"}).status, 128 + SIGKILL);
  EXPECT_EQ(RunProcessHere({"sh", "-c", "exit 6"}), 6);
}

TEST(SubprocessTest, StandardInputIsEmpty) { EXPECT_EQ(RunProcess({"cat"}).out, ""); }

TEST(SubprocessTest, OutputIsBoundedAndNeverBlocksTheChild) {
  const ProcessResult result =
      RunProcess({"sh", "-c", "head -c 3000000 /dev/zero >&2; head -c 3000000 /dev/zero; exit 3"});
  EXPECT_EQ(result.status, 3);
  EXPECT_EQ(result.out.size(), size_t{1} << 20);
  EXPECT_EQ(result.err.size(), size_t{1} << 20);
}

TEST(SubprocessTest, NoSignalIsBlocked) {
  sigset_t blocked;
  sigset_t before;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGTERM);
  ASSERT_EQ(pthread_sigmask(SIG_BLOCK, &blocked, &before), 0);
  const int status = RunProcess({"sh", "-c", "kill -TERM $$; exit 0"}).status;
  ASSERT_EQ(pthread_sigmask(SIG_SETMASK, &before, nullptr), 0);
  EXPECT_EQ(status, 128 + SIGTERM);
}

TEST(SubprocessTest, WhatCannotBeStartedIsNamed) {
  for (const bool become : {false, true}) {
    try {
      if (become) BecomeProcess({"no-such-program"});
      RunProcess({"no-such-program"});
      ADD_FAILURE();
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kIo);
      EXPECT_THAT(error.what(), HasSubstr("no-such-program: cannot be started: No such file"));
    }
  }
}

}  // namespace
}  // namespace cairn
