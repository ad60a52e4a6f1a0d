#include "runtime/checkpoint/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <filesystem>

#include "runtime/base/error.h"
#include "tests/runtime/checkpoint/checkpoint_testing.h"

namespace cairn {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

template <typename T>
std::vector<T> ReadAll(const SafetensorsFile& file, const std::string& name) {
  const SafetensorsEntry* entry = file.Find(name);
  if (entry == nullptr) throw std::runtime_error("no " + name);
  std::vector<T> values((entry->end - entry->begin) / sizeof(T));
  file.Read(*entry, 0, std::as_writable_bytes(std::span(values)));
  return values;
}

// A file of that JSON and `data_bytes` bytes of data.
std::string Image(const std::string& json, size_t data_bytes) {
  const uint64_t length = json.size();
  std::string image(sizeof(length), '\0');
  std::memcpy(image.data(), &length, sizeof(length));
  return image + json + std::string(data_bytes, 'd');
}

std::string OpenFailure(const std::string& image) {
  const TemporaryFolder folder;
  WriteFile(folder / "f", image);
  try {
    const SafetensorsFile file(folder / "f");
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kCheckpoint) << error.what();
    EXPECT_THAT(error.where(), HasSubstr(folder / "f"));
    return error.message();
  }
  return "";
}

TEST(SafetensorsTest, ReadsAFileOfTheReferenceLibrary) {
  const SafetensorsFile file(CAIRN_SOURCE_DIR
                             "/tests/runtime/checkpoint/data/reference.safetensors");
  EXPECT_THAT(file.header().metadata,
              ElementsAre(Pair("format", "np"), Pair("note", "größer als \"null\"")));
  EXPECT_EQ(file.header().entries.size(), 6U);
  ASSERT_NE(file.Find("matrix"), nullptr);
  EXPECT_EQ(file.Find("matrix")->dtype, "F32");
  EXPECT_THAT(file.Find("matrix")->shape, ElementsAre(3, 4));
  const std::vector<float> matrix = ReadAll<float>(file, "matrix");
  for (size_t i = 0; i < matrix.size(); ++i) EXPECT_EQ(matrix[i], static_cast<float>(i) / 8);
  EXPECT_THAT(ReadAll<uint8_t>(file, "bytes"), ElementsAre(0, 127, 255));
  EXPECT_THAT(ReadAll<uint16_t>(file, "half"), ElementsAre(0x3c00, 0xc000, 0x7c00));
  EXPECT_THAT(ReadAll<int64_t>(file, "scalar"), ElementsAre(-7));
  EXPECT_TRUE(file.Find("scalar")->shape.empty());
  EXPECT_THAT(file.Find("empty")->shape, ElementsAre(0, 4));
  EXPECT_EQ(file.Find("quoted \"näme\"")->dtype, "BOOL");
  EXPECT_EQ(file.Find("none"), nullptr);
}

TEST(SafetensorsTest, RoundTripIsByteExact) {
  const TemporaryFolder folder;
  const std::vector<float> matrix = Values(6, 1);
  const std::array<std::byte, 3> odd = {std::byte{1}, std::byte{2}, std::byte{3}};
  const std::vector<SafetensorsTensor> tensors = {
      {"b", "F32", {2, 3}, std::as_bytes(std::span(matrix))},
      {"nothing", "F32", {0}, {}},
      {"a \"\\\n", "U8", {3}, odd},
  };
  WriteSafetensors(folder / "f", tensors, {{"k", "v"}});
  EXPECT_FALSE(std::filesystem::exists(folder / "f.part"));
  const SafetensorsFile file(folder / "f");
  EXPECT_EQ(file.header().header_bytes % 8, 0U);
  EXPECT_EQ(file.header().entries[0].name, "b");
  EXPECT_EQ(ReadAll<float>(file, "b"), matrix);
  EXPECT_THAT(ReadAll<std::byte>(file, "a \"\\\n"), ElementsAre(odd[0], odd[1], odd[2]));
  std::array<std::byte, 1> last = {};
  file.Read(*file.Find("a \"\\\n"), 2, last);
  EXPECT_EQ(last[0], odd[2]);
  EXPECT_THROW(file.Read(*file.Find("a \"\\\n"), 3, last), Error);
  // No metadata, no tensors: still a file.
  WriteSafetensors(folder / "g", {});
  EXPECT_TRUE(SafetensorsFile(folder / "g").header().entries.empty());
}

