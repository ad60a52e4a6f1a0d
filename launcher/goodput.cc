#include "launcher/goodput.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <random>

namespace cairn {
namespace {

constexpr std::array kCauses = {
    FailureCause{"faulty GPU", 148, FailureSign::kDeath},
    FailureCause{"GPU HBM3 memory", 72, FailureSign::kDeath},
    FailureCause{"software bug", 54, FailureSign::kDeath},
    FailureCause{"network switch or cable", 35, FailureSign::kHang},
    FailureCause{"host maintenance", 32, FailureSign::kDeath},
    FailureCause{"GPU SRAM memory", 19, FailureSign::kDeath},
    FailureCause{"GPU system processor", 17, FailureSign::kHang},
    FailureCause{"NIC", 7, FailureSign::kHang},
    FailureCause{"NCCL watchdog timeout", 7, FailureSign::kHang},
    FailureCause{"silent data corruption", 6, FailureSign::kSilent},
    FailureCause{"GPU thermal interface or sensor", 6, FailureSign::kDeath},
    FailureCause{"SSD", 3, FailureSign::kDeath},
    FailureCause{"power supply", 3, FailureSign::kDeath},
    FailureCause{"server chassis", 2, FailureSign::kDeath},
    FailureCause{"IO expansion board", 2, FailureSign::kDeath},
    FailureCause{"dependency", 2, FailureSign::kDeath},
    FailureCause{"CPU", 2, FailureSign::kDeath},
    FailureCause{"system memory", 2, FailureSign::kDeath},
};

class Simulation {
 public:
  explicit Simulation(const GoodputOptions& options)
      : options_(options),
        random_(options.seed),
        until_failure_(options.failures_per_rank_day * static_cast<double>(options.ranks) / 86400),
        save_at_(options.save_interval) {
    NextFailure();
  }

  GoodputResult Run() {
    const double end = options_.days * 86400;
    while (now_ < end) {
      Train(std::min(end, failure_at_));
      if (now_ < end) Fail();
    }
    result_.useful += unsaved_;  // the end comes with a save
    return result_;
  }

 private:
  void NextFailure() { failure_at_ = now_ + until_failure_(random_); }

  // Trains and saves until `stop`.
  void Train(double stop) {
    while (now_ < stop) {
      // A save that has had its time commits what was trained before it began.
      const double step_end =
          std::max(now_, std::min({stop, save_at_, saving_ ? commits_at_ : stop}));
      unsaved_ += step_end - now_;
      now_ = step_end;
      if (saving_ && now_ >= commits_at_) Commit();
      if (now_ < stop && now_ >= save_at_) BeginSave(stop);
    }
  }

  void BeginSave(double stop) {
    if (saving_) {  // one at a time: the training waits for the one under way
      const double wait = std::min(stop, commits_at_) - now_;
      result_.stalled += wait;
      now_ += wait;
      if (now_ >= stop) return;
      Commit();
    }
    const double stall = std::min(options_.save_stall, stop - now_);
    result_.stalled += stall;
    now_ += stall;
    save_at_ = now_ + options_.save_interval;
    saving_ = true;
    in_save_ = unsaved_;
    commits_at_ = now_ + std::max(0.0, options_.save_duration - stall);
  }

  void Commit() {
    result_.useful += in_save_;
    unsaved_ -= in_save_;
    saving_ = false;
  }

  void Fail() {
    ++result_.failures;
    const FailureCause& cause = kCauses[cause_(random_)];
    switch (cause.sign) {
      case FailureSign::kDeath:
        Spend(options_.detect_death, result_.detecting);
        break;
      case FailureSign::kHang:
        Spend(options_.detect_hang, result_.detecting);
        break;
      case FailureSign::kSilent:
        // What is computed until the next comparison counts for nothing.
        Spend(options_.detect_silent * uniform_(random_), result_.detecting);
        break;
    }
    result_.lost += unsaved_;
    unsaved_ = 0;
    saving_ = false;
    // A failure during a restart begins it anew.
    NextFailure();
    while (failure_at_ < now_ + options_.restart) {
      ++result_.failures;
      Spend(failure_at_ - now_, result_.restarting);
      NextFailure();
    }
    Spend(options_.restart, result_.restarting);
    save_at_ = now_ + options_.save_interval;
  }

  void Spend(double seconds, double& account) {
    account += seconds;
    now_ += seconds;
  }

  static std::discrete_distribution<size_t> ByCount() {
    std::vector<double> counts;
    counts.reserve(kCauses.size());
    for (const FailureCause& cause : kCauses) counts.push_back(cause.count);
    return {counts.begin(), counts.end()};
  }

  const GoodputOptions& options_;
  std::mt19937_64 random_;
  std::exponential_distribution<double> until_failure_;
  std::uniform_real_distribution<double> uniform_;
  std::discrete_distribution<size_t> cause_ = ByCount();
  GoodputResult result_;
  double now_ = 0;
  double failure_at_ = 0;
  double unsaved_ = 0;  // training that no commit holds yet
  double save_at_;      // when the next save begins
  bool saving_ = false;
  double in_save_ = 0;  // of unsaved_, what the save under way holds
  double commits_at_ = 0;
};

}  // namespace

std::span<const FailureCause> LlamaFailureCauses() { return kCauses; }

GoodputResult SimulateGoodput(const GoodputOptions& options) { return Simulation(options).Run(); }

}  // namespace cairn
