#include "parallel/nccl_communicator.h"

#include <glog/logging.h>

#include <cstdlib>
#include <cstring>
#include <deque>
#include <exception>
#include <string_view>
#include <utility>
#include <vector>

#include "parallel/nccl_call.h"
#include "parallel/nccl_watch.h"
#include "parallel/operand_check.h"
#include "runtime/base/error.h"
#include "runtime/device/cuda_device.h"

namespace cairn {
namespace {

ncclRedOp_t NcclOp(ReduceOp op) { return op == ReduceOp::kSum ? ncclSum : ncclMax; }

// What all communicators of a rank share.
struct NcclRank {
  NcclRank(Communicator& host, Device& gpu)
      : nccl(std::make_shared<Nccl>()),
        device(&AsCuda(gpu)),
        watch(nccl, [&host](const std::string& reason) { host.Abort(reason); }) {}

  std::shared_ptr<const Nccl> nccl;
  CudaDevice* device;
  NcclWatch watch;
};

std::vector<int> WorldRanks(Communicator& host) {
  std::vector<int> ranks;
  for (const std::string& rank : host.AllGatherBytes(std::to_string(host.recorder()->rank()))) {
    ranks.push_back(std::stoi(rank));
  }
  return ranks;
}

// Flights of a recording, which no host can ask for: their tensors are kept until the compute
// stream has waited for them, or the recording is over, whose end waits for all.
class RecordedFlights {
 public:
  // Those of other recordings are over. 0: none.
  void BeIn(int64_t recording) {
    if (std::exchange(recording_, recording) != recording) flights_.clear();
  }
  void Add(Event done, std::vector<Tensor> kept) {
    flights_.emplace_back(std::move(done), std::move(kept));
  }
  size_t size() const { return flights_.size(); }
  // The event that the tensors' memory must wait for.
  Event LetGoOfOldest() {
    Event done = std::move(flights_.front().first);
    flights_.pop_front();
    return done;
  }

 private:
  int64_t recording_ = 0;
  std::deque<std::pair<Event, std::vector<Tensor>>> flights_;
};

class NcclCommunicator : public Communicator {
 public:
  NcclCommunicator(std::shared_ptr<NcclRank> common, Communicator& host,
                   std::unique_ptr<Communicator> owned, ncclComm_t comm)
      : Communicator(host.rank(), host.size(), host.name(), host.recorder()),
        common_(std::move(common)),
        owned_(std::move(owned)),
        host_(&host),
        comm_(comm),
        flights_(*recorder(), recorder()->AddGroup(name() + " over NCCL", WorldRanks(host))) {
    common_->watch.Add(comm_, name(), flights_);
  }

  // A rank that an error unwinds does not wait for others, which may never come: it aborts, all
  // communicators at once.
  ~NcclCommunicator() override {
    if (std::uncaught_exceptions() > 0) {
      common_->watch.Fail("an error ended this rank");
    } else if (!common_->watch.failed()) {
      Finalize();
    }
    if (!common_->watch.Remove(comm_)) return;
    const ncclResult_t code = nccl().comm_destroy(comm_);
    LOG_IF(ERROR, code != ncclSuccess)
        << "nccl CommDestroy on " << name() << ": " << nccl().get_error_string(code);
  }

  void AllReduce(const Tensor& tensor, ReduceOp op, Stream& stream) override {
    CheckOperand(*this, "AllReduce", tensor, DeviceKind::kCuda);
    Collective("AllReduce", tensor.bytes(), {tensor}, stream, [&](cudaStream_t native) {
      return nccl().all_reduce(tensor.raw(), tensor.raw(), tensor.numel(), NcclType(tensor.dtype()),
                               NcclOp(op), comm_, native);
    });
  }

  void AllGather(const Tensor& output, const Tensor& input, Stream& stream) override {
    CheckOperands(*this, "AllGather", output, size(), input, 1, DeviceKind::kCuda);
    Collective("AllGather", output.bytes(), {output, input}, stream, [&](cudaStream_t native) {
      return nccl().all_gather(input.raw(), output.raw(), input.numel(), NcclType(input.dtype()),
                               comm_, native);
    });
  }

  void ReduceScatter(const Tensor& output, const Tensor& input, Stream& stream) override {
    CheckOperands(*this, "ReduceScatter", output, 1, input, size(), DeviceKind::kCuda);
    Collective("ReduceScatter", input.bytes(), {output, input}, stream, [&](cudaStream_t native) {
      return nccl().reduce_scatter(input.raw(), output.raw(), output.numel(),
                                   NcclType(input.dtype()), ncclSum, comm_, native);
    });
  }

