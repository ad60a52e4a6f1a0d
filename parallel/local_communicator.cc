#include "parallel/local_communicator.h"

#include <glog/logging.h>
#include <omp.h>

#include <algorithm>
#include <cstring>
#include <exception>
#include <mutex>
#include <numeric>
#include <thread>
#include <tuple>

#include "parallel/host_communicator.h"
#include "parallel/local_group.h"
#include "parallel/reduction.h"
#include "runtime/base/error.h"

namespace cairn {
namespace {

class SingleCommunicator : public Communicator {
 public:
  explicit SingleCommunicator(const std::string& name)
      : Communicator(0, 1, name, std::make_shared<FlightRecorder>(0)) {}

  void AllReduce(const Tensor&, ReduceOp, Stream&) override {}
  void AllGather(const Tensor& output, const Tensor& input, Stream& stream) override {
    Copy("AllGather", output, input, stream);
  }
  void ReduceScatter(const Tensor& output, const Tensor& input, Stream& stream) override {
    Copy("ReduceScatter", output, input, stream);
  }
  void AllToAll(const Tensor& output, const Tensor& input, Stream& stream) override {
    Copy("AllToAll", output, input, stream);
  }
  void Broadcast(const Tensor&, int, Stream&) override {}
  void Send(const Tensor&, int peer, Stream&) override { ThrowNoPeer("Send", peer); }
  void Recv(const Tensor&, int peer, Stream&) override { ThrowNoPeer("Recv", peer); }

  std::vector<std::string> AllGatherBytes(const std::string& bytes) override { return {bytes}; }
  std::unique_ptr<Communicator> Split(int color, int, const std::string& name) override {
    return color < 0 ? nullptr : NewSingleCommunicator(name);
  }
  std::unique_ptr<Communicator> Background(const std::string& name) override {
    return NewSingleCommunicator(name);
  }
  void Leave() override {}                    // nobody waits
  void Abort(const std::string&) override {}  // likewise

 private:
  static void Copy(const char* verb, const Tensor& output, const Tensor& input, Stream& stream) {
    CHECK(output.contiguous() && input.contiguous() && output.dtype() == input.dtype() &&
          output.numel() == input.numel())
        << verb << " of " << input.shape().ToString() << " to " << output.shape().ToString();
    if (output.raw() == input.raw()) return;
    input.device().Copy(output.raw(), input.raw(), input.bytes(), stream);
  }
  [[noreturn]] void ThrowNoPeer(const char* verb, int peer) const {
    Throw(ErrorKind::kInternal, fmt::format("{} on {}", verb, name()),
          "a group of one has no rank {} to talk to", peer);
  }
};

void CopyBytes(void* to, const void* from, size_t bytes) {
  if (bytes > 0 && to != from) std::memcpy(to, from, bytes);
}

// Of `count` elements, where the slice of `rank` begins.
int64_t SliceBegin(int64_t count, int rank, int size) { return count * rank / size; }

class LocalCommunicator : public HostCommunicator {
 public:
  /// `world_ranks` are those of the group's members, by rank.
  LocalCommunicator(int rank, std::string name, std::shared_ptr<LocalGroup> group,
                    const std::vector<int>& world_ranks, std::shared_ptr<FlightRecorder> recorder)
      : HostCommunicator(rank, static_cast<int>(world_ranks.size()), std::move(name),
                         std::move(recorder), world_ranks),
        group_(std::move(group)),
        world_rank_(world_ranks[rank]) {}

  ~LocalCommunicator() override {
    // While an error unwinds this rank, the others shall hear of the error, not of the leaving.
    if (std::uncaught_exceptions() == 0) group_->Leave(rank());
  }

  std::unique_ptr<Communicator> Split(int color, int key, const std::string& name) override;
  std::unique_ptr<Communicator> Background(const std::string& name) override {
    return Split(0, rank(), name);
  }
  void Leave() override { group_->Leave(rank()); }

  void Abort(const std::string& reason) override {
    group_->world()->Abort(fmt::format("rank {} ended the communication: {}", world_rank_, reason));
  }

