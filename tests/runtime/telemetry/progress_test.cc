#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <sstream>
#include <string>
#include <vector>

#include "runtime/telemetry/progress_reporter.h"
#include "runtime/telemetry/run_summary.h"
#include "runtime/telemetry/step_line.h"

namespace cairn {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using testing::HasSubstr;
using testing::Not;

StepMetrics Step(int64_t iteration) {
  StepMetrics metrics;
  metrics.iteration = iteration;
  metrics.lm_loss = 3.41208;
  metrics.grad_norm = 0.8121;
  metrics.learning_rate = 9.3e-4;
  metrics.iteration_time_ms = 412.2;
  metrics.tokens_per_second = 4968.3;
  return metrics;
}

StepProgress Progress() {
  StepProgress progress;
  progress.total_iterations = 300;
  progress.data_wait_fraction = 0.001;
  progress.comm_wait_fraction = 0.123;
  progress.remaining_seconds = 74;
  return progress;
}

TEST(StepLine, SaysWhatUsersRead) {
  EXPECT_EQ(FormatStepLine(Step(120), Progress()),
            "iter   120/300 | loss 3.4121 | grad norm 0.812 | lr 9.3e-04 | 412 ms | 4,968 tok/s | "
            "data 0.1% | comm 12.3% | left 1m14s");
}

TEST(StepLine, SaysMoreWhenThereIsMoreToSay) {
  StepMetrics metrics = Step(120);
  metrics.mfu = 0.4125;
  metrics.peak_memory_bytes = 1288490189;
  metrics.loss_scale = 65536;
  metrics.skipped = true;
  metrics.grad_norm = INFINITY;
  StepProgress progress = Progress();
  progress.loss_z_score = 4.24;
  progress.remaining_seconds = {};
  EXPECT_EQ(FormatStepLine(metrics, progress),
            "iter   120/300 | loss 3.4121 (z +4.2) | grad norm inf | lr 9.3e-04 | scale 65536 | "
            "412 ms | 4,968 tok/s | mfu 41.2% | mem 1.2 GiB | data 0.1% | comm 12.3% | "
            "SKIPPED: no update");
  progress.loss_z_score = -8;
  EXPECT_THAT(FormatStepLine(metrics, progress), Not(HasSubstr("z ")));
}

TEST(StepLine, AlignsAndScales) {
  StepMetrics metrics = Step(7);
  metrics.iteration_time_ms = 4.25;
  metrics.grad_norm = 123456;
  metrics.tokens_per_second = NAN;
  StepProgress progress = Progress();
  progress.total_iterations = 1000000;
  const std::string line = FormatStepLine(metrics, progress);
  EXPECT_THAT(line, HasSubstr("iter       7/1000000 |"));
  EXPECT_THAT(line, HasSubstr("| 4.2 ms | ? tok/s |"));
  EXPECT_THAT(line, HasSubstr("grad norm 1.23e+05"));
  metrics.iteration_time_ms = 74000;
  EXPECT_THAT(FormatStepLine(metrics, progress), HasSubstr("| 1m14s |"));
}

TEST(LossTrend, SeesASpikeAndForgivesNoise) {
  LossTrend trend;
  for (int i = 0; i < 200; ++i) {
    const auto z_score = trend.Add(3 + (i % 2 == 0 ? 0.01 : -0.01));
    EXPECT_EQ(z_score.has_value(), i >= 20);
    EXPECT_LT(std::abs(z_score.value_or(0)), 2);
  }
  EXPECT_FALSE(trend.Add(NAN).has_value());
  EXPECT_NEAR(trend.Add(3.05).value_or(0), 5, 0.5);
  EXPECT_LT(std::abs(trend.Add(3).value_or(99)), 1);
}

TEST(LossTrend, ConstantLossHasNoScore) {
  LossTrend trend;
  for (int i = 0; i < 50; ++i) EXPECT_FALSE(trend.Add(3).has_value());
}

TEST(ProgressReporter, PipedPrintsPlainLinesNowAndThen) {
  std::ostringstream out;
  {
    ProgressReporter reporter(out, {.is_terminal = false, .log_interval = 100});
    for (int64_t i = 1; i <= 250; ++i) {
      StepMetrics metrics = Step(i);
      metrics.skipped = i == 42;
      StepProgress progress = Progress();
      progress.total_iterations = 250;
      reporter.Report(metrics, progress);
    }
  }
  std::vector<std::string> starts;
  std::istringstream lines(out.str());
  for (std::string line; std::getline(lines, line);) starts.push_back(line.substr(0, 14));
  EXPECT_THAT(starts, testing::ElementsAre("iter     1/250", "iter    42/250", "iter   100/250",
                                           "iter   200/250", "iter   250/250"));
  EXPECT_THAT(out.str(), Not(HasSubstr("\r")));
  EXPECT_THAT(out.str(), Not(HasSubstr("\x1b")));
}

TEST(ProgressReporter, PipedPrintsALossThatJumps) {
  std::ostringstream out;
  ProgressReporter reporter(out, {.is_terminal = false, .log_interval = 1000});
  for (int64_t i = 1; i <= 60; ++i) {
    StepMetrics metrics = Step(i);
    metrics.lm_loss = i == 55 ? 9 : 3 + 0.01 * static_cast<double>(i % 3);
    reporter.Report(metrics, Progress());
  }
  EXPECT_THAT(out.str(), HasSubstr("iter    55/300 | loss 9.0000 (z +"));
  const std::string shown = out.str();
  EXPECT_EQ(std::count(shown.begin(), shown.end(), '\n'), 2);
}

TEST(ProgressReporter, TerminalWritesOverOneLine) {
  std::ostringstream out;
  {
    ProgressReporter reporter(
        out, {.is_terminal = true, .log_interval = 100, .refresh = milliseconds(0)});
    for (int64_t i = 98; i <= 101; ++i) reporter.Report(Step(i), Progress());
  }
  const auto line = [](int64_t i) { return FormatStepLine(Step(i), Progress()); };
  EXPECT_EQ(out.str(), line(98) + "\n" +                                     // the first stays
                           "\r\x1b[2K\x1b[?7l" + line(99) + "\x1b[?7h"       // live
                           + "\r\x1b[2K" + line(100) + "\n" +                // the interval's stays
                           "\r\x1b[2K\x1b[?7l" + line(101) + "\x1b[?7h\n");  // ended at the end
}

TEST(ProgressReporter, TerminalRefreshesSparingly) {
  std::ostringstream out;
  ProgressReporter reporter(out, {.is_terminal = true, .log_interval = 100, .refresh = hours(1)});
  for (int64_t i = 1; i <= 50; ++i) reporter.Report(Step(i), Progress());
  const std::string shown = out.str();
  EXPECT_THAT(shown, HasSubstr("iter     2/300"));
  EXPECT_THAT(shown, Not(HasSubstr("iter     3/300")));
  reporter.Note("saved");
  EXPECT_EQ(out.str().substr(shown.size()), "\r\x1b[2Ksaved\n");
}

TEST(RunSummary, TellsTheRun) {
  RunSummary summary;
  summary.last_iteration = 1200;
  summary.total_iterations = 1200;
  summary.iterations = 1200;
  summary.skipped_steps = 2;
  summary.tokens = 614400;
  summary.elapsed_seconds = 124;
  summary.first_loss = 10.8249;
  summary.last_loss = 3.41208;
  summary.validation_loss = 3.5;
  summary.peak_memory = {{"parameters", 300 << 20}, {"gradients", 1288490189}};
  summary.saves = 4;
  summary.saved_bytes = int64_t{192} << 20;
  summary.saving_seconds = 0.25;
  summary.save_wait_seconds = 0.3;
  summary.last_checkpoint = "runs/q/checkpoints/step-00001200";
  summary.resume_command = "cairn train runs/q/config.textproto train.train_iters=2400";
  EXPECT_EQ(FormatRunSummary(summary),
            "Finished all 1,200 iterations\n"
            "  loss         10.8249 -> 3.4121, validation 3.5000\n"
            "  iterations   1,200 in 2m04s, 2 skipped\n"
            "  tokens       614,400, 4,955 per second\n"
            "  peak memory  parameters 300 MiB, gradients 1.2 GiB\n"
            "  saves        4 of 48.0 MiB at 768 MiB/s, training waited 0.24% of the time\n"
            "  checkpoint   runs/q/checkpoints/step-00001200\n"
            "  to go on     cairn train runs/q/config.textproto train.train_iters=2400\n");
}

TEST(RunSummary, SaysNothingOfWhatIsNotKnown) {
  RunSummary summary;
  summary.last_iteration = 3;
  summary.total_iterations = 10;
  EXPECT_EQ(FormatRunSummary(summary),
            "Stopped after iteration 3 of 10\n"
            "  iterations   0 in 0.0s\n"
            "  tokens       0\n");
}

}  // namespace
}  // namespace cairn
