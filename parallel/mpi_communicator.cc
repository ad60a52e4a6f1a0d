#include "parallel/mpi_communicator.h"

#include <glog/logging.h>
#include <mpi.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <exception>
#include <functional>
#include <limits>
#include <numeric>
#include <thread>

#include "parallel/host_communicator.h"
#include "parallel/host_memory.h"
#include "parallel/mpi_call.h"
#include "parallel/reduction.h"
#include "parallel/shared_collectives.h"
#include "runtime/base/error.h"

namespace cairn {
namespace {

// Reductions go through the memory in chunks of this many bytes over all ranks: large enough for
// the transport, small enough to stay in the caches and to bound the scratch memory.
constexpr size_t kChunkBytes = size_t{1} << 20;
// Up to this many bytes over all ranks, each gathers everything and sums all of it: one exchange
// instead of two.
constexpr size_t kSmallBytes = size_t{128} << 10;

// From this many bytes of the whole tensor on, ranks of one host use the memory that they share.
constexpr size_t kSharedBytes = size_t{4} << 10;

// Two kinds of point-to-point messages share a communicator.
constexpr int kMessageTag = 0;
constexpr int kPieceTag = 1;

// How long a background group sleeps between two looks at what it waits for: at first, and at most.
constexpr auto kFirstPause = std::chrono::microseconds(50);
constexpr auto kLongestPause = std::chrono::microseconds(5000);

// Messages that peers may not have received yet; keeps their tensors.
class PendingSends {
 public:
  void Add(MPI_Request request, const Tensor& tensor) {
    requests_.push_back(request);
    tensors_.push_back(tensor);
  }

  // Releases what has been received.
  void Collect(const std::string& group) {
    if (requests_.empty()) return;
    const int count = static_cast<int>(requests_.size());
    std::vector<int> done(count);
    int num_done = 0;
    std::vector<MPI_Status> statuses(count);
    CheckMpi(MPI_Testsome(count, requests_.data(), &num_done, done.data(), statuses.data()), "Send",
             group);
    if (num_done == MPI_UNDEFINED || num_done == 0) return;
    std::sort(done.begin(), done.begin() + num_done, std::greater<>());
    for (int i = 0; i < num_done; ++i) {
      requests_.erase(requests_.begin() + done[i]);
      tensors_.erase(tensors_.begin() + done[i]);
    }
  }

  void WaitAll(const std::string& group) {
    WaitForAll(requests_, "Send", group);
    requests_.clear();
    tensors_.clear();
  }

 private:
  std::vector<MPI_Request> requests_;
  std::vector<Tensor> tensors_;
};

// The operands of an AllGatherBytes.
struct BytesExchange {
  std::string own;
  int64_t own_size;
  std::vector<int64_t> sizes;
  std::vector<int> lengths;
  std::vector<int> begins;
  std::string joined;
};

class MpiCommunicator : public HostCommunicator {
 public:
  static std::unique_ptr<Communicator> New(MpiGroup group, const std::string& name,
                                           std::shared_ptr<FlightRecorder> recorder,
                                           bool share_memory, bool background = false) {
    int rank = 0;
    int size = 0;
    CheckMpi(MPI_Comm_set_errhandler(group.get(), MPI_ERRORS_RETURN), "Split", name);
    CheckMpi(MPI_Comm_rank(group.get(), &rank), "Split", name);
    CheckMpi(MPI_Comm_size(group.get(), &size), "Split", name);
    std::vector<int> world_ranks(size);
    const int world_rank = recorder->rank();
    CheckMpi(MPI_Allgather(&world_rank, 1, MPI_INT, world_ranks.data(), 1, MPI_INT, group.get()),
             "Split", name);
    return std::unique_ptr<Communicator>(new MpiCommunicator(
        rank, name, std::move(recorder), world_ranks, std::move(group), share_memory, background));
  }

