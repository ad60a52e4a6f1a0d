#include "runtime/telemetry/tensorboard.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <stdexcept>
#include <vector>

#include "runtime/base/error.h"
#include "tests/runtime/telemetry/telemetry_testing.h"

namespace cairn {
namespace {

using testing::ElementsAre;
using testing::Pair;

uint32_t Unmask(uint32_t masked) { return std::rotl(masked - 0xa282ead8U, 15); }

template <typename T>
T ReadNumber(std::string_view bytes) {
  if (bytes.size() < sizeof(T)) throw std::runtime_error("short");
  T value;
  std::memcpy(&value, bytes.data(), sizeof(T));
  return value;
}

/// The payloads of a file's records; throws if a length or checksum is wrong.
std::vector<std::string> Records(std::string_view file) {
  std::vector<std::string> records;
  while (!file.empty()) {
    const auto length = ReadNumber<uint64_t>(file);
    if (file.size() < length + 16) throw std::runtime_error("torn record");
    const std::string_view data = file.substr(12, length);
    if (ReadNumber<uint32_t>(file.substr(8)) != MaskedCrc32c(file.substr(0, 8)) ||
        ReadNumber<uint32_t>(file.substr(12 + length)) != MaskedCrc32c(data)) {
      throw std::runtime_error("checksum");
    }
    records.emplace_back(data);
    file.remove_prefix(length + 16);
  }
  return records;
}

/// The fields of a protobuf message, decoded from the wire by hand: number to raw bytes (varints as
/// decimal text).
std::multimap<int, std::string> Fields(std::string_view message) {
  std::multimap<int, std::string> fields;
  const auto varint = [&] {
    uint64_t value = 0;
    for (int shift = 0;; shift += 7) {
      const auto byte = static_cast<uint8_t>(message.at(0));
      message.remove_prefix(1);
      value |= uint64_t{byte & 0x7fU} << shift;
      if (byte < 0x80) return value;
    }
  };
  while (!message.empty()) {
    const uint64_t key = varint();
    const int number = static_cast<int>(key >> 3);
    uint64_t length = 0;
    switch (key & 7) {
      case 0:
        fields.emplace(number, std::to_string(varint()));
        continue;
      case 1:
        length = 8;
        break;
      case 2:
        length = varint();
        break;
      case 5:
        length = 4;
        break;
      default:
        throw std::runtime_error("wire type");
    }
    if (length > message.size()) throw std::runtime_error("length");
    fields.emplace(number, message.substr(0, length));
    message.remove_prefix(length);
  }
  return fields;
}

std::string Field(const std::multimap<int, std::string>& fields, int number) {
  if (fields.count(number) != 1) throw std::runtime_error("field count");
  return fields.find(number)->second;
}

/// The (tag, value) pairs of an event.
std::vector<std::pair<std::string, float>> Scalars(const std::string& event) {
  std::vector<std::pair<std::string, float>> scalars;
  const auto summary = Fields(Field(Fields(event), 5));
  for (const auto& [number, value] : summary) {
    EXPECT_EQ(number, 1);
    const auto fields = Fields(value);
    scalars.emplace_back(Field(fields, 1), ReadNumber<float>(Field(fields, 2)));
  }
  return scalars;
}

TEST(MaskedCrc32c, MatchesTheStandardVectors) {
  EXPECT_EQ(Unmask(MaskedCrc32c("123456789")), 0xE3069283U);
  EXPECT_EQ(Unmask(MaskedCrc32c(std::string(32, '\0'))), 0x8A9136AAU);
  EXPECT_EQ(Unmask(MaskedCrc32c("")), 0U);
}

TEST(EncodeRecord, FramesData) {
  const std::string record = EncodeRecord("abc");
  ASSERT_EQ(record.size(), 19U);
  EXPECT_EQ(record.substr(0, 8), std::string("\3\0\0\0\0\0\0\0", 8));
  EXPECT_EQ(record.substr(12, 3), "abc");
  EXPECT_THAT(Records(record + EncodeRecord("")), ElementsAre("abc", ""));
  std::string damaged = record;
  damaged[13] ^= 1;
  EXPECT_THROW(Records(damaged), std::runtime_error);
}

TEST(TensorBoardWriter, BeginsWithVersionAndStart) {
  const TemporaryDirectory directory;
  const TensorBoardWriter writer(directory.File("run/tensorboard"), 101);
  EXPECT_THAT(writer.path(), testing::HasSubstr("/run/tensorboard/events.out.tfevents."));
  const auto records = Records(ReadFile(writer.path()));
  ASSERT_EQ(records.size(), 2U);
  EXPECT_EQ(Field(Fields(records[0]), 3), "brain.Event:2");
  EXPECT_EQ(Field(Fields(records[1]), 2), "101");
  EXPECT_EQ(Field(Fields(Field(Fields(records[1]), 7)), 1), "1");
}

TEST(TensorBoardWriter, WritesStepsAndEvaluations) {
  const TemporaryDirectory directory;
  TensorBoardWriter writer(directory.File("tensorboard"), 1);
  StepMetrics metrics;
  metrics.iteration = 300;
  metrics.lm_loss = 3.5;
  metrics.learning_rate = 0.25;
  metrics.loss_scale = 65536;
  metrics.grad_norm = 0;
  metrics.iteration_time_ms = 500;
  metrics.tokens_per_second = 4968;
  writer.Write(metrics);
  auto records = Records(ReadFile(writer.path()));
  ASSERT_EQ(records.size(), 3U) << "not flushed";
  EXPECT_EQ(Field(Fields(records[2]), 2), "300");
  EXPECT_GT(ReadNumber<double>(Field(Fields(records[2]), 1)), 1.7e9);
  EXPECT_THAT(Scalars(records[2]),
              ElementsAre(Pair("lm loss", 3.5F), Pair("learning-rate", 0.25F),
                          Pair("loss-scale", 65536.0F), Pair("grad-norm", 0.0F),
                          Pair("iteration-time", 0.5F), Pair("throughput", 4968.0F)));
  writer.Write(EvalMetrics{300, 3.75});
  records = Records(ReadFile(writer.path()));
  ASSERT_EQ(records.size(), 4U);
  EXPECT_THAT(Scalars(records[3]), ElementsAre(Pair("lm loss validation", 3.75F)));
}

TEST(TensorBoardWriter, KeepsNumbersThatAreNotFinite) {
  const TemporaryDirectory directory;
  TensorBoardWriter writer(directory.File("tensorboard"), 1);
  writer.Write(EvalMetrics{1, std::numeric_limits<double>::quiet_NaN()});
  writer.Write(EvalMetrics{2, std::numeric_limits<double>::infinity()});
  const auto records = Records(ReadFile(writer.path()));
  EXPECT_TRUE(std::isnan(Scalars(records.at(2)).at(0).second));
  EXPECT_TRUE(std::isinf(Scalars(records.at(3)).at(0).second));
}

TEST(TensorBoardWriter, EachStartHasALaterFile) {
  const TemporaryDirectory directory;
  const std::string logs = directory.File("tensorboard");
  std::filesystem::create_directory(logs);
  // Written when the clock ran ahead; and things that are no such file.
  const std::string ahead = logs + "/events.out.tfevents.5000000000.host.1";
  WriteFile(ahead, "");
  WriteFile(logs + "/events.out.tfevents.99999999999999999999999.host", "");
  WriteFile(logs + "/events.out.tfevents.x", "");
  const TensorBoardWriter first(logs, 1);
  const TensorBoardWriter second(logs, 1);
  const TensorBoardWriter third(logs, 1);
  EXPECT_LT(ahead, first.path());
  EXPECT_LT(first.path(), second.path());
  EXPECT_LT(second.path(), third.path());
}

TEST(TensorBoardWriter, AFailedWriteLeavesNoHalfRecord) {
  const TemporaryDirectory directory;
  TensorBoardWriter writer(directory.File("tensorboard"), 1);
  const std::string before = ReadFile(writer.path());
  {
    const FileSizeLimit limit(before.size() + 10);
    EXPECT_THROW(writer.Write(EvalMetrics{1, 1}), Error);
  }
  writer.Write(EvalMetrics{2, 1});
  EXPECT_EQ(Records(ReadFile(writer.path())).size(), 3U);
}

TEST(TensorBoardWriter, RefusesADirectoryThatCannotBe) {
  const TemporaryDirectory directory;
  WriteFile(directory.File("file"), "");
  EXPECT_THROW(TensorBoardWriter(directory.File("file/tensorboard"), 1), Error);
}

}  // namespace
}  // namespace cairn
