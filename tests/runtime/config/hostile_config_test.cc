// Bytes from outside must give a config or an Error, whatever they are.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "runtime/config/text.h"
#include "tests/runtime/config/config_testing.h"

namespace cairn {
namespace {

using ::testing::HasSubstr;

void ParseOrRefuse(const std::string& text) {
  try {
    ValidateConfig(ParseText(text), 8);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kConfig) << error.what();
    EXPECT_FALSE(error.where().empty());
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
    EXPECT_LT(std::string(error.what()).size(), 1000U);
  }
}

TEST(HostileConfigTest, DeepNestingIsRefused) {
  std::string text;
  for (int i = 0; i < 5000; ++i) text += "model { ";
  EXPECT_EQ(Caught([&] { ParseText(text); }).where(), "job.textproto:1:9");
  for (int i = 0; i < 5; ++i) text += text;
  ParseOrRefuse(text);
  ParseOrRefuse(std::string(500000, '{'));
  ParseOrRefuse("model: " + std::string(500000, '<'));
  ParseOrRefuse("data { data_path: " + std::string(500000, '[') + " }");
}

// Each could cost protobuf many times its bytes.
TEST(HostileConfigTest, MoreTokensThanAnyConfigHasAreRefused) {
  std::string paths = "data { data_path: ['a'";
  for (int i = 0; i < 10000; ++i) paths += ",''";
  const Error error = Caught([&] { ParseText(paths + "] }"); });
  EXPECT_EQ(error.where(), "job.textproto:1:24590");
  EXPECT_THAT(error.message(), HasSubstr("more than 16384 words and signs"));
  EXPECT_THAT(Caught([] { ParseText(std::string((4 << 20) + 1, ' ')); }).message(),
              HasSubstr("has 4194305 bytes, at most 4194304"));
}

TEST(HostileConfigTest, BytesThatAreNoTextAreLocated) {
  const Error nul = Caught([] { ParseText(std::string("model {\n  \0 }", 13)); });
  EXPECT_EQ(nul.where(), "job.textproto:2:3");
  EXPECT_THAT(nul.message(), HasSubstr("byte 0x00 is not UTF-8 text"));
  EXPECT_EQ(Caught([] { ParseText("# \xff"); }).where(), "job.textproto:1:3");
  EXPECT_EQ(Caught([] { ParseText("# \xc3"); }).where(), "job.textproto:1:3");
  EXPECT_EQ(Caught([] { ParseText("# ä\n\xed\xa0\x80"); }).where(), "job.textproto:2:1");
}

TEST(HostileConfigTest, LongWordsAreCutInMessages) {
  const std::string word(500000, 'a');
  for (const std::string& text :
       {word + ": 1", "model { num_layers: " + word + " }", "train { precision: '" + word + "' }",
        "train { deterministic: " + word + " }"}) {
    ParseOrRefuse(text);
  }
  const Error flag = Caught([&] { ParseOverrides({"--" + word}); });
  EXPECT_LT(std::string(flag.what()).size(), 500U);
  const Error name = Caught([&] { LoadConfig(word, {}, {}); });
  EXPECT_LT(std::string(name.what()).size(), 500U);
}

TEST(HostileConfigTest, HugeSizesDoNotOverflow) {
  const std::string text =
      "model { num_layers: 1048576 hidden_size: 1073741824 ffn_hidden_size: 1073741824 "
      "num_attention_heads: 1048576 seq_length: 1073741824 vocab_size: 1073741824 "
      "make_vocab_size_divisible_by: 1048576 } parallel { tensor_model_parallel_size: 1048576 "
      "pipeline_model_parallel_size: 1048576 sequence_parallel: true } train { micro_batch_size: "
      "1073741824 global_batch_size: 1073741824 train_iters: 1099511627776 } optimizer { lr: 1 }";
  const Error error = Caught([&] { ValidateConfig(ParseText(text), 2147483647); });
  EXPECT_THAT(error.message(), HasSubstr("the model would have"));
}

// Cut, flip and splice a valid config; ASan and UBSan watch this one.
TEST(HostileConfigTest, MutationsNeverCrash) {
  const std::string valid = ConfigText(ParseText(SmallConfig()).config);
  for (size_t length = 0; length <= valid.size(); length += 3) {
    ParseOrRefuse(valid.substr(0, length));
  }
  std::mt19937 random(7);
  for (int round = 0; round < 2000; ++round) {
    std::string text = valid;
    for (int edits = 1 + static_cast<int>(random() % 4); edits > 0; --edits) {
      const size_t at = random() % text.size();
      switch (random() % 4) {
        case 0:
          text[at] = static_cast<char>(random() % 256);
          break;
        case 1:
          text.erase(at, random() % 20);
          break;
        case 2:
          text.insert(at, valid.substr(random() % valid.size(), random() % 40));
          break;
        default:
          text.insert(at, 1, "{}[]<>:,;\"'#\\-0129."[random() % 19]);
      }
      if (text.empty()) text.push_back(0x20);
    }
    ParseOrRefuse(text);
  }
}

TEST(TextTest, ClosestNameFindsTypingErrorsOnly) {
  const std::vector<std::string> names = {"hidden_size", "num_layers", "lr", "min_lr", "seed"};
  EXPECT_EQ(ClosestName("hiden_size", names), "hidden_size");
  EXPECT_EQ(ClosestName("Hidden_Size", names), "hidden_size");
  EXPECT_EQ(ClosestName("num_laeyrs", names), "num_layers");
  EXPECT_EQ(ClosestName("layers", names), "num_layers");
  EXPECT_EQ(ClosestName("sede", names), "seed");
  EXPECT_EQ(ClosestName("x", names), std::nullopt);
  EXPECT_EQ(ClosestName("", names), std::nullopt);
  EXPECT_EQ(ClosestName("completely_else", names), std::nullopt);
  EXPECT_EQ(DidYouMean("sede", names), "; did you mean `seed`?");
  EXPECT_EQ(DidYouMean("zzzz", names), "");
}

TEST(TextTest, PrintableIsOneCleanLine) {
  EXPECT_EQ(Printable("größe"), "größe");
  EXPECT_EQ(Printable(std::string("a\0b\n\x1b[31m\xff", 10)), "a\\x00b\\x0a\\x1b[31m\\xff");
  EXPECT_EQ(Printable("aä", 2), "a\\xc3...");
  EXPECT_EQ(Quoted("x"), "`x`");
  EXPECT_EQ(FirstBadByte("abc"), 3U);
  EXPECT_EQ(FirstBadByte("ab\xc0\xaf"), 2U);
}

}  // namespace
}  // namespace cairn