  ~MpiCommunicator() override {
    // While an error unwinds this rank its peers may never receive; the job is about to be ended.
    if (std::uncaught_exceptions() > 0) return;
    try {
      sends_.WaitAll(name());
    } catch (const Error& error) {
      LOG(ERROR) << error.what();
    }
  }

  std::unique_ptr<Communicator> Split(int color, int key, const std::string& name) override;
  std::unique_ptr<Communicator> Background(const std::string& name) override;
  void Leave() override { left_ = true; }

  void Abort(const std::string& reason) override {
    // Formatted first and written with one call: lines of several ranks do not mix.
    const std::string line =
        fmt::format("cairn: {} error: {}\n", ErrorKindName(ErrorKind::kCommunication), reason);
    std::fputs(line.c_str(), stderr);
    MPI_Abort(MPI_COMM_WORLD, kExitRunFailed);
  }

 protected:
  void AllReduceNow(const Tensor& tensor, ReduceOp op) override;
  void AllGatherNow(const Tensor& output, const Tensor& input) override;
  void ReduceScatterNow(const Tensor& output, const Tensor& input) override;
  void AllToAllNow(const Tensor& output, const Tensor& input) override;
  void BroadcastNow(const Tensor& tensor, int root) override;
  void SendNow(const Tensor& tensor, int peer) override;
  void RecvNow(const Tensor& tensor, int peer) override;
  std::vector<std::string> AllGatherBytesNow(const std::string& bytes) override;

 private:
  MpiCommunicator(int rank, std::string name, std::shared_ptr<FlightRecorder> recorder,
                  const std::vector<int>& world_ranks, MpiGroup group, bool share_memory,
                  bool background)
      : HostCommunicator(rank, static_cast<int>(world_ranks.size()), std::move(name),
                         std::move(recorder), world_ranks),
        group_(std::move(group)),
        share_memory_(share_memory),
        background_(background) {}

  // Runs one blocking MPI call, with its errors and its time.
  template <typename Call>
  void Blocking(const char* verb, Call&& call) {
    const FlightRecorder::Wait wait(*recorder());
    CheckMpi(call(), verb, name());
    sends_.Collect(name());
  }

  // Fills `exchange.joined` and where each rank's part of it is.
  void Gather(BytesExchange& exchange);
  // Waits for a call that was started.
  void Complete(MPI_Request request, const char* verb);

  // out = the reduction of what every rank holds of piece `rank()`. `piece(r)` is where this rank
  // holds its part of piece r, which is `counts(r)` elements long. `out` may be piece(rank()).
  template <typename Piece, typename Counts>
  void ReducePieces(const char* verb, std::byte* out, const Piece& piece, const Counts& counts,
                    DType dtype, ReduceOp op);

  void AllReduceSmall(const Tensor& tensor, ReduceOp op);

  // How ranks of one host exchange tensors of `bytes`; null where they are not, or bytes are few.
  // Made when it is first needed, which all ranks see alike.
  SharedCollectives* Shared(size_t bytes);
  void Progress();

  std::byte* Scratch(size_t bytes) {
    if (scratch_.size() < bytes) scratch_.resize(bytes);
    return scratch_.data();
  }

