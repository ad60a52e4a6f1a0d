#include "runtime/base/shell.h"

#include <gtest/gtest.h>

#include "runtime/base/subprocess.h"

namespace cairn {
namespace {

TEST(ShellTest, PlainWordsStay) {
  EXPECT_EQ(ShellLine({"/a-b/c_d.e", "x=1,2", "n1:8@z", "50%", "+1"}),
            "/a-b/c_d.e x=1,2 n1:8@z 50% +1");
}

TEST(ShellTest, OthersAreQuoted) {
  EXPECT_EQ(ShellLine({"", "a b", "$HOME", "it's", "~", "*", "a;b"}),
            "'' 'a b' '$HOME' 'it'\\''s' '~' '*' 'a;b'");
}

TEST(ShellTest, AShellReadsTheSameWords) {
  const std::vector<std::string> words = {"a b", "",          "'",  "''x'",   "\"$(id)\"", "`id`",
                                          "\\",  "new\nline", "\t", "!#&|<>", "ü",         "-n"};
  std::string expected;
  for (const std::string& word : words) expected += word + "|";
  EXPECT_EQ(RunProcess({"sh", "-c", "printf '%s|' " + ShellLine(words)}).out, expected);
}

}  // namespace
}  // namespace cairn
