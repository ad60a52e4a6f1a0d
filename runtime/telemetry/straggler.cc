#include "runtime/telemetry/straggler.h"

#include <glog/logging.h>

#include <algorithm>
#include <limits>
#include <map>
#include <utility>

namespace cairn {
namespace {

constexpr size_t kWindow = 16;          // steps that are judged together
constexpr size_t kSlowSteps = 12;       // of them, in which a straggler is slow
constexpr int64_t kWarmUp = 2;          // first steps, which touch memory for the first time
constexpr double kSlow = 1.5;           // times the expected busy time
constexpr double kFeltByOthers = 0.15;  // of the step
constexpr double kTimeSlice = 0.01;     // seconds; less is the operating system's choice
constexpr double kShortest = 1e-6;      // seconds that a rank should take at least
constexpr int64_t kTellAgain = 100;     // steps after which the same straggler is told of again
constexpr int64_t kNever = -kTellAgain;

constexpr double kUnknown = std::numeric_limits<double>::infinity();

double Median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::ranges::nth_element(values, middle);
  return *middle;
}

// For each value the median of all others; infinite if there is none. Sorts once: a cluster has
// thousands of ranks, and each looks at all of them in every step.
std::vector<double> MediansOfOthers(const std::vector<double>& values) {
  if (values.size() < 2) return std::vector<double>(values.size(), kUnknown);
  std::vector<double> sorted = values;
  std::ranges::sort(sorted);
  const size_t middle = (values.size() - 1) / 2;
  std::vector<double> medians;
  medians.reserve(values.size());
  for (const double value : values) {
    // Without a value of the lower half, what lies above it moves down by one.
    medians.push_back(value <= sorted[middle] ? sorted[middle + 1] : sorted[middle]);
  }
  return medians;
}

}  // namespace

StragglerDetector::StragglerDetector(const std::vector<int>& stage_of_rank, double ranks_per_core)
    : ranks_per_core_(std::max(1.0, ranks_per_core)),
      first_busy_(stage_of_rank.size()),
      told_at_(stage_of_rank.size(), kNever) {
  std::map<int, std::vector<size_t>> stages;
  for (size_t rank = 0; rank < stage_of_rank.size(); ++rank) {
    stages[stage_of_rank[rank]].push_back(rank);
  }
  for (auto& [stage, ranks] : stages) peers_.push_back(std::move(ranks));
}

std::vector<double> StragglerDetector::Expected(const std::vector<double>& busy_seconds) const {
  std::vector<double> expected(busy_seconds.size());
  for (const std::vector<size_t>& ranks : peers_) {
    std::vector<double> busy(ranks.size());
    std::ranges::transform(ranks, busy.begin(), [&](size_t rank) { return busy_seconds[rank]; });
    const std::vector<double> others = MediansOfOthers(busy);
    for (size_t i = 0; i < ranks.size(); ++i) expected[ranks[i]] = others[i];
  }
  if (at_start_.empty()) return expected;
  std::vector<double> slowdowns(busy_seconds.size());
  for (size_t rank = 0; rank < slowdowns.size(); ++rank) {
    slowdowns[rank] = at_start_[rank] > 0 ? busy_seconds[rank] / at_start_[rank] : 1;
  }
  // Where all became slower, none of them is to blame.
  const std::vector<double> common = MediansOfOthers(slowdowns);
  for (size_t rank = 0; rank < expected.size(); ++rank) {
    const double alike = common[rank] == kUnknown ? 1 : std::max(1.0, common[rank]);
    expected[rank] = std::min(expected[rank], at_start_[rank] * alike * ranks_per_core_);
  }
  return expected;
}

std::vector<StragglerDetector::Slowness> StragglerDetector::JudgeStep(
    const std::vector<double>& busy_seconds, double step_seconds) const {
  const std::vector<double> expected = Expected(busy_seconds);
  const double least = std::max(kTimeSlice, kFeltByOthers * step_seconds);
  std::vector<Slowness> step(busy_seconds.size());
  for (size_t rank = 0; rank < step.size(); ++rank) {
    const double excess = busy_seconds[rank] - expected[rank];
    if (busy_seconds[rank] <= kSlow * expected[rank] || excess <= least) continue;
    step[rank] = {busy_seconds[rank] / std::max(expected[rank], kShortest), excess / step_seconds};
  }
  return step;
}

std::optional<Straggler> StragglerDetector::JudgeWindow(size_t rank) const {
  std::vector<double> slowdowns;
  std::vector<double> shares;
  for (const std::vector<Slowness>& step : steps_) {
    if (step[rank].slowdown == 0) continue;
    slowdowns.push_back(step[rank].slowdown);
    shares.push_back(step[rank].share_of_step);
  }
  if (shares.size() < kSlowSteps) return std::nullopt;
  return Straggler{static_cast<int>(rank), Median(std::move(slowdowns)), Median(std::move(shares))};
}

std::optional<Straggler> StragglerDetector::Observe(const std::vector<double>& busy_seconds,
                                                    double step_seconds) {
  const size_t ranks = first_busy_.size();
  CHECK_EQ(busy_seconds.size(), ranks);
  if (++observed_ <= kWarmUp) return std::nullopt;
  steps_.push_back(JudgeStep(busy_seconds, step_seconds));
  if (steps_.size() > kWindow) steps_.pop_front();
  if (at_start_.empty()) {
    for (size_t rank = 0; rank < ranks; ++rank) first_busy_[rank].push_back(busy_seconds[rank]);
  }
  if (steps_.size() < kWindow) return std::nullopt;
  if (at_start_.empty()) {
    for (std::vector<double>& busy : first_busy_) at_start_.push_back(Median(std::move(busy)));
  }

  std::optional<Straggler> worst;
  for (size_t rank = 0; rank < ranks; ++rank) {
    const auto straggler = JudgeWindow(rank);
    if (!straggler) told_at_[rank] = kNever;  // told of at once when it comes back
    if (!straggler || observed_ < told_at_[rank] + kTellAgain) continue;
    if (!worst || straggler->share_of_step > worst->share_of_step) worst = straggler;
  }
  if (worst) told_at_[worst->rank] = observed_;
  return worst;
}

}  // namespace cairn
