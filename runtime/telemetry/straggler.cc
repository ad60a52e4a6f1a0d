#include "runtime/telemetry/straggler.h"

#include <glog/logging.h>

#include <algorithm>
#include <utility>

namespace cairn {
namespace {

constexpr size_t kWindow = 12;          // steps that a median is of
constexpr int64_t kWarmUp = 2;          // first steps, which touch memory for the first time
constexpr double kSlow = 1.5;           // times the expected busy time
constexpr double kFeltByOthers = 0.15;  // of the step
constexpr int64_t kTellAgain = 100;     // steps after which the same straggler is told of again

double Median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::ranges::nth_element(values, middle);
  return *middle;
}

double Median(const std::deque<double>& values) {
  return Median(std::vector<double>(values.begin(), values.end()));
}

void Push(std::deque<double>& window, double value) {
  window.push_back(value);
  if (window.size() > kWindow) window.pop_front();
}

}  // namespace

StragglerDetector::StragglerDetector(std::vector<int> stage_of_rank)
    : stages_(std::move(stage_of_rank)), busy_(stages_.size()) {}

double StragglerDetector::Expected(int rank, const std::vector<double>& medians) const {
  double expected = at_start_[rank];
  std::vector<double> peers;
  for (size_t other = 0; other < stages_.size(); ++other) {
    if (stages_[other] == stages_[rank] && other != static_cast<size_t>(rank)) {
      peers.push_back(medians[other]);
    }
  }
  if (!peers.empty()) expected = std::min(expected, Median(std::move(peers)));
  return expected;
}

std::optional<Straggler> StragglerDetector::Observe(const std::vector<double>& busy_seconds,
                                                    double step_seconds) {
  CHECK_EQ(busy_seconds.size(), stages_.size());
  if (++observed_ <= kWarmUp) return std::nullopt;
  for (size_t rank = 0; rank < busy_.size(); ++rank) Push(busy_[rank], busy_seconds[rank]);
  Push(step_seconds_, step_seconds);
  if (step_seconds_.size() < kWindow) return std::nullopt;

  std::vector<double> medians;
  for (const std::deque<double>& window : busy_) medians.push_back(Median(window));
  if (at_start_.empty()) at_start_ = medians;
  std::optional<Straggler> worst;
  for (size_t rank = 0; rank < medians.size(); ++rank) {
    const double expected = Expected(static_cast<int>(rank), medians);
    const double share = (medians[rank] - expected) / Median(step_seconds_);
    if (medians[rank] <= kSlow * expected || share <= kFeltByOthers) continue;
    if (!worst || share > worst->share_of_step) {
      worst = {static_cast<int>(rank), expected > 0 ? medians[rank] / expected : 0, share};
    }
  }
  if (!worst) {
    last_told_ = -1;  // it has recovered: told of at once when it comes back
    return std::nullopt;
  }
  if (worst->rank == last_told_ && observed_ < told_at_ + kTellAgain) return std::nullopt;
  last_told_ = worst->rank;
  told_at_ = observed_;
  return worst;
}

}  // namespace cairn
