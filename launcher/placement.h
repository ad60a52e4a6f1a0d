#pragma once

#include <span>
#include <string>
#include <vector>

#include "parallel/communicator.h"

namespace cairn {

/// Where a rank runs.
struct RankPlace {
  std::string host;
  int local_rank = 0;
  int threads = 1;
};

/// Every rank's place, on every rank.
std::vector<RankPlace> GatherPlaces(Communicator& world, int local_rank, int threads);

/// "ranks 0-3 on a (local 0-3), 4-7 on b (local 0-3); 2 threads each".
std::string FormatPlaces(std::span<const RankPlace> places);

}  // namespace cairn
