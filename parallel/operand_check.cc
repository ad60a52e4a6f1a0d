#include "parallel/operand_check.h"

#include <glog/logging.h>

#include "runtime/base/error.h"

namespace cairn {

void CheckOperand(const Communicator& group, const char* verb, const Tensor& tensor,
                  DeviceKind kind) {
  CHECK(tensor.contiguous()) << verb << " on " << group.name() << " of a strided tensor";
  if (tensor.device().kind() != kind) {
    Throw(ErrorKind::kDevice, fmt::format("{} on {}", verb, group.name()),
          "this communicator carries tensors of the {}, not of {}", DeviceKindName(kind),
          DeviceKindName(tensor.device().kind()));
  }
}

void CheckOperands(const Communicator& group, const char* verb, const Tensor& output,
                   int output_parts, const Tensor& input, int input_parts, DeviceKind kind) {
  CheckOperand(group, verb, output, kind);
  CheckOperand(group, verb, input, kind);
  CHECK(output.dtype() == input.dtype()) << verb << " on " << group.name();
  CHECK_EQ(output.numel() * input_parts, input.numel() * output_parts)
      << verb << " on " << group.name() << " of " << input.shape().ToString() << " to "
      << output.shape().ToString();
}

void CheckAllToAll(const Communicator& group, const Tensor& output, const Tensor& input,
                   DeviceKind kind) {
  CheckOperands(group, "AllToAll", output, group.size(), input, group.size(), kind);
  CHECK_EQ(input.numel() % group.size(), 0)
      << input.shape().ToString() << " over " << group.size() << " ranks";
  CHECK(output.raw() != input.raw() || input.numel() == 0) << "AllToAll in place";
}

void CheckPeer(const Communicator& group, const char* verb, int peer) {
  CHECK(peer >= 0 && peer < group.size()) << verb << " on " << group.name() << ": rank " << peer;
}

}  // namespace cairn
