#include "parallel/host_communicator.h"

#include <glog/logging.h>

#include "runtime/base/error.h"

namespace cairn {

HostCommunicator::HostCommunicator(int rank, int size, std::string name,
                                   std::shared_ptr<FlightRecorder> recorder,
                                   std::vector<int> world_ranks)
    : Communicator(rank, size, std::move(name), std::move(recorder)),
      group_(this->recorder()->AddGroup(this->name(), std::move(world_ranks))) {}

template <typename Now>
void HostCommunicator::Fly(Stream& stream, const char* verb, size_t bytes, int peer, Now now) {
  stream.Run([=, this] {
    const FlightRecorder::Scope scope(*recorder(), group_, verb, static_cast<int64_t>(bytes), peer);
    now();
  });
}

std::vector<std::string> HostCommunicator::AllGatherBytes(const std::string& bytes) {
  const FlightRecorder::Scope scope(*recorder(), group_, "AllGatherBytes",
                                    static_cast<int64_t>(bytes.size()));
  return AllGatherBytesNow(bytes);
}

void HostCommunicator::AllReduce(const Tensor& tensor, ReduceOp op, Stream& stream) {
  CheckOperand("AllReduce", tensor);
  Fly(stream, "AllReduce", tensor.bytes(), -1, [this, tensor, op] { AllReduceNow(tensor, op); });
}

void HostCommunicator::AllGather(const Tensor& output, const Tensor& input, Stream& stream) {
  CheckOperands("AllGather", output, size(), input, 1);
  Fly(stream, "AllGather", output.bytes(), -1,
      [this, output, input] { AllGatherNow(output, input); });
}

void HostCommunicator::ReduceScatter(const Tensor& output, const Tensor& input, Stream& stream) {
  CheckOperands("ReduceScatter", output, 1, input, size());
  Fly(stream, "ReduceScatter", input.bytes(), -1,
      [this, output, input] { ReduceScatterNow(output, input); });
}

void HostCommunicator::AllToAll(const Tensor& output, const Tensor& input, Stream& stream) {
  CheckOperands("AllToAll", output, size(), input, size());
  CHECK_EQ(input.numel() % size(), 0) << input.shape().ToString() << " over " << size() << " ranks";
  CHECK(output.raw() != input.raw() || input.numel() == 0) << "AllToAll in place";
  Fly(stream, "AllToAll", input.bytes(), -1, [this, output, input] { AllToAllNow(output, input); });
}

void HostCommunicator::Broadcast(const Tensor& tensor, int root, Stream& stream) {
  CheckOperand("Broadcast", tensor);
  CheckPeer("Broadcast", root);
  Fly(stream, "Broadcast", tensor.bytes(), -1,
      [this, tensor, root] { BroadcastNow(tensor, root); });
}

void HostCommunicator::Send(const Tensor& tensor, int peer, Stream& stream) {
  CheckOperand("Send", tensor);
  CheckPeer("Send", peer);
  Fly(stream, "Send", tensor.bytes(), peer, [this, tensor, peer] { SendNow(tensor, peer); });
}

void HostCommunicator::Recv(const Tensor& tensor, int peer, Stream& stream) {
  CheckOperand("Recv", tensor);
  CheckPeer("Recv", peer);
  Fly(stream, "Recv", tensor.bytes(), peer, [this, tensor, peer] { RecvNow(tensor, peer); });
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
