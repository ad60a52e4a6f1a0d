#include "parallel/host_communicator.h"

#include <glog/logging.h>

#include "runtime/base/error.h"

namespace cairn {

void HostCommunicator::AllReduce(const Tensor& tensor, ReduceOp op, Stream& stream) {
  CheckOperand("AllReduce", tensor);
  stream.Run([this, tensor, op] { AllReduceNow(tensor, op); });
}

void HostCommunicator::AllGather(const Tensor& output, const Tensor& input, Stream& stream) {
  CheckOperands("AllGather", output, size(), input, 1);
  stream.Run([this, output, input] { AllGatherNow(output, input); });
}

void HostCommunicator::ReduceScatter(const Tensor& output, const Tensor& input, Stream& stream) {
  CheckOperands("ReduceScatter", output, 1, input, size());
  stream.Run([this, output, input] { ReduceScatterNow(output, input); });
}

void HostCommunicator::AllToAll(const Tensor& output, const Tensor& input, Stream& stream) {
  CheckOperands("AllToAll", output, size(), input, size());
  CHECK_EQ(input.numel() % size(), 0) << input.shape().ToString() << " over " << size() << " ranks";
  CHECK(output.raw() != input.raw() || input.numel() == 0) << "AllToAll in place";
  stream.Run([this, output, input] { AllToAllNow(output, input); });
}

void HostCommunicator::Broadcast(const Tensor& tensor, int root, Stream& stream) {
  CheckOperand("Broadcast", tensor);
  CheckPeer("Broadcast", root);
  stream.Run([this, tensor, root] { BroadcastNow(tensor, root); });
}

void HostCommunicator::Send(const Tensor& tensor, int peer, Stream& stream) {
  CheckOperand("Send", tensor);
  CheckPeer("Send", peer);
  stream.Run([this, tensor, peer] { SendNow(tensor, peer); });
}

void HostCommunicator::Recv(const Tensor& tensor, int peer, Stream& stream) {
  CheckOperand("Recv", tensor);
  CheckPeer("Recv", peer);
  stream.Run([this, tensor, peer] { RecvNow(tensor, peer); });
}

void HostCommunicator::CheckOperand(const char* verb, const Tensor& tensor) const {
  CHECK(tensor.contiguous()) << verb << " on " << name() << " of a strided tensor";
  if (tensor.device().kind() != DeviceKind::kCpu) {
    Throw(ErrorKind::kDevice, fmt::format("{} on {}", verb, name()),
          "this communicator carries tensors of the cpu, not of {}",
          DeviceKindName(tensor.device().kind()));
  }
}

void HostCommunicator::CheckOperands(const char* verb, const Tensor& output, int output_parts,
                                     const Tensor& input, int input_parts) const {
  CheckOperand(verb, output);
  CheckOperand(verb, input);
  CHECK(output.dtype() == input.dtype()) << verb << " on " << name();
  CHECK_EQ(output.numel() * input_parts, input.numel() * output_parts)
      << verb << " on " << name() << " of " << input.shape().ToString() << " to "
      << output.shape().ToString();
}

void HostCommunicator::CheckPeer(const char* verb, int peer) const {
  CHECK(peer >= 0 && peer < size()) << verb << " on " << name() << ": rank " << peer;
}

}  // namespace cairn