 protected:
  void AllReduceNow(const Tensor& tensor, ReduceOp op) override;
  void AllGatherNow(const Tensor& output, const Tensor& input) override;
  void ReduceScatterNow(const Tensor& output, const Tensor& input) override;
  void AllToAllNow(const Tensor& output, const Tensor& input) override;
  void BroadcastNow(const Tensor& tensor, int root) override;
  void SendNow(const Tensor& tensor, int peer) override;
  void RecvNow(const Tensor& tensor, int peer) override;
  std::vector<std::string> AllGatherBytesNow(const std::string& bytes) override {
    const Meeting meeting(*this, {.verb = "AllGatherBytes", .data = &bytes});
    std::vector<std::string> all;
    all.reserve(size());
    for (int r = 0; r < size(); ++r) all.push_back(*static_cast<const std::string*>(meeting[r]));
    return all;
  }

 private:
  // The time in which all ranks see each other's call and the memory it names.
  class Meeting {
   public:
    Meeting(const LocalCommunicator& communicator, const LocalCall& call)
        : group_(*communicator.group_), recorder_(*communicator.recorder()) {
      const FlightRecorder::Wait wait(recorder_);
      calls_ = group_.Open(communicator.rank(), call);
    }
    ~Meeting() {
      const FlightRecorder::Wait wait(recorder_);
      group_.Close();
    }
    Meeting(const Meeting&) = delete;
    Meeting& operator=(const Meeting&) = delete;

    // What `rank` brought.
    const void* operator[](int rank) const { return calls_[rank].data; }

   private:
    LocalGroup& group_;
    FlightRecorder& recorder_;
    std::span<const LocalCall> calls_;
  };

