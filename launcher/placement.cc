#include "launcher/placement.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "runtime/base/error.h"
#include "runtime/base/host.h"

namespace cairn {
namespace {

constexpr size_t kShownHosts = 8;

// "0-3", "0-1,4": ascending numbers.
std::string Ranges(std::span<const int> numbers) {
  std::string text;
  for (size_t i = 0; i < numbers.size();) {
    size_t last = i;
    while (last + 1 < numbers.size() && numbers[last + 1] == numbers[last] + 1) ++last;
    text += fmt::format("{}{}", text.empty() ? "" : ",", numbers[i]);
    if (last > i) text += fmt::format("-{}", numbers[last]);
    i = last + 1;
  }
  return text;
}

}  // namespace

std::vector<RankPlace> GatherPlaces(Communicator& world, int local_rank, int threads) {
  const std::array<int, 2> numbers = {local_rank, threads};
  std::string mine(sizeof(numbers), '\0');
  std::memcpy(mine.data(), numbers.data(), sizeof(numbers));
  std::vector<RankPlace> places;
  for (const std::string& bytes : world.AllGatherBytes(mine + HostName())) {
    std::array<int, 2> theirs{};
    std::memcpy(theirs.data(), bytes.data(), sizeof(theirs));
    places.push_back({bytes.substr(sizeof(theirs)), theirs[0], theirs[1]});
  }
  return places;
}

std::string FormatPlaces(std::span<const RankPlace> places) {
  struct Host {
    std::string name;
    std::vector<int> ranks;
    std::vector<int> local_ranks;
  };
  std::vector<Host> hosts;
  int fewest = places.empty() ? 1 : places[0].threads;
  int most = fewest;
  for (size_t rank = 0; rank < places.size(); ++rank) {
    const RankPlace& place = places[rank];
    // Neighbours share a host more often than not.
    auto host = std::find_if(hosts.rbegin(), hosts.rend(),
                             [&](const Host& known) { return known.name == place.host; });
    if (host == hosts.rend()) {
      hosts.push_back({place.host, {}, {}});
      host = hosts.rbegin();
    }
    host->ranks.push_back(static_cast<int>(rank));
    host->local_ranks.push_back(place.local_rank);
    fewest = std::min(fewest, place.threads);
    most = std::max(most, place.threads);
  }
  std::vector<std::string> parts;
  for (size_t i = 0; i < std::min(hosts.size(), kShownHosts); ++i) {
    parts.push_back(fmt::format("{} on {} (local {})", Ranges(hosts[i].ranks), hosts[i].name,
                                Ranges(hosts[i].local_ranks)));
  }
  if (hosts.size() > kShownHosts) {
    parts.push_back(fmt::format("and so on over {} hosts", hosts.size()));
  }
  return fmt::format("ranks {}; {} each", fmt::join(parts, ", "),
                     fewest == most ? fmt::format("{} thread{}", most, most == 1 ? "" : "s")
                                    : fmt::format("{} to {} threads", fewest, most));
}

}  // namespace cairn
