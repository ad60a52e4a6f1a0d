#include "parallel/host_communicator.h"

#include "parallel/operand_check.h"

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
  CheckOperand(*this, "AllReduce", tensor, DeviceKind::kCpu);
  Fly(stream, "AllReduce", tensor.bytes(), -1, [this, tensor, op] { AllReduceNow(tensor, op); });
}

void HostCommunicator::AllGather(const Tensor& output, const Tensor& input, Stream& stream) {
  CheckOperands(*this, "AllGather", output, size(), input, 1, DeviceKind::kCpu);
  Fly(stream, "AllGather", output.bytes(), -1,
      [this, output, input] { AllGatherNow(output, input); });
}

void HostCommunicator::ReduceScatter(const Tensor& output, const Tensor& input, Stream& stream) {
  CheckOperands(*this, "ReduceScatter", output, 1, input, size(), DeviceKind::kCpu);
  Fly(stream, "ReduceScatter", input.bytes(), -1,
      [this, output, input] { ReduceScatterNow(output, input); });
}

void HostCommunicator::AllToAll(const Tensor& output, const Tensor& input, Stream& stream) {
  CheckAllToAll(*this, output, input, DeviceKind::kCpu);
  Fly(stream, "AllToAll", input.bytes(), -1, [this, output, input] { AllToAllNow(output, input); });
}

void HostCommunicator::Broadcast(const Tensor& tensor, int root, Stream& stream) {
  CheckOperand(*this, "Broadcast", tensor, DeviceKind::kCpu);
  CheckPeer(*this, "Broadcast", root);
  Fly(stream, "Broadcast", tensor.bytes(), -1,
      [this, tensor, root] { BroadcastNow(tensor, root); });
}

void HostCommunicator::Send(const Tensor& tensor, int peer, Stream& stream) {
  CheckOperand(*this, "Send", tensor, DeviceKind::kCpu);
  CheckPeer(*this, "Send", peer);
  Fly(stream, "Send", tensor.bytes(), peer, [this, tensor, peer] { SendNow(tensor, peer); });
}

void HostCommunicator::Recv(const Tensor& tensor, int peer, Stream& stream) {
  CheckOperand(*this, "Recv", tensor, DeviceKind::kCpu);
  CheckPeer(*this, "Recv", peer);
  Fly(stream, "Recv", tensor.bytes(), peer, [this, tensor, peer] { RecvNow(tensor, peer); });
}

}  // namespace cairn
