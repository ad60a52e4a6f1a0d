#include "runtime/telemetry/straggler.h"

#include <glog/logging.h>

#include <algorithm>
#include <limits>
#include <utility>

namespace cairn {
namespace {

constexpr size_t kWindow = 16;          // steps that are judged together
constexpr size_t kSlowSteps = 12;       // of them, in which a straggler is slow
constexpr int64_t kWarmUp = 2;          // first steps, which touch memory for the first time
constexpr double kSlow = 1.5;           // times the expected busy time
constexpr double kFeltByOthers = 0.15;  // of the step
constexpr double kTimeSlice = 0.01;     // seconds; less is the operating system's choice
constexpr int64_t kTellAgain = 100;     // steps after which the same straggler is told of again

constexpr double kUnknown = std::numeric_limits<double>::infinity();

double Median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::ranges::nth_element(values, middle);
  return *middle;
}

}  // namespace

StragglerDetector::StragglerDetector(std::vector<int> stage_of_rank, double ranks_per_core)
    : stages_(std::move(stage_of_rank)), ranks_per_core_(std::max(1.0, ranks_per_core)) {}

// What the others of its stage took; infinite if it has none.
double StragglerDetector::OfPeers(int rank, const Step& step) const {
  std::vector<double> peers;
  for (size_t other = 0; other < stages_.size(); ++other) {
    if (stages_[other] == stages_[rank] && other != static_cast<size_t>(rank)) {
      peers.push_back(step.busy_seconds[other]);
    }
  }
  return peers.empty() ? kUnknown : Median(std::move(peers));
}

// What it took at the start, times what the others' work became slower by since then.
double StragglerDetector::AsAtStart(int rank, const Step& step) const {
  if (at_start_.empty()) return kUnknown;
  std::vector<double> slowdowns;
  for (size_t other = 0; other < stages_.size(); ++other) {
    if (other != static_cast<size_t>(rank) && at_start_[other] > 0) {
      slowdowns.push_back(step.busy_seconds[other] / at_start_[other]);
    }
  }
  const double common = slowdowns.empty() ? 1 : std::max(1.0, Median(std::move(slowdowns)));
  return at_start_[rank] * common * ranks_per_core_;
}

std::optional<Straggler> StragglerDetector::Judge(int rank) const {
  std::vector<double> slowdowns;
  std::vector<double> shares;
  for (const Step& step : steps_) {
    const double busy = step.busy_seconds[rank];
    const double expected = std::min(OfPeers(rank, step), AsAtStart(rank, step));
    const double excess = busy - expected;
    if (busy <= kSlow * expected || excess <= std::max(kTimeSlice, kFeltByOthers * step.seconds)) {
      continue;
    }
    slowdowns.push_back(expected > 0 ? busy / expected : 0);
    shares.push_back(excess / step.seconds);
  }
  if (shares.size() < kSlowSteps) return std::nullopt;
  return Straggler{rank, Median(std::move(slowdowns)), Median(std::move(shares))};
}

std::optional<Straggler> StragglerDetector::Observe(const std::vector<double>& busy_seconds,
                                                    double step_seconds) {
  CHECK_EQ(busy_seconds.size(), stages_.size());
  if (++observed_ <= kWarmUp) return std::nullopt;
  steps_.push_back({busy_seconds, step_seconds});
  if (steps_.size() > kWindow) steps_.pop_front();
  if (steps_.size() < kWindow) return std::nullopt;

  std::optional<Straggler> worst;
  for (size_t rank = 0; rank < stages_.size(); ++rank) {
    const auto straggler = Judge(static_cast<int>(rank));
    if (straggler && (!worst || straggler->share_of_step > worst->share_of_step)) worst = straggler;
  }
  if (at_start_.empty()) {
    for (size_t rank = 0; rank < stages_.size(); ++rank) {
      std::vector<double> busy;
      for (const Step& step : steps_) busy.push_back(step.busy_seconds[rank]);
      at_start_.push_back(Median(std::move(busy)));
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
