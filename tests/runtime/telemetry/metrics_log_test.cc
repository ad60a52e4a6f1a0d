#include "runtime/telemetry/metrics_log.h"

#include <glog/logging.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>
#include <vector>

#include "runtime/base/error.h"
#include "tests/runtime/telemetry/telemetry_testing.h"

namespace cairn {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;

StepMetrics Step(int64_t iteration) {
  StepMetrics metrics;
  metrics.iteration = iteration;
  metrics.consumed_samples = iteration * 8;
  metrics.lm_loss = 10.5;
  metrics.grad_norm = 0.1;
  metrics.learning_rate = 3e-4;
  metrics.iteration_time_ms = 412.25;
  metrics.tokens_per_second = 4968;
  metrics.peak_memory_bytes = 1 << 30;
  return metrics;
}

std::vector<int64_t> IterationsIn(const std::string& path) {
  std::vector<int64_t> iterations;
  std::istringstream lines(ReadFile(path));
  for (std::string line; std::getline(lines, line);) {
    iterations.push_back(json::parse(line)["iteration"].get<int64_t>());
  }
  return iterations;
}

TEST(MetricsJson, HasExactlyTheDocumentedKeys) {
  EXPECT_EQ(MetricsJson(Step(12)),
            R"({"iteration":12,"consumed_samples":96,"lm_loss":10.5,"grad_norm":0.1,)"
            R"("learning_rate":0.0003,"loss_scale":1.0,"skipped":false,"iteration_time_ms":412.25,)"
            R"("tokens_per_second":4968.0,"peak_memory_bytes":1073741824})");
  EXPECT_EQ(MetricsJson(EvalMetrics{12, 3.5}), R"({"iteration":12,"lm_loss_validation":3.5})");
}

TEST(MetricsJson, NamesMfuOnlyWhereKnown) {
  StepMetrics metrics = Step(1);
  EXPECT_FALSE(json::parse(MetricsJson(metrics)).contains("mfu"));
  metrics.mfu = 0.41;
  EXPECT_EQ(json::parse(MetricsJson(metrics))["mfu"], 0.41);
}

TEST(MetricsJson, NumbersThatAreNotFiniteAreNull) {
  StepMetrics metrics = Step(1);
  metrics.lm_loss = std::numeric_limits<double>::quiet_NaN();
  metrics.grad_norm = std::numeric_limits<double>::infinity();
  metrics.skipped = true;
  const json line = json::parse(MetricsJson(metrics));
  EXPECT_TRUE(line["lm_loss"].is_null());
  EXPECT_TRUE(line["grad_norm"].is_null());
  EXPECT_EQ(line["skipped"], true);
}

TEST(MetricsJson, KeepsEveryBitOfANumber) {
  StepMetrics metrics = Step(1);
  metrics.lm_loss = 3.0000000000000004;
  EXPECT_EQ(json::parse(MetricsJson(metrics))["lm_loss"].get<double>(), metrics.lm_loss);
}

class MetricsLogTest : public testing::Test {
 protected:
  // Dropped lines are told by warnings, of which these tests would give hundreds.
  void SetUp() override { FLAGS_minloglevel = google::GLOG_ERROR; }
  void TearDown() override { FLAGS_minloglevel = google::GLOG_INFO; }
};

TEST_F(MetricsLogTest, AppendsLineByLine) {
  const TemporaryDirectory directory;
  const std::string path = directory.File("metrics.jsonl");
  {
    MetricsLog log(path);
    log.Write(Step(1));
    EXPECT_EQ(ReadFile(path), MetricsJson(Step(1)) + '\n') << "not written at once";
    log.Write(EvalMetrics{1, 9});
  }
  MetricsLog(path).Write(Step(2));
  EXPECT_THAT(IterationsIn(path), ElementsAre(1, 1, 2));
}

TEST_F(MetricsLogTest, ResumeDropsLaterIterations) {
  const TemporaryDirectory directory;
  const std::string path = directory.File("metrics.jsonl");
  {
    MetricsLog log(path);
    for (int64_t i = 1; i <= 7; ++i) log.Write(Step(i));
    log.Write(EvalMetrics{7, 9});
  }
  MetricsLog::OpenForResume(path, 5).Write(Step(6));
  EXPECT_THAT(IterationsIn(path), ElementsAre(1, 2, 3, 4, 5, 6));
  EXPECT_FALSE(std::filesystem::exists(path + ".part"));
}

TEST_F(MetricsLogTest, ResumeFromTheStartDropsAll) {
  const TemporaryDirectory directory;
  const std::string path = directory.File("metrics.jsonl");
  MetricsLog(path).Write(Step(1));
  MetricsLog::OpenForResume(path, 0);
  EXPECT_EQ(ReadFile(path), "");
}

TEST_F(MetricsLogTest, ResumeMakesAMissingFile) {
  const TemporaryDirectory directory;
  const std::string path = directory.File("metrics.jsonl");
  MetricsLog::OpenForResume(path, 5).Write(Step(6));
  EXPECT_THAT(IterationsIn(path), ElementsAre(6));
}

TEST_F(MetricsLogTest, ResumeLeavesAFileAloneThatFits) {
  const TemporaryDirectory directory;
  const std::string path = directory.File("metrics.jsonl");
  MetricsLog(path).Write(Step(1));
  struct stat before {};
  struct stat after {};
  ASSERT_EQ(::stat(path.c_str(), &before), 0);
  MetricsLog::OpenForResume(path, 1);
  ASSERT_EQ(::stat(path.c_str(), &after), 0);
  EXPECT_EQ(before.st_ino, after.st_ino);
  EXPECT_FALSE(std::filesystem::exists(path + ".part"));
}

TEST_F(MetricsLogTest, ResumeDropsATornLastLine) {
  const TemporaryDirectory directory;
  const std::string path = directory.File("metrics.jsonl");
  const std::string whole = MetricsJson(Step(1)) + '\n';
  const std::string next = MetricsJson(Step(2));
  for (size_t length = 1; length < next.size(); length += 13) {
    WriteFile(path, whole + next.substr(0, next.size() - length));
    MetricsLog::OpenForResume(path, 2);
    ASSERT_EQ(ReadFile(path), whole) << length;
  }
}

TEST_F(MetricsLogTest, ResumeEndsALastLineThatOnlyLacksItsNewline) {
  const TemporaryDirectory directory;
  const std::string path = directory.File("metrics.jsonl");
  WriteFile(path, MetricsJson(Step(1)));
  MetricsLog::OpenForResume(path, 2).Write(Step(2));
  EXPECT_THAT(IterationsIn(path), ElementsAre(1, 2));
}

TEST_F(MetricsLogTest, ResumeDropsWhatIsNoMetrics) {
  const TemporaryDirectory directory;
  const std::string path = directory.File("metrics.jsonl");
  const std::string nul(300, '\0');
  for (const std::string& damage :
       {std::string("garbage"), std::string("[1]"), std::string("{\"iteration\":\"1\"}"),
        std::string("{\"iteration\":1.5}"), std::string("{}"), std::string(), nul,
        MetricsJson(Step(1)) + nul, std::string(100000, '['), std::string(16383, 'x'),
        std::string(16384, 'x'), std::string(16385, 'x'), std::string(2 * 16383, 'x')}) {
    WriteFile(path, MetricsJson(Step(1)) + '\n' + damage + '\n' + MetricsJson(Step(2)) + '\n');
    MetricsLog::OpenForResume(path, 3);
    ASSERT_THAT(IterationsIn(path), ElementsAre(1, 2)) << damage.size() << damage.substr(0, 40);
    WriteFile(path, MetricsJson(Step(1)) + '\n' + damage);
    MetricsLog::OpenForResume(path, 3);
    ASSERT_THAT(IterationsIn(path), ElementsAre(1)) << damage.size() << damage.substr(0, 40);
  }
}

TEST_F(MetricsLogTest, ResumeOfALongLogKeepsEveryLine) {
  const TemporaryDirectory directory;
  const std::string path = directory.File("metrics.jsonl");
  std::string lines;
  for (int64_t i = 1; i <= 10000; ++i) lines += MetricsJson(Step(i)) + '\n';
  WriteFile(path, lines);
  MetricsLog::OpenForResume(path, 9999);
  EXPECT_EQ(ReadFile(path) + MetricsJson(Step(10000)) + '\n', lines);
}

TEST_F(MetricsLogTest, AFailedWriteLeavesNoHalfLine) {
  const TemporaryDirectory directory;
  const std::string path = directory.File("metrics.jsonl");
  MetricsLog log(path);
  log.Write(Step(1));
  const std::string before = ReadFile(path);
  {
    const FileSizeLimit limit(before.size() + 20);
    EXPECT_THROW(log.Write(Step(2)), Error);
  }
  EXPECT_EQ(ReadFile(path), before);
  log.Write(Step(3));
  EXPECT_THAT(IterationsIn(path), ElementsAre(1, 3));
}

TEST_F(MetricsLogTest, AFailedResumeKeepsTheOldFile) {
  const TemporaryDirectory directory;
  const std::string path = directory.File("metrics.jsonl");
  for (int64_t i = 1; i <= 3; ++i) MetricsLog(path).Write(Step(i));
  const std::string before = ReadFile(path);
  {
    const FileSizeLimit limit(100);
    EXPECT_THROW(MetricsLog::OpenForResume(path, 2), Error);
  }
  EXPECT_EQ(ReadFile(path), before);
}

TEST_F(MetricsLogTest, RefusesWhatIsNoRegularFile) {
  const TemporaryDirectory directory;
  const std::string pipe = directory.File("pipe");
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_THROW(MetricsLog{pipe}, Error);
  EXPECT_THROW(MetricsLog::OpenForResume(pipe, 0), Error);
  EXPECT_THROW(MetricsLog::OpenForResume(directory.File("."), 0), Error);
  try {
    const MetricsLog log(directory.File("missing/metrics.jsonl"));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kIo);
    EXPECT_THAT(error.what(), HasSubstr("missing/metrics.jsonl"));
  }
}

}  // namespace
}  // namespace cairn
