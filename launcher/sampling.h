#pragma once

#include <cstdint>
#include <vector>

namespace cairn {

struct SamplingOptions {
  int64_t top_k = 0;  ///< keep the k likeliest tokens; 0: all
  double top_p =
      1.0;  ///< keep the likeliest tokens that reach this probability (Holtzman et al. 2020)
  double temperature = 1;  ///< 0: always the likeliest token
};

/// A token drawn from softmax(logits / temperature) after the cuts; `uniform` in [0, 1) decides
/// which.
int32_t SampleToken(const std::vector<float>& logits, const SamplingOptions& options,
                    double uniform);

}  // namespace cairn