TEST(SafetensorsTest, WriterRefusesWhatReadersWould) {
  const TemporaryFolder folder;
  const std::array<std::byte, 4> data = {};
  const auto failure = [&](const std::vector<SafetensorsTensor>& tensors) -> std::string {
    try {
      WriteSafetensors(folder / "f", tensors);
    } catch (const Error& error) {
      return error.message();
    }
    return "";
  };
  EXPECT_THAT(failure({{"a", "F32", {2}, data}}), HasSubstr("4 bytes given for [2] of dtype F32"));
  EXPECT_THAT(failure({{"a", "X32", {1}, data}}), HasSubstr("X32"));
  EXPECT_THAT(failure({{"a", "F32", {1}, data}, {"a", "F32", {1}, data}}), HasSubstr("is taken"));
  EXPECT_THAT(failure({{"__metadata__", "F32", {1}, data}}), HasSubstr("is taken"));
  EXPECT_THAT(failure({{std::string(1025, 'a'), "F32", {1}, data}}), HasSubstr("1025 bytes"));
  EXPECT_THAT(failure({{"", "F32", {1}, data}}), HasSubstr("0 bytes"));
  EXPECT_THAT(failure({{"\xff", "F32", {1}, data}}), HasSubstr("UTF-8"));
  EXPECT_FALSE(std::filesystem::exists(folder / "f"));
}

struct HostileCase {
  const char* name;
  std::string image;
  const char* message;
};

class HostileHeaderTest : public ::testing::TestWithParam<HostileCase> {};

TEST_P(HostileHeaderTest, IsRefused) {
  EXPECT_THAT(OpenFailure(GetParam().image), HasSubstr(GetParam().message));
}

// One F32 tensor "a" of two elements, and what else is to stand in its entry.
std::string One(const std::string& members) { return R"({"a":{)" + members + "}}"; }

std::string LengthField(uint64_t length) {
  std::string image(sizeof(length), '\0');
  std::memcpy(image.data(), &length, sizeof(length));
  return image;
}

