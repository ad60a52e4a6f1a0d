#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "runtime/base/error.h"
#include "runtime/checkpoint/checkpoint_reader.h"
#include "runtime/checkpoint/commit.h"
#include "runtime/checkpoint/digest.h"
#include "runtime/checkpoint/store.h"
#include "tests/runtime/checkpoint/checkpoint_testing.h"

// Checkpoints of someone who knows the format and means no good: every digest fits.

namespace cairn {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;

constexpr const char* kShard = "shard-00000.safetensors";

// What LoadManifest says of the bytes `manifest`; "" if nothing.
std::string Refusal(const std::string& manifest) {
  const TemporaryFolder folder;
  WriteUncheckedCommit(folder.path(), manifest, 0);
  const std::vector<Damage> damages = VerifyCheckpoint(folder.path(), VerifyLevel::kQuick);
  try {
    LoadManifest(folder.path());
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kCheckpoint);
    EXPECT_EQ(error.where(), folder.path());
    EXPECT_EQ(damages.size(), 1U);
    EXPECT_EQ(damages.at(0).file, kManifestFile);
    EXPECT_EQ(error.message(), Describe(damages.at(0)));
    return error.message();
  }
  return "";
}

struct BytesCase {
  const char* name;
  std::string bytes;
  const char* message;
};

class HostileBytesTest : public ::testing::TestWithParam<BytesCase> {};

TEST_P(HostileBytesTest, AreRefusedAtTheirByte) {
  EXPECT_THAT(Refusal(GetParam().bytes), HasSubstr(GetParam().message));
}

// A field of the type "bytes".
std::string Record(char tag, const std::string& content) {
  std::string bytes(1, tag);
  for (size_t length = content.size();; length >>= 7) {
    bytes += static_cast<char>((length & 0x7f) | (length > 0x7f ? 0x80 : 0));
    if (length <= 0x7f) break;
  }
  return bytes + content;
}

std::string Repeated(const std::string& text, size_t times) {
  std::string all;
  for (size_t i = 0; i < times; ++i) all += text;
  return all;
}

std::vector<BytesCase> BytesCases() {
  const std::string version("\x08\x01", 2);
  const std::string padding(30, 'p');
  const auto tensor = [&](const std::string& field) {
    return version + Record(0x42, Record(0x0a, padding) + field);
  };
  const auto chunk = [&](const std::string& field) {
    return tensor(Record(0x2a, Record(0x12, padding) + field));
  };
  std::string entries;
  for (int i = 0; i <= 1024; ++i) {
    entries += Record(0x3a, Record(0x0a, std::to_string(i)) + Record(0x12, "v"));
  }
  return {
      {"Nothing", "", "format version 0"},
      {"NoField", std::string("\x00\x00", 2), "byte 0, field 0: there is no such field"},
      {"UnknownField", version + "\x58\x01", "byte 2, field 11: there is no such field"},
      {"FarField", version + std::string("\xf8\xff\xff\xff\x0f\x01", 6), "there is no such field"},
      {"FarthestField", version + Repeated("\xff", 9) + "\x01", "there is no such field"},
      {"Group", version + "\x0b\x0c", "byte 2, field 1: there is no such type"},
      {"WrongType", std::string("\x0d\1\0\0\0", 5), "byte 0, field 1: has wire type 5, not 0"},
      {"Twice", version + version, "byte 2, field 1: occurs twice"},
      {"CutNumber", version + "\x10\x80", "byte 2, field 2: has 1 bytes where 0 are left"},
      {"LongNumber", version + "\x10" + Repeated("\x80", 10) + "\x01", "more than 64 bits"},
      {"LargeNumber", version + "\x10" + Repeated("\xff", 9) + "\x02", "more than 64 bits"},
      {"LargeVersion", "\x08\xff\xff\xff\xff\x7f", "34359738367 is too large"},
      {"CutText",
       version + "\x2a\x05"
                 "abc",
       "byte 2, field 5: has 5 bytes where 3 are left"},
      {"HugeLength", version + "\x2a" + Repeated("\xff", 8) + "\x7f",
       "has 9223372036854775807 bytes where 0 are left"},
      {"CutDouble", version + std::string("\x32\x05\x09\0\0\0\0", 7), "byte 4, field 1: has 8"},
      {"ManyEmptyTensors", version + Repeated(std::string("\x42\0", 2), 1000),
       "byte 2, field 8: has 0 bytes, at least 23"},
      {"EmptyFile", version + std::string("\x4a\0", 2), "byte 2, field 9: has 0 bytes"},
      {"EmptyChunk", tensor(std::string("\x2a\0", 2)), "field 5: has 0 bytes, at least 11"},
      {"DeepTensor", tensor("\x32\x02\x32\x01"), "field 6: there is no such field"},
      {"TwoNames", tensor(Record(0x0a, "n")), "field 1: occurs twice"},
      {"LongShape", tensor(Record(0x22, std::string(17, '\1'))), "more than 16 dimensions"},
      {"CutShape", tensor(Record(0x22, "\x80")), "field 4: has 1 bytes where 0 are left"},
      {"UnpackedShape", tensor("\x20\x01"), "field 4: has wire type 0, not 2"},
      {"LongOffset", chunk(Record(0x22, std::string(1000, '\1'))), "more than 16 dimensions"},
      {"LongExtent", chunk(Record(0x2a, std::string(17, '\1'))), "more than 16 dimensions"},
      {"CutChecksum", chunk(Record(0x32, "abcde")), "field 6: is cut off"},
      {"FileNumber", chunk("\x08\x80\x80\x80\x80\x10"), "4294967296 is too large"},
      {"LayoutTwice", version + Repeated(Record(0x3a, "\x0a\x01k"), 2),
       "layout entry occurs twice"},
      {"LayoutField", version + Record(0x3a, "\x18\x01"), "field 3: there is no such field"},
      {"LongLayout", version + entries, "more than 1024 layout entries"},
  };
}