  MpiGroup group_;
  bool share_memory_;
  bool background_;
  std::atomic<bool> left_ = false;
  PendingSends sends_;
  std::vector<std::byte> scratch_;
  bool sought_shared_ = false;
  std::unique_ptr<HostMemory> host_memory_;
  std::unique_ptr<SharedCollectives> shared_;
};

std::byte* Bytes(const Tensor& tensor) { return static_cast<std::byte*>(tensor.raw()); }

// NOLINTNEXTLINE(performance-no-int-to-ptr): how MPI spells it
const void* InPlace() { return MPI_IN_PLACE; }

// Any call into MPI moves all that is under way, in every communicator.
void MpiCommunicator::Progress() {
  int found = 0;
  CheckMpi(MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, group_.get(), &found, MPI_STATUS_IGNORE),
           "Iprobe", name());
}

SharedCollectives* MpiCommunicator::Shared(size_t bytes) {
  if (!share_memory_ || bytes < kSharedBytes || size() == 1) return nullptr;
  if (!sought_shared_) {
    sought_shared_ = true;
    host_memory_ = HostMemory::New(group_.get(), name(), SharedCollectives::MemoryBytes(size()));
    if (host_memory_) {
      shared_ = std::make_unique<SharedCollectives>(host_memory_->data(), rank(), size(),
                                                    *recorder(), [this] { Progress(); });
    }
  }
  return shared_.get();
}

template <typename Piece, typename Counts>
void MpiCommunicator::ReducePieces(const char* verb, std::byte* out, const Piece& piece,
                                   const Counts& counts, DType dtype, ReduceOp op) {
  const size_t element = DTypeSize(dtype);
  const int64_t count = counts(rank());
  const size_t bytes = count * element;
  std::byte* received = Scratch(size() * bytes);
  std::vector<const void*> sources(size());
  sources[rank()] = piece(rank());
  std::vector<MPI_Request> requests;
  requests.reserve(2 * static_cast<size_t>(size()));
  {
    const FlightRecorder::Wait wait(*recorder());
    // Each rank starts with its right neighbour, so that no rank is everyone's first.
    for (int step = 1; step < size(); ++step) {
      const int from = (rank() - step + size()) % size();
      std::byte* place = received + from * bytes;
      sources[from] = place;
      CheckMpi(MPI_Irecv(place, static_cast<int>(bytes), MPI_BYTE, from, kPieceTag, group_.get(),
                         &requests.emplace_back()),
               verb, name());
    }
    for (int step = 1; step < size(); ++step) {
      const int to = (rank() + step) % size();
      CheckMpi(MPI_Isend(piece(to), static_cast<int>(counts(to) * element), MPI_BYTE, to, kPieceTag,
                         group_.get(), &requests.emplace_back()),
               verb, name());
    }
    WaitForAll(requests, verb, name());
  }
  ReduceInOrder(out, sources, count, dtype, op);
}

void MpiCommunicator::AllReduceSmall(const Tensor& tensor, ReduceOp op) {
  const int bytes = static_cast<int>(tensor.bytes());
  std::byte* all = Scratch(size() * tensor.bytes());
  Blocking("AllReduce", [&] {
    return MPI_Allgather(tensor.raw(), bytes, MPI_BYTE, all, bytes, MPI_BYTE, group_.get());
  });
  std::vector<const void*> sources(size());
  for (int r = 0; r < size(); ++r) sources[r] = all + r * tensor.bytes();
  ReduceInOrder(tensor.raw(), sources, tensor.numel(), tensor.dtype(), op);
}

void MpiCommunicator::AllReduceNow(const Tensor& tensor, ReduceOp op) {
  if (SharedCollectives* shared = Shared(tensor.bytes())) {
    return shared->AllReduce(Bytes(tensor), tensor.numel(), tensor.dtype(), op);
  }
  if (size() * tensor.bytes() <= kSmallBytes) return AllReduceSmall(tensor, op);
  const size_t element = DTypeSize(tensor.dtype());
  const auto chunk = static_cast<int64_t>(kChunkBytes / element);
  std::vector<int> lengths(size());
  std::vector<int> begins(size());
  for (int64_t start = 0; start < tensor.numel(); start += chunk) {
    const int64_t count = std::min(chunk, tensor.numel() - start);
    std::byte* base = Bytes(tensor) + start * element;
    const auto begin = [&](int r) { return count * r / size(); };
    const auto piece = [&](int r) { return base + begin(r) * element; };
    ReducePieces(
        "AllReduce", piece(rank()), piece, [&](int r) { return begin(r + 1) - begin(r); },
        tensor.dtype(), op);
    for (int r = 0; r < size(); ++r) {
      begins[r] = static_cast<int>(begin(r) * element);
      lengths[r] = static_cast<int>(begin(r + 1) * element) - begins[r];
    }
    Blocking("AllReduce", [&] {
      return MPI_Allgatherv(InPlace(), 0, MPI_BYTE, base, lengths.data(), begins.data(), MPI_BYTE,
                            group_.get());
    });
  }
}

void MpiCommunicator::ReduceScatterNow(const Tensor& output, const Tensor& input) {
  if (SharedCollectives* shared = Shared(input.bytes())) {
    return shared->ReduceScatter(Bytes(output), Bytes(input), output.numel(), input.dtype());
  }
  const size_t element = DTypeSize(input.dtype());
  const int64_t chunk = std::max<int64_t>(1, kChunkBytes / (element * size()));
  for (int64_t start = 0; start < output.numel(); start += chunk) {
    const int64_t count = std::min(chunk, output.numel() - start);
    ReducePieces(
        "ReduceScatter", Bytes(output) + start * element,
        [&](int r) { return Bytes(input) + r * output.bytes() + start * element; },
        [&](int) { return count; }, input.dtype(), ReduceOp::kSum);
  }
}

void MpiCommunicator::AllGatherNow(const Tensor& output, const Tensor& input) {
  if (SharedCollectives* shared = Shared(output.bytes())) {
    return shared->AllGather(Bytes(output), Bytes(input), input.bytes());
  }
  const MpiBytes part(input.bytes(), "AllGather", name());
  const bool in_place = input.raw() == Bytes(output) + rank() * input.bytes();
  Blocking("AllGather", [&] {
    return MPI_Allgather(in_place ? InPlace() : input.raw(), part.count(), part.type(),
                         output.raw(), part.count(), part.type(), group_.get());
  });
}

void MpiCommunicator::AllToAllNow(const Tensor& output, const Tensor& input) {
  const MpiBytes part(input.bytes() / size(), "AllToAll", name());
  Blocking("AllToAll", [&] {
    return MPI_Alltoall(input.raw(), part.count(), part.type(), output.raw(), part.count(),
                        part.type(), group_.get());
  });
}

void MpiCommunicator::BroadcastNow(const Tensor& tensor, int root) {
  const MpiBytes whole(tensor.bytes(), "Broadcast", name());
  Blocking("Broadcast", [&] {
    return MPI_Bcast(tensor.raw(), whole.count(), whole.type(), root, group_.get());
  });
}

void MpiCommunicator::SendNow(const Tensor& tensor, int peer) {
  sends_.Collect(name());
  const MpiBytes whole(tensor.bytes(), "Send", name());
  MPI_Request request = MPI_REQUEST_NULL;
  CheckMpi(MPI_Isend(tensor.raw(), whole.count(), whole.type(), peer, kMessageTag, group_.get(),
                     &request),
           "Send", name());
  sends_.Add(request, tensor);
}

void MpiCommunicator::RecvNow(const Tensor& tensor, int peer) {
  const MpiBytes whole(tensor.bytes(), "Recv", name());
  MPI_Status status;
  Blocking("Recv", [&] {
    return MPI_Recv(tensor.raw(), whole.count(), whole.type(), peer, kMessageTag, group_.get(),
                    &status);
  });
  MPI_Count received = 0;
  CheckMpi(MPI_Get_elements_x(&status, MPI_BYTE, &received), "Recv", name());
  if (static_cast<size_t>(received) != tensor.bytes()) {
    Throw(ErrorKind::kCommunication, fmt::format("mpi Recv on {}", name()),
          "rank {} sent {} bytes; rank {} expects {}", peer, received, rank(), tensor.bytes());
  }
}

std::vector<std::string> MpiCommunicator::AllGatherBytesNow(const std::string& bytes) {
  auto exchange = std::make_unique<BytesExchange>();
  exchange->own = bytes;
  try {
    Gather(*exchange);
  } catch (const Error&) {
    // MPI may still write to it, and nobody will hear when it no longer does.
    (void)exchange.release();
    throw;
  }
  std::vector<std::string> all;
  all.reserve(size());
  for (int r = 0; r < size(); ++r) {
    all.push_back(exchange->joined.substr(exchange->begins[r], exchange->lengths[r]));
  }
  return all;
}

void MpiCommunicator::Gather(BytesExchange& exchange) {
  MPI_Request request = MPI_REQUEST_NULL;
  exchange.own_size = static_cast<int64_t>(exchange.own.size());
  exchange.sizes.resize(size());
  constexpr int kSizeBytes = sizeof(int64_t);
  CheckMpi(MPI_Iallgather(&exchange.own_size, kSizeBytes, MPI_BYTE, exchange.sizes.data(),
                          kSizeBytes, MPI_BYTE, group_.get(), &request),
           "AllGatherBytes", name());
  Complete(request, "AllGatherBytes");
  const int64_t total = std::reduce(exchange.sizes.begin(), exchange.sizes.end());
  if (total > std::numeric_limits<int>::max()) {
    Throw(ErrorKind::kCommunication, fmt::format("mpi AllGatherBytes on {}", name()),
          "{} bytes over all ranks do not fit; 2 GiB do", total);
  }
  exchange.lengths.assign(exchange.sizes.begin(), exchange.sizes.end());
  exchange.begins.resize(size());
  std::exclusive_scan(exchange.lengths.begin(), exchange.lengths.end(), exchange.begins.begin(), 0);
  exchange.joined.resize(total);
  CheckMpi(MPI_Iallgatherv(exchange.own.data(), exchange.lengths[rank()], MPI_BYTE,
                           exchange.joined.data(), exchange.lengths.data(), exchange.begins.data(),
                           MPI_BYTE, group_.get(), &request),
           "AllGatherBytes", name());
  Complete(request, "AllGatherBytes");
}

void MpiCommunicator::Complete(MPI_Request request, const char* verb) {
  const FlightRecorder::Wait wait(*recorder());
  if (background_) {
    int done = 0;
    for (auto pause = kFirstPause;; pause = std::min(2 * pause, kLongestPause)) {
      CheckMpi(MPI_Test(&request, &done, MPI_STATUS_IGNORE), verb, name());
      if (done != 0) return;
      if (left_) {
        Throw(ErrorKind::kCommunication, fmt::format("mpi {} on {}", verb, name()),
              "rank {} has left the group", rank());
      }
      std::this_thread::sleep_for(pause);
    }
  }
  CheckMpi(MPI_Wait(&request, MPI_STATUS_IGNORE), verb, name());
  sends_.Collect(name());
}

std::unique_ptr<Communicator> MpiCommunicator::Split(int color, int key, const std::string& name) {
  MPI_Comm part = MPI_COMM_NULL;
  Blocking("Split", [&] {
    return MPI_Comm_split(group_.get(), color < 0 ? MPI_UNDEFINED : color, key, &part);
  });
  if (part == MPI_COMM_NULL) return nullptr;
  return New(MpiGroup(part), name, recorder(), share_memory_);
}

std::unique_ptr<Communicator> MpiCommunicator::Background(const std::string& name) {
  MPI_Comm copy = MPI_COMM_NULL;
  Blocking("Background", [&] { return MPI_Comm_dup(group_.get(), &copy); });
  return New(MpiGroup(copy), name, recorder(), share_memory_, /*background=*/true);
}

}  // namespace

std::unique_ptr<Communicator> MpiSession::World(bool share_memory) {
  MPI_Comm world = MPI_COMM_NULL;
  CheckMpi(MPI_Comm_dup(MPI_COMM_WORLD, &world), "Comm_dup", "world");
  return MpiCommunicator::New(MpiGroup(world), "world", std::make_shared<FlightRecorder>(rank()),
                              share_memory);
}

}  // namespace cairn
