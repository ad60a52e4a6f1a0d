#pragma once

#include <cstdint>
#include <optional>

namespace cairn {

/// Counts loss anomalies that follow each other, which bounds what a policy may try.
class LossAnomalyCount {
 public:
  /// One follows another if it comes at most `apart` iterations after it, or before it: a
  /// rewind has gone back.
  explicit LossAnomalyCount(int64_t apart) : apart_(apart) {}

  /// How many followed each other up to this one, at `iteration`.
  int64_t Add(int64_t iteration) {
    count_ = last_ && iteration - *last_ <= apart_ ? count_ + 1 : 1;
    last_ = iteration;
    return count_;
  }

 private:
  int64_t apart_;
  int64_t count_ = 0;
  std::optional<int64_t> last_;
};

}  // namespace cairn