  std::shared_ptr<LocalGroup> group_;
  int world_rank_;
};

std::unique_ptr<Communicator> LocalCommunicator::Split(int color, int key,
                                                       const std::string& name) {
  struct Member {
    int color;
    int key;
    int rank;
    int world_rank;
  };
  const Member mine{color, key, rank(), world_rank_};
  std::vector<Member> members;
  {
    const Meeting meeting(*this, {.verb = "Split", .data = &mine});
    for (int r = 0; r < size(); ++r) {
      const Member& member = *static_cast<const Member*>(meeting[r]);
      if (member.color == color) members.push_back(member);
    }
  }
  std::ranges::sort(members, {}, [](const Member& m) { return std::tuple(m.key, m.rank); });

  // The first member makes the group; the others take theirs from it.
  std::shared_ptr<LocalGroup> group;
  if (color >= 0 && members[0].rank == rank()) {
    group = LocalGroup::New(group_->world(), name, static_cast<int>(members.size()));
  }
  const std::shared_ptr<LocalGroup> offered = group;
  const Meeting meeting(*this, {.verb = "Split", .data = &offered});
  if (color < 0) return nullptr;
  group = *static_cast<const std::shared_ptr<LocalGroup>*>(meeting[members[0].rank]);
  const auto me = std::ranges::find(members, rank(), &Member::rank);
  std::vector<int> world_ranks(members.size());
  std::ranges::transform(members, world_ranks.begin(), &Member::world_rank);
  return std::make_unique<LocalCommunicator>(static_cast<int>(me - members.begin()), name, group,
                                             world_ranks, recorder());
}

void LocalCommunicator::AllReduceNow(const Tensor& tensor, ReduceOp op) {
  const Meeting meeting(*this, {.verb = "AllReduce",
                                .bytes = tensor.bytes(),
                                .dtype = tensor.dtype(),
                                .detail = static_cast<int>(op),
                                .data = tensor.raw()});
  // Each rank reduces one slice of all tensors, and nobody else touches that slice of any.
  const int64_t begin = SliceBegin(tensor.numel(), rank(), size());
  const int64_t count = SliceBegin(tensor.numel(), rank() + 1, size()) - begin;
  if (count == 0) return;
  const size_t element = DTypeSize(tensor.dtype());
  std::vector<const void*> sources(size());
  for (int r = 0; r < size(); ++r) {
    sources[r] = static_cast<const std::byte*>(meeting[r]) + begin * element;
  }
  std::byte* mine = static_cast<std::byte*>(tensor.raw()) + begin * element;
  ReduceInOrder(mine, sources, count, tensor.dtype(), op);
  // The memory was published as const for the sake of the other verbs; its owner waits in Close.
  for (const void* source : sources) CopyBytes(const_cast<void*>(source), mine, count * element);
}

void LocalCommunicator::AllGatherNow(const Tensor& output, const Tensor& input) {
  const Meeting meeting(
      *this,
      {.verb = "AllGather", .bytes = input.bytes(), .dtype = input.dtype(), .data = input.raw()});
  auto* out = static_cast<std::byte*>(output.raw());
  for (int r = 0; r < size(); ++r) CopyBytes(out + r * input.bytes(), meeting[r], input.bytes());
}

void LocalCommunicator::ReduceScatterNow(const Tensor& output, const Tensor& input) {
  const Meeting meeting(*this, {.verb = "ReduceScatter",
                                .bytes = input.bytes(),
                                .dtype = input.dtype(),
                                .data = input.raw()});
  if (output.numel() == 0) return;
  std::vector<const void*> sources(size());
  for (int r = 0; r < size(); ++r) {
    sources[r] = static_cast<const std::byte*>(meeting[r]) + rank() * output.bytes();
  }
  ReduceInOrder(output.raw(), sources, output.numel(), output.dtype(), ReduceOp::kSum);
}

void LocalCommunicator::AllToAllNow(const Tensor& output, const Tensor& input) {
  const Meeting meeting(
      *this,
      {.verb = "AllToAll", .bytes = input.bytes(), .dtype = input.dtype(), .data = input.raw()});
  const size_t part = input.bytes() / size();
  auto* out = static_cast<std::byte*>(output.raw());
  for (int r = 0; r < size(); ++r) {
    CopyBytes(out + r * part, static_cast<const std::byte*>(meeting[r]) + rank() * part, part);
  }
}

void LocalCommunicator::BroadcastNow(const Tensor& tensor, int root) {
  const Meeting meeting(*this, {.verb = "Broadcast",
                                .bytes = tensor.bytes(),
                                .dtype = tensor.dtype(),
                                .detail = root,
                                .data = tensor.raw()});
  CopyBytes(tensor.raw(), meeting[root], tensor.bytes());
}

void LocalCommunicator::SendNow(const Tensor& tensor, int peer) {
  // A copy, since the sender and its device may be gone before the peer receives.
  const auto* bytes = static_cast<const std::byte*>(tensor.raw());
  group_->Send(rank(), peer, {bytes, bytes + tensor.bytes()}, tensor.dtype());
}

void LocalCommunicator::RecvNow(const Tensor& tensor, int peer) {
  std::vector<std::byte> bytes;
  {
    const FlightRecorder::Wait wait(*recorder());
    bytes = group_->Receive(peer, rank(), tensor.bytes(), tensor.dtype());
  }
  CopyBytes(tensor.raw(), bytes.data(), bytes.size());
}

}  // namespace

std::unique_ptr<Communicator> NewSingleCommunicator(const std::string& name) {
  return std::make_unique<SingleCommunicator>(name);
}

void RunLocalRanks(int size, const std::function<void(Communicator& world)>& body) {
  CHECK_GE(size, 1);
  const auto world = std::make_shared<LocalWorld>();
  const std::shared_ptr<LocalGroup> group = LocalGroup::New(world, "world", size);
  std::mutex mutex;
  std::exception_ptr first_error;

  std::vector<int> world_ranks(size);
  std::iota(world_ranks.begin(), world_ranks.end(), 0);

  const auto run_rank = [&](int rank) {
    omp_set_num_threads(1);
    LocalCommunicator communicator(rank, "world", group, world_ranks,
                                   std::make_shared<FlightRecorder>(rank));
    const auto fail = [&](const char* reason) {
      {
        const std::lock_guard<std::mutex> lock(mutex);
        if (!first_error) first_error = std::current_exception();
      }
      // Only now do the others fail, and therefore later.
      communicator.Abort(reason);
    };
    try {
      body(communicator);
    } catch (const std::exception& error) {
      fail(error.what());
    } catch (...) {
      fail("an exception of unknown type");
    }
  };

  {
    std::vector<std::jthread> threads;
    threads.reserve(size);
    try {
      for (int rank = 0; rank < size; ++rank) threads.emplace_back(run_rank, rank);
    } catch (...) {
      world->Abort("the ranks' threads could not be started");
      throw;
    }
  }
  if (first_error) std::rethrow_exception(first_error);
}

}  // namespace cairn