  void AllToAll(const Tensor& output, const Tensor& input, Stream& stream) override {
    CheckAllToAll(*this, output, input, DeviceKind::kCuda);
    const auto part = static_cast<size_t>(input.numel() / size());
    const size_t part_bytes = part * DTypeSize(input.dtype());
    Collective("AllToAll", input.bytes(), {output, input}, stream, [&](cudaStream_t native) {
      // One failure must not leave the group open.
      ncclResult_t code = nccl().group_start();
      for (int peer = 0; peer < size() && code == ncclSuccess; ++peer) {
        auto* to = static_cast<std::byte*>(output.raw()) + peer * part_bytes;
        const auto* from = static_cast<const std::byte*>(input.raw()) + peer * part_bytes;
        code = nccl().send(from, part, NcclType(input.dtype()), peer, comm_, native);
        if (code == ncclSuccess) {
          code = nccl().recv(to, part, NcclType(input.dtype()), peer, comm_, native);
        }
      }
      const ncclResult_t ended = nccl().group_end();
      return code != ncclSuccess ? code : ended;
    });
  }

  void Broadcast(const Tensor& tensor, int root, Stream& stream) override {
    CheckOperand(*this, "Broadcast", tensor, DeviceKind::kCuda);
    CheckPeer(*this, "Broadcast", root);
    Collective("Broadcast", tensor.bytes(), {tensor}, stream, [&](cudaStream_t native) {
      return nccl().broadcast(tensor.raw(), tensor.raw(), tensor.numel(), NcclType(tensor.dtype()),
                              root, comm_, native);
    });
  }

  void Send(const Tensor& tensor, int peer, Stream& stream) override {
    CheckOperand(*this, "Send", tensor, DeviceKind::kCuda);
    CheckPeer(*this, "Send", peer);
    Messages().Wait(stream.Record());
    Message("Send", tensor, peer, nullptr, [&](cudaStream_t native) {
      return nccl().send(tensor.raw(), tensor.numel(), NcclType(tensor.dtype()), peer, comm_,
                         native);
    });
    // No receiver is so far behind because it waits for this rank: see docs/decisions.md.
    if (recorded_.size() > 2 * static_cast<size_t>(size())) {
      common_->device->compute_stream().Wait(recorded_.LetGoOfOldest());
    }
  }

  void Recv(const Tensor& tensor, int peer, Stream& stream) override {
    CheckOperand(*this, "Recv", tensor, DeviceKind::kCuda);
    CheckPeer(*this, "Recv", peer);
    // The memory may have been something else's until now.
    Messages().Wait(stream.Record());
    stream.Wait(Message("Recv", tensor, peer, &stream, [&](cudaStream_t native) {
      return nccl().recv(tensor.raw(), tensor.numel(), NcclType(tensor.dtype()), peer, comm_,
                         native);
    }));
  }

  std::vector<std::string> AllGatherBytes(const std::string& bytes) override {
    common_->watch.Check("AllGatherBytes", name());
    return host_->AllGatherBytes(bytes);
  }

  std::unique_ptr<Communicator> Split(int color, int key, const std::string& part_name) override {
    ncclComm_t part = nullptr;
    {
      const NcclWatch::Call guard(common_->watch, "Split", name());
      nccl().Check(
          nccl().comm_split(comm_, color < 0 ? NCCL_SPLIT_NOCOLOR : color, key, &part, nullptr),
          "CommSplit", part_name, comm_);
    }
    std::unique_ptr<Communicator> host_part = host_->Split(color, key, part_name);
    CHECK((part == nullptr) == (host_part == nullptr)) << part_name;
    if (host_part == nullptr) return nullptr;
    Communicator& host = *host_part;
    return std::make_unique<NcclCommunicator>(common_, host, std::move(host_part), part);
  }

  std::unique_ptr<Communicator> Background(const std::string& group_name) override {
    return host_->Background(group_name);
  }
  void Leave() override { host_->Leave(); }
  bool recordable() const override { return true; }

  void Abort(const std::string& reason) override {
    common_->watch.Fail(reason);
    host_->Abort(reason);
  }

 private:
  const Nccl& nccl() const { return *common_->nccl; }

  // Waits for what is under way, while the watch still ends what would wait for ever.
  void Finalize() {
    try {
      if (messages_ != nullptr) messages_->Synchronize();
      common_->device->compute_stream().Synchronize();
      const NcclWatch::Call guard(common_->watch, "CommFinalize", name());
      nccl().Check(nccl().comm_finalize(comm_), "CommFinalize", name(), comm_);
    } catch (const Error& error) {
      LOG(ERROR) << error.what();
      common_->watch.Fail(error.what());
    }
  }

