#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "runtime/device/stream.h"
#include "runtime/telemetry/flight_recorder.h"
#include "runtime/tensor/tensor.h"

namespace cairn {

enum class ReduceOp : uint8_t { kSum, kMax };

/// A group of ranks that exchange tensors: the whole contract of a communication backend. Verbs are
/// asynchronous: they are given to `stream` in order and hold their tensors until done; a host that
/// wants the result waits for the stream (an inline stream has finished on return). Every rank of
/// the group makes the same calls in the same order; one communicator is used from one stream at a
/// time.
///
/// Sums are taken in rank order with fp32 (fp64 for fp64) intermediates and one final rounding, so
/// that a result is the same on every rank, in every backend, and for any split of the elements.
/// (NCCL sums in its own order; see nccl_communicator.h.)
/// Failures of the transport, and peers that called Abort, surface as Error(kCommunication).
class Communicator {
 public:
  virtual ~Communicator() = default;
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }
  /// What the group is for ("world", "tp", "dp", ...); used in messages.
  const std::string& name() const { return name_; }

  // Tensors are contiguous; their dtypes and sizes agree over the group.

  /// tensor = reduction of every rank's tensor, of any dtype. A NaN makes the maximum NaN.
  virtual void AllReduce(const Tensor& tensor, ReduceOp op, Stream& stream) = 0;
  /// output [size * n] = the inputs [n] of ranks 0, 1, ... one after the other. `input` may be this
  /// rank's part of `output`.
  virtual void AllGather(const Tensor& output, const Tensor& input, Stream& stream) = 0;
  /// output [n] = this rank's part of the sum of the inputs [size * n]. `output` may be this rank's
  /// part of `input` (whose other parts are then undefined).
  virtual void ReduceScatter(const Tensor& output, const Tensor& input, Stream& stream) = 0;
  /// Part i of `input` goes to rank i, part j of `output` comes from rank j; both [size * n].
  virtual void AllToAll(const Tensor& output, const Tensor& input, Stream& stream) = 0;
  virtual void Broadcast(const Tensor& tensor, int root, Stream& stream) = 0;

  /// Queues `tensor` for `peer` and returns; the tensor is held, and must not be written, until the
  /// peer has received it. Messages to one peer arrive in order. Never waits for the peer.
  virtual void Send(const Tensor& tensor, int peer, Stream& stream) = 0;
  /// Fills `tensor` with the next message of `peer`; waits for it.
  virtual void Recv(const Tensor& tensor, int peer, Stream& stream) = 0;

  /// Every rank's host bytes, by rank (sizes may differ): configuration, digests, votes. Blocks.
  virtual std::vector<std::string> AllGatherBytes(const std::string& bytes) = 0;
  /// Blocks until every rank came here.
  void Barrier() { AllGatherBytes(""); }

  /// The group of the ranks that give the same `color`, ordered by `key`. Collective. A negative
  /// color joins no group and gets nullptr.
  virtual std::unique_ptr<Communicator> Split(int color, int key, const std::string& name) = 0;

  /// The same ranks once more, for AllGatherBytes on a thread that works behind the others: it
  /// sleeps where it waits instead of keeping a core busy. Collective.
  virtual std::unique_ptr<Communicator> Background(const std::string& name) = 0;

  /// Takes this rank out of a group of Background(), from any thread: its calls, under way or
  /// later, throw Error(kCommunication), and so do those of its peers where the backend can tell
  /// them.
  virtual void Leave() = 0;

  /// Ends the communication of all ranks, from any thread: those that wait get an Error
  /// (kCommunication) with `reason`, or (MPI) the job is ended.
  virtual void Abort(const std::string& reason) = 0;

  /// Whether the work that a Device::Capture records may use this communicator. Every rank then
  /// records its part of the same calls, and makes each launch, as it makes any other call.
  virtual bool recordable() const { return false; }

  /// Nanoseconds that training waited for other ranks (FlightRecorder::Wait), in this communicator
  /// and all that share its recorder.
  int64_t wait_ns() const { return recorder_->wait_ns(); }
  /// What this rank communicated; shared with the communicators split from this one.
  const std::shared_ptr<FlightRecorder>& recorder() const { return recorder_; }

 protected:
  Communicator(int rank, int size, std::string name, std::shared_ptr<FlightRecorder> recorder)
      : rank_(rank), size_(size), name_(std::move(name)), recorder_(std::move(recorder)) {}

 private:
  int rank_;
  int size_;
  std::string name_;
  std::shared_ptr<FlightRecorder> recorder_;
};

}  // namespace cairn
