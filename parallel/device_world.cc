#include "parallel/device_world.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <utility>
#include <vector>

#include "parallel/nccl_communicator.h"
#include "parallel/staged_communicator.h"
#include "runtime/base/error.h"
#include "runtime/base/host.h"

namespace cairn {
namespace {

std::vector<DevicePlace> GatherDevices(Communicator& host, const Device& device) {
  std::vector<DevicePlace> places;
  for (const std::string& text : host.AllGatherBytes(device.hardware_id() + '\n' + HostName())) {
    const size_t end = text.find('\n');
    places.push_back({text.substr(end + 1), text.substr(0, end)});
  }
  return places;
}

}  // namespace

std::string DescribeSharing(std::span<const DevicePlace> places) {
  std::map<std::pair<std::string, std::string>, int> first_rank;
  for (size_t rank = 0; rank < places.size(); ++rank) {
    const auto [known, fresh] = first_rank.try_emplace(
        {places[rank].host, places[rank].hardware_id}, static_cast<int>(rank));
    if (!fresh) {
      return fmt::format("ranks {} and {} share {} of {}", known->second, rank,
                         places[rank].hardware_id, places[rank].host);
    }
  }
  return "";
}

std::unique_ptr<Communicator> NewDeviceWorld(Communicator& host, Device& device) {
  if (device.kind() != DeviceKind::kCuda) return nullptr;
  const std::string sharing = DescribeSharing(GatherDevices(host, device));
  if (sharing.empty()) return NewNcclCommunicator(host, device);
  const std::vector<std::string> reasons = host.AllGatherBytes(WhyNcclTakesNoSharedGpu());
  const auto reason =
      std::ranges::find_if(reasons, [](const std::string& text) { return !text.empty(); });
  if (reason == reasons.end()) return NewNcclCommunicator(host, device);
  if (host.rank() == 0) {
    fmt::print(stderr,
               "cairn: {}: tensors travel through host memory, not over NCCL (rank {}: {})\n",
               sharing, reason - reasons.begin(), *reason);
  }
  return NewStagedCommunicator(host, device);
}

}  // namespace cairn
