// Stands in for NCCL in a build without CUDA, where there is no GPU to ask for it.
#include "parallel/nccl_communicator.h"
#include "runtime/base/error.h"

namespace cairn {

std::unique_ptr<Communicator> NewNcclCommunicator(Communicator& host, Device& /*device*/) {
  Throw(ErrorKind::kDevice, host.name(), "this build of Cairn has no NCCL");
}

std::string WhyNcclTakesNoSharedGpu() { return "this build of Cairn has no NCCL"; }

}  // namespace cairn
