#pragma once

#include <memory>
#include <span>
#include <string>

#include "parallel/communicator.h"

namespace cairn {

/// Where a rank's device is: the host, and what tells the device from others there.
struct DevicePlace {
  std::string host;
  std::string hardware_id;
};

/// Ranks that share a device with another rank, told as "ranks 0 and 2 share 0000:3b:00.0 of a";
/// empty if every rank has its own.
std::string DescribeSharing(std::span<const DevicePlace> places);

/// The communicator of the ranks of `host` for tensors of their `device`s: NCCL where every rank
/// has a GPU of its own, or NCCL (2.30 or newer, with NCCL_MULTI_RANK_GPU_ENABLE=1) lets ranks
/// share one; by way of host memory, which rank 0 says once, where they share one otherwise;
/// nullptr on the CPU, whose tensors `host` itself carries. Collective; `host` and `device` must
/// outlive it.
std::unique_ptr<Communicator> NewDeviceWorld(Communicator& host, Device& device);

}  // namespace cairn