  // A message waits for its receiver on the GPU: on a stream of its own, so that nothing else does.
  // Groups that send none have no such stream: a GPU's queues are few (eight, unless
  // CUDA_DEVICE_MAX_CONNECTIONS says more), and streams that share one wait for each other.
  Stream& Messages() {
    if (messages_ == nullptr) messages_ = common_->device->NewStream(name() + " messages");
    return *messages_;
  }

  // Gives NCCL one operation; the recorder's is open from then on.
  template <typename Call>
  std::unique_ptr<FlightRecorder::Scope> Give(const char* verb, size_t bytes, int peer,
                                              Stream& stream, Call&& call) {
    const NcclWatch::Call guard(common_->watch, verb, name());
    auto scope = flights_.Begin(verb, static_cast<int64_t>(bytes), peer);
    nccl().Check(call(NativeStream(stream)), verb, name(), comm_);
    return scope;
  }

  // Gives one collective to `stream`.
  template <typename Call>
  void Collective(const char* verb, size_t bytes, std::vector<Tensor> tensors, Stream& stream,
                  Call&& call) {
    auto scope = Give(verb, bytes, -1, stream, call);
    Follow(stream, std::move(scope), KeptFor(&stream, std::move(tensors)));
  }

  // Gives one message to the stream of messages; `waiting` will wait for the event.
  template <typename Call>
  Event Message(const char* verb, const Tensor& tensor, int peer, const Stream* waiting,
                Call&& call) {
    auto scope = Give(verb, tensor.bytes(), peer, Messages(), call);
    return Follow(Messages(), std::move(scope), KeptFor(waiting, {tensor}));
  }

  // What must be kept of tensors that `waiting` will come after: nothing if that is the compute
  // stream, which hands memory out again in its own order.
  std::vector<Tensor> KeptFor(const Stream* waiting, std::vector<Tensor> tensors) const {
    if (waiting == &common_->device->compute_stream()) tensors.clear();
    return tensors;
  }

  // Keeps the tensors of what `stream` was given last, and the recorder's operation open, until
  // that is done: the event.
  Event Follow(Stream& stream, std::unique_ptr<FlightRecorder::Scope> scope,
               std::vector<Tensor> tensors) {
    Event done = stream.Record();
    const int64_t recording = common_->device->recording();
    recorded_.BeIn(recording);
    if (recording != 0) {
      if (!tensors.empty()) recorded_.Add(done, std::move(tensors));
    } else {
      flights_.Add(done, std::move(scope), std::move(tensors));
      flights_.Reap();
    }
    return done;
  }

  std::shared_ptr<NcclRank> common_;
  std::unique_ptr<Communicator> owned_;  // of a part
  Communicator* host_;
  ncclComm_t comm_;
  std::unique_ptr<Stream> messages_;  // null: none yet
  NcclFlights flights_;
  RecordedFlights recorded_;
};

}  // namespace

std::unique_ptr<Communicator> NewNcclCommunicator(Communicator& host, Device& device) {
  auto common = std::make_shared<NcclRank>(host, device);
  const Nccl& nccl = *common->nccl;
  ncclUniqueId id{};
  if (host.rank() == 0) {
    nccl.Check(nccl.get_unique_id(&id), "GetUniqueId", host.name(), nullptr);
  }
  const std::string first =
      host.AllGatherBytes(host.rank() == 0 ? std::string(id.internal, sizeof(id.internal)) : "")[0];
  std::memcpy(id.internal, first.data(), sizeof(id.internal));
  ncclComm_t comm = nullptr;
  nccl.Check(nccl.comm_init_rank(&comm, host.size(), id, host.rank()), "CommInitRank", host.name(),
             nullptr);
  return std::make_unique<NcclCommunicator>(std::move(common), host, nullptr, comm);
}

std::string WhyNcclTakesNoSharedGpu() {
  constexpr const char* kVariable = "NCCL_MULTI_RANK_GPU_ENABLE";
  constexpr int kOldestVersion = 23000;
  const char* value = std::getenv(kVariable);
  if (value == nullptr || std::string_view(value) != "1") {
    return fmt::format("{} is not 1", kVariable);
  }
  try {
    const int version = Nccl().Version();
    if (version >= kOldestVersion) return "";
    return fmt::format("NCCL {}.{} is older than 2.30", version / 10000, version / 100 % 100);
  } catch (const Error& error) {
    return error.what();
  }
}

}  // namespace cairn
