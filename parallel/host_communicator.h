#pragma once

#include <memory>
#include <string>

#include "parallel/communicator.h"

namespace cairn {

/// The half that backends of blocking calls on host memory share: operands are checked here, and
/// each verb runs as host work of its stream, which holds the tensors.
class HostCommunicator : public Communicator {
 public:
  void AllReduce(const Tensor& tensor, ReduceOp op, Stream& stream) final;
  void AllGather(const Tensor& output, const Tensor& input, Stream& stream) final;
  void ReduceScatter(const Tensor& output, const Tensor& input, Stream& stream) final;
  void AllToAll(const Tensor& output, const Tensor& input, Stream& stream) final;
  void Broadcast(const Tensor& tensor, int root, Stream& stream) final;
  void Send(const Tensor& tensor, int peer, Stream& stream) final;
  void Recv(const Tensor& tensor, int peer, Stream& stream) final;
  std::vector<std::string> AllGatherBytes(const std::string& bytes) final;

 protected:
  /// `world_ranks`: who the ranks of this group are in the world.
  HostCommunicator(int rank, int size, std::string name, std::shared_ptr<FlightRecorder> recorder,
                   std::vector<int> world_ranks);

  // The verbs, blocking, on checked operands.
  virtual void AllReduceNow(const Tensor& tensor, ReduceOp op) = 0;
  virtual void AllGatherNow(const Tensor& output, const Tensor& input) = 0;
  virtual void ReduceScatterNow(const Tensor& output, const Tensor& input) = 0;
  virtual void AllToAllNow(const Tensor& output, const Tensor& input) = 0;
  virtual void BroadcastNow(const Tensor& tensor, int root) = 0;
  virtual void SendNow(const Tensor& tensor, int peer) = 0;
  virtual void RecvNow(const Tensor& tensor, int peer) = 0;
  virtual std::vector<std::string> AllGatherBytesNow(const std::string& bytes) = 0;

 private:
  /// Runs `now` on `stream` as an operation of the flight recorder.
  template <typename Now>
  void Fly(Stream& stream, const char* verb, size_t bytes, int peer, Now now);

  int group_;  // the recorder's
};

}  // namespace cairn