std::vector<HostileCase> HostileCases() {
  const std::string good = R"("dtype":"F32","shape":[2],"data_offsets":[0,8])";
  const std::string deep = std::string(100'000, '[') + std::string(100'000, ']');
  return {
      {"Empty", "", "too few"},
      {"LengthOnly", LengthField(2), "too few"},
      {"LengthBeyondFile", LengthField(100) + "{}", "at most 2 can be"},
      {"LengthBeyondBound", LengthField(~uint64_t{0}) + "{}", "at most 2 can be"},
      {"LengthZero", LengthField(0) + "{}", "begin with '{'"},
      {"LeadingSpace", Image(" {}", 0), "begin with '{'"},
      {"Array", Image("[1]", 0), "begin with '{'"},
      {"Unfinished", Image("{\"a\"", 0), "header byte"},
      {"SecondObject", Image("{}{}", 0), "header byte"},
      {"ZeroByte", Image(std::string("{}\0x", 4), 0), "zero byte"},
      {"BadUtf8", Image("{\"\xff\":{}}", 0), "header byte"},
      {"Deep", Image("{\"a\":" + deep + "}", 0), "an array after \"a\""},
      {"DeepObjects", Image(R"({"a":{"b":{}}})", 0), "member \"b\" is not one of"},
      {"TopNumber", Image(R"({"a":1})", 0), "a number after \"a\""},
      {"DuplicateName", Image("{\"a\":{" + good + "},\"a\":{" + good + "}}", 8),
       "\"a\" occurs twice"},
      {"DuplicateMember", Image(One(good + R"(,"dtype":"I32")"), 8), "\"dtype\" occurs twice"},
      {"DuplicateMetadata", Image(R"({"__metadata__":{"k":"1","k":"2"}})", 0),
       "\"k\" occurs twice"},
      {"TwoMetadata", Image(R"({"__metadata__":{},"__metadata__":{}})", 0), "occurs twice"},
      {"MetadataNumber", Image(R"({"__metadata__":{"k":1}})", 0), "a number after \"k\""},
      {"MetadataObject", Image(R"({"__metadata__":{"k":{}}})", 0), "an object after \"k\""},
      {"MetadataNull", Image(R"({"__metadata__":null})", 0), "null after"},
      {"MissingMember", Image(One(R"("dtype":"F32","shape":[2])"), 8), "all required"},
      {"ExtraMember", Image(One(good + R"(,"x":1)"), 8), "member \"x\" is not one of"},
      {"UnknownDType", Image(One(R"("dtype":"F31","shape":[2],"data_offsets":[0,8])"), 8),
       "dtype \"F31\" is not one of"},
      {"NegativeDimension", Image(One(R"("dtype":"F32","shape":[-2],"data_offsets":[0,8])"), 8),
       "a negative number"},
      {"FloatDimension", Image(One(R"("dtype":"F32","shape":[2.0],"data_offsets":[0,8])"), 8),
       "2.0 after \"shape\""},
      {"HugeDimension",
       Image(One(R"("dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,8])"), 8),
       "too large"},
      {"BeyondU64",
       Image(One(R"("dtype":"F32","shape":[18446744073709551616],"data_offsets":[0,8])"), 8),
       "18446744073709551616 after"},
      {"ProductOverflow",
       Image(One(R"("dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0])"), 0),
       "too many elements"},
      {"BytesOverflow",
       Image(One(R"("dtype":"F64","shape":[4611686018427387904],"data_offsets":[0,0])"), 0),
       "too many elements"},
      {"Rank17",
       Image(
           One(R"("dtype":"U8","shape":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1],"data_offsets":[0,1])"),
           1),
       "more than 16 dimensions"},
      {"NestedShape", Image(One(R"("dtype":"F32","shape":[[2]],"data_offsets":[0,8])"), 8),
       "an array after \"shape\""},
      {"OneOffset", Image(One(R"("dtype":"F32","shape":[2],"data_offsets":[8])"), 8),
       "two data_offsets"},
      {"ThreeOffsets", Image(One(R"("dtype":"F32","shape":[2],"data_offsets":[0,8,8])"), 8),
       "more than two numbers"},
      {"Hole", Image(One(R"("dtype":"F32","shape":[2],"data_offsets":[4,12])"), 12),
       "begins at data byte 4 where 0"},
      {"Reversed",
       Image(One(R"("dtype":"F32","shape":[2],"data_offsets":[0,18446744073709551615])"), 8),
       "do not fit"},
      {"WrongSize", Image(One(R"("dtype":"F32","shape":[2],"data_offsets":[0,4])"), 4),
       "do not fit the 8 bytes"},
      {"Overlap",
       Image("{\"a\":{" + good + R"(},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})", 12),
       "begins at data byte 4 where 8"},
      {"TrailingData", Image(One(good), 9), "has 9 bytes of data, its header says 8"},
      {"MissingData", Image(One(good), 7), "has 7 bytes of data, its header says 8"},
      {"LongName", Image("{\"" + std::string(1025, 'n') + "\":{" + good + "}}", 8),
       "a name of 1025 bytes"},
  };
}

INSTANTIATE_TEST_SUITE_P(Table, HostileHeaderTest, ::testing::ValuesIn(HostileCases()),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(SafetensorsTest, AcceptsWhatTheFormatAllows) {
  const std::string good = R"("dtype":"F32","shape":[2],"data_offsets":[0,8])";
  EXPECT_EQ(OpenFailure(Image("{}", 0)), "");
  EXPECT_EQ(OpenFailure(Image("{}      ", 0)), "");
  EXPECT_EQ(OpenFailure(Image(One(good), 8)), "");
  EXPECT_EQ(OpenFailure(Image("{\"" + std::string(1024, 'n') + "\":{" + good + "}}", 8)), "");
  // Listed out of order, and empty tensors between others.
  EXPECT_EQ(OpenFailure(
                Image(R"({"b":{"dtype":"F32","shape":[2],"data_offsets":[8,16]},"e":{"dtype":"U8",)"
                      R"("shape":[0,9],"data_offsets":[8,8]},"a":{)" +
                          good + "}}",
                      16)),
            "");
}

TEST(SafetensorsTest, EveryTruncationIsRefused) {
  const std::string image =
      ReadFile(CAIRN_SOURCE_DIR "/tests/runtime/checkpoint/data/reference.safetensors");
  for (size_t size = 0; size < image.size(); ++size) {
    EXPECT_NE(OpenFailure(image.substr(0, size)), "") << size;
  }
}

}  // namespace
}  // namespace cairn
