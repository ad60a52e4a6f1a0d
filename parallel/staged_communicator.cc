#include "parallel/staged_communicator.h"

#include "parallel/operand_check.h"

namespace cairn {
namespace {

class StagedCommunicator : public Communicator {
 public:
  StagedCommunicator(Communicator& host, std::unique_ptr<Communicator> owned, Device& device,
                     std::shared_ptr<Device> host_device)
      : Communicator(host.rank(), host.size(), host.name(), host.recorder()),
        owned_(std::move(owned)),
        host_(&host),
        device_(&device),
        host_device_(std::move(host_device)) {}

  void AllReduce(const Tensor& tensor, ReduceOp op, Stream& stream) override {
    CheckOperand(*this, "AllReduce", tensor, device_->kind());
    const Tensor staged = ToHost(tensor, stream);
    host_->AllReduce(staged, op, host_device_->compute_stream());
    FromHost(tensor, staged, stream);
  }
  void AllGather(const Tensor& output, const Tensor& input, Stream& stream) override {
    CheckOperands(*this, "AllGather", output, size(), input, 1, device_->kind());
    const Tensor staged = Like(output);
    host_->AllGather(staged, ToHost(input, stream), host_device_->compute_stream());
    FromHost(output, staged, stream);
  }
  void ReduceScatter(const Tensor& output, const Tensor& input, Stream& stream) override {
    CheckOperands(*this, "ReduceScatter", output, 1, input, size(), device_->kind());
    const Tensor staged = Like(output);
    host_->ReduceScatter(staged, ToHost(input, stream), host_device_->compute_stream());
    FromHost(output, staged, stream);
  }
  void AllToAll(const Tensor& output, const Tensor& input, Stream& stream) override {
    CheckAllToAll(*this, output, input, device_->kind());
    const Tensor staged = Like(output);
    host_->AllToAll(staged, ToHost(input, stream), host_device_->compute_stream());
    FromHost(output, staged, stream);
  }
  void Broadcast(const Tensor& tensor, int root, Stream& stream) override {
    CheckOperand(*this, "Broadcast", tensor, device_->kind());
    const Tensor staged = ToHost(tensor, stream);
    host_->Broadcast(staged, root, host_device_->compute_stream());
    FromHost(tensor, staged, stream);
  }
  void Send(const Tensor& tensor, int peer, Stream& stream) override {
    CheckOperand(*this, "Send", tensor, device_->kind());
    host_->Send(ToHost(tensor, stream), peer, host_device_->compute_stream());
  }
  void Recv(const Tensor& tensor, int peer, Stream& stream) override {
    CheckOperand(*this, "Recv", tensor, device_->kind());
    const Tensor staged = Like(tensor);
    host_->Recv(staged, peer, host_device_->compute_stream());
    FromHost(tensor, staged, stream);
  }

  std::vector<std::string> AllGatherBytes(const std::string& bytes) override {
    return host_->AllGatherBytes(bytes);
  }
  std::unique_ptr<Communicator> Split(int color, int key, const std::string& name) override {
    std::unique_ptr<Communicator> part = host_->Split(color, key, name);
    if (part == nullptr) return nullptr;
    Communicator& host = *part;
    return std::make_unique<StagedCommunicator>(host, std::move(part), *device_, host_device_);
  }
  std::unique_ptr<Communicator> Background(const std::string& name) override {
    return host_->Background(name);
  }
  void Leave() override { host_->Leave(); }
  void Abort(const std::string& reason) override { host_->Abort(reason); }

 private:
  Tensor Like(const Tensor& tensor) const {
    return Tensor::Empty(tensor.shape(), tensor.dtype(), *host_device_,
                         MemoryCategory::kCommunication);
  }
  Tensor ToHost(const Tensor& tensor, Stream& stream) const {
    Tensor staged = Like(tensor);
    device_->Copy(staged.raw(), tensor.raw(), tensor.bytes(), stream);
    stream.Synchronize();
    return staged;
  }
  // Waits: the staged memory is handed out again at once.
  void FromHost(const Tensor& tensor, const Tensor& staged, Stream& stream) const {
    device_->Copy(tensor.raw(), staged.raw(), staged.bytes(), stream);
    stream.Synchronize();
  }

  std::unique_ptr<Communicator> owned_;  // of a part
  Communicator* host_;
  Device* device_;
  std::shared_ptr<Device> host_device_;
};

}  // namespace

std::unique_ptr<Communicator> NewStagedCommunicator(Communicator& host, Device& device) {
  return std::make_unique<StagedCommunicator>(host, nullptr, device, device.NewHostDevice());
}

}  // namespace cairn