INSTANTIATE_TEST_SUITE_P(Table, HostileBytesTest, ::testing::ValuesIn(BytesCases()),
                         [](const auto& info) { return std::string(info.param.name); });

struct ManifestCase {
  const char* name;
  std::function<void(Manifest&)> change;
  const char* message;
};

class HostileManifestTest : public ::testing::TestWithParam<ManifestCase> {};

TEST_P(HostileManifestTest, IsRefused) {
  const TemporaryFolder folder;
  Manifest manifest = LoadManifest(WriteSmallCheckpoint(folder.path(), 0));
  GetParam().change(manifest);
  const std::string refusal = Refusal(SerializeManifest(manifest));
  EXPECT_THAT(refusal, HasSubstr(GetParam().message));
  EXPECT_EQ(refusal.find_first_of("\n\x1b"), std::string::npos);
}

// A shard of that name.
ManifestCase Path(const char* name, const std::string& path) {
  return {name, [path](Manifest& m) { m.files[0].name = path; }, "is not a plain name"};
}

std::vector<ManifestCase> ManifestCases() {
  using M = Manifest;
  std::vector<ManifestCase> cases = {
      Path("Above", "../shard-00000.safetensors"),
      Path("FarAbove", "../../../etc/x.safetensors"),
      Path("Absolute", "/etc/x.safetensors"),
      Path("Below", "a/x.safetensors"),
      Path("Itself", "./x.safetensors"),
      Path("SlashAtEnd", "x.safetensors/"),
      Path("Nothing", ""),
      Path("Dot", "."),
      Path("DotDot", ".."),
      Path("Hidden", ".x.safetensors"),
      Path("SuffixOnly", ".safetensors"),
      Path("ZeroByte", std::string("x\0.safetensors", 14)),
      Path("ZeroByteAtEnd", std::string("x.safetensors\0", 14)),
      Path("LineEnd", "x\n.safetensors"),
      Path("Escape", "x\x1b[2J.safetensors"),
      Path("Space", "x .safetensors"),
      Path("Commit", "COMMIT"),
      Path("Manifest", "MANIFEST.pb"),
      Path("Part", "x.safetensors.part"),
      Path("TooLong", std::string(244, 'x') + ".safetensors"),
      Path("FarTooLong", std::string(100'000, 'x') + ".safetensors"),
  };
  const std::vector<ManifestCase> numbers = {
      {"ScaleNaN", [](M& m) { m.training_state.loss_scale = std::nan(""); }, "loss scale nan"},
      {"ScaleInfinite", [](M& m) { m.training_state.loss_scale = HUGE_VAL; }, "loss scale inf"},
      {"ScaleZero", [](M& m) { m.training_state.loss_scale = 0; }, "loss scale 0"},
      {"ScaleNegative", [](M& m) { m.training_state.loss_scale = -2; }, "loss scale -2"},
      {"StepsNegative", [](M& m) { m.training_state.optimizer_steps = -1; }, "optimizer steps -1"},
      {"SkippedNegative", [](M& m) { m.training_state.skipped_iterations = -9; }, "iterations -9"},
      {"IterationNegative", [](M& m) { m.iteration = -5; }, "iteration -5"},
      {"TokensNegative", [](M& m) { m.tokens = INT64_MIN; }, "must not be negative"},
      {"HeaderTooLong",
       [](M& m) {
         m.files[0].size += 200'000'000;
         m.files[0].header_bytes += 200'000'000;
       },
       "a header of 200000"},
      {"SizeHuge", [](M& m) { m.files[0].size = UINT64_MAX; }, "its chunks end at"},
      {"NameEscape", [](M& m) { m.tensors[0].name = "a\x1b]0;owned\x07"; }, "\\x1b]0;owned\\x07"},
      {"NameBytes", [](M& m) { m.tensors[0].name = "\xc3\xa4"; }, "tensor name"},
      {"NameZeroByte", [](M& m) { m.tensors[0].name = std::string("a\0b", 3); }, "a\\x00b"},
      {"NamePath", [](M& m) { m.tensors[0].name.assign(1025, 'n'); }, "1 to 1024 printable"},
      {"ConfigTooLong", [](M& m) { m.config_text.assign((4 << 20) + 1, ' '); }, "config text of"},
      {"LayoutEscape", [](M& m) { m.layout["tp"] = "\x1b[31m"; }, "layout entry"},
  };
  cases.insert(cases.end(), numbers.begin(), numbers.end());
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Table, HostileManifestTest, ::testing::ValuesIn(ManifestCases()),
                         [](const auto& info) { return std::string(info.param.name); });

// A small checkpoint whose shard 0 `change` edits, header and all, with digests that fit.
class ForgedShard {
 public:
  explicit ForgedShard(const std::function<void(std::string&, FileEntry&)>& change) {
    directory_ = WriteSmallCheckpoint(folder_.path(), 0);
    Manifest manifest = LoadManifest(directory_);
    std::string image = ReadFile(directory_ + "/" + kShard);
    FileEntry& file = manifest.files[0];
    change(image, file);
    WriteFile(directory_ + "/" + kShard, image);
    file.header_crc32c =
        Crc32c(std::as_bytes(std::span(std::string_view(image).substr(0, file.header_bytes))));
    Xxh3Stream whole;
    whole.Update(std::as_bytes(std::span(image)));
    file.xxh3_128 = whole.HexDigest();
    WriteUncheckedCommit(directory_, SerializeManifest(manifest), 0);
  }

  // Expects that verification and the reader say `message` of the shard.
  void ExpectRefused(const char* message) const {
    const std::vector<Damage> damages = VerifyCheckpoint(directory_, VerifyLevel::kQuick);
    ASSERT_FALSE(damages.empty());
    EXPECT_EQ(damages[0].file, kShard);
    EXPECT_THAT(damages[0].message, HasSubstr(message));
    CheckpointReader reader(directory_);
    int64_t counter = 0;
    try {
      reader.Read("counter", "weight", {}, {}, std::as_writable_bytes(std::span(&counter, 1)));
      FAIL() << "read " << counter;
    } catch (const Error& error) {
      EXPECT_THAT(error.where(), EndsWith(kShard));
      EXPECT_THAT(error.message(), HasSubstr(message));
    }
  }

 private:
  TemporaryFolder folder_;
  std::string directory_;
};

void Replace(std::string& text, const std::string& from, const std::string& to) {
  ASSERT_EQ(from.size(), to.size());
  const size_t at = text.find(from);
  ASSERT_NE(at, std::string::npos);
  text.replace(at, from.size(), to);
}

TEST(ForgedShardTest, TheHeaderHasTheLengthThatItSays) {
  // Other readers would believe the length field.
  ForgedShard([](std::string& image, FileEntry&) {
    image[0] ^= 8;
  }).ExpectRefused("the header says that it has");
  ForgedShard([](std::string& image, FileEntry&) {
    image[7] = '\x7f';
  }).ExpectRefused("the header says that it has");
}

TEST(ForgedShardTest, TheHeaderNamesWhatTheManifestNames) {
  ForgedShard([](std::string& image, FileEntry&) {
    Replace(image, "\"counter\"", "\"cOunter\"");
  }).ExpectRefused("is not the one that the manifest names");
  ForgedShard([](std::string& image, FileEntry&) {
    Replace(image, "\"F16\"", "\"I16\"");
  }).ExpectRefused("is not the one that the manifest names");
  ForgedShard([](std::string& image, FileEntry&) {
    Replace(image, "[0,4]", "[4,0]");
  }).ExpectRefused("is not the one that the manifest names");
}

TEST(ForgedShardTest, TheHeaderIsSound) {
  ForgedShard([](std::string& image, FileEntry&) {
    Replace(image, "\"dtype\"", "\"dtyqe\"");
  }).ExpectRefused("member \"dtyqe\"");
  ForgedShard([](std::string& image, FileEntry&) {
    Replace(image, "{\"", "{{");
  }).ExpectRefused("header byte");
  ForgedShard([](std::string& image, FileEntry&) {
    image[9] = '\xff';
  }).ExpectRefused("header byte");
}

TEST(HostileCommitTest, SizesAreComparedBeforeMemoryIsTaken) {
  const TemporaryFolder folder;
  const std::string directory = WriteSmallCheckpoint(folder.path(), 0);
  const std::string manifest = ReadFile(directory + "/" + kManifestFile);
  const auto problem = [&](uint64_t bytes) {
    const CommitRecord record = {
        .iteration = 0, .manifest_bytes = bytes, .manifest_sha256 = Sha256Hex(manifest)};
    WriteFile(directory + "/" + kCommitFile, record.Render());
    const std::vector<Damage> damages = VerifyCheckpoint(directory, VerifyLevel::kQuick);
    return damages.empty() ? "" : damages[0].message;
  };
  EXPECT_EQ(problem(manifest.size()), "");
  EXPECT_THAT(problem(UINT64_MAX), HasSubstr("18446744073709551615 were committed"));
  EXPECT_THAT(problem(0), HasSubstr("0 were committed"));
  // A file that is mostly a hole: large for real, and refused before it is read.
  std::filesystem::resize_file(directory + "/" + kManifestFile, (uint64_t{512} << 20) + 1);
  EXPECT_THAT(problem((uint64_t{512} << 20) + 1), HasSubstr("at most 536870912 are read"));
}

TEST(HostileCommitTest, OnlyItsOwnSpellingIsACommit) {
  const CommitRecord record = {
      .iteration = 7, .manifest_bytes = 10, .manifest_sha256 = std::string(64, 'a')};
  const std::string good = record.Render();
  ASSERT_TRUE(CommitRecord::Parse(good).has_value());
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string text = good.substr(0, good.rfind("crc32c"));
    text.replace(text.find(from), from.size(), to);
    const uint32_t sum = Crc32c(std::as_bytes(std::span(text)));
    return text + fmt::format("crc32c {:08x}\n", sum);
  };
  ASSERT_TRUE(CommitRecord::Parse(with("iteration 7", "iteration 8")).has_value());
  const std::vector<std::pair<std::string, std::string>> kEdits = {
      {"iteration 7", "iteration 07"},
      {"iteration 7", "iteration +7"},
      {"iteration 7", "iteration -7"},
      {"iteration 7", "iteration 7 "},
      {"iteration 7", "iteration 9223372036854775808"},
      {"iteration 7", "iteration  7"},
      {"bytes 10", "bytes -10"},
      {"bytes 10", "bytes 0x10"},
      {"bytes 10", "bytes 18446744073709551616"},
      {"checkpoint 1", "checkpoint 2"},
      {"aaaa\n", "aaaA\n"},
      {"aaaa\n", "aaa\n"},
      {"aaaa\n", "aaaa\r\n"},
      {"aaaa\n", "aaaa\nmore\n"},
      {"iteration 7\n", ""},
      {"iteration 7", std::string("iteration 7\0", 12)},
  };
  for (const auto& [from, to] : kEdits) {
    EXPECT_FALSE(CommitRecord::Parse(with(from, to)).has_value()) << to;
  }
  EXPECT_FALSE(CommitRecord::Parse("").has_value());
  EXPECT_FALSE(CommitRecord::Parse(good + "\n").has_value());
  EXPECT_FALSE(CommitRecord::Parse(good.substr(0, good.size() - 1)).has_value());
  EXPECT_FALSE(CommitRecord::Parse(std::string(4096, '\n')).has_value());
}

TEST(HostileCommitTest, ALinkInTheWayOfACommitIsNoCheckpoint) {
  const TemporaryFolder folder;
  const std::string directory = WriteSmallCheckpoint(folder.path(), 3);
  std::filesystem::remove(directory + "/COMMIT");
  std::filesystem::create_symlink("/nowhere", directory + "/COMMIT");
  const std::vector<CheckpointInfo> infos = ListCheckpoints(folder.path());
  ASSERT_EQ(infos.size(), 1U);
  EXPECT_EQ(infos[0].state, CheckpointState::kDamaged);
  EXPECT_THAT(infos[0].problem, HasSubstr("COMMIT: is a symbolic link"));
  EXPECT_FALSE(FindNewestGood(folder.path(), VerifyLevel::kQuick).has_value());
}

}  // namespace
}  // namespace cairn
