// How fast checkpoints are saved and loaded, beside plain files of the same bytes in the same
// folder:
//   [mpirun -n RANKS] bench_parallel_checkpoint FOLDER MIB_PER_RANK [ROUNDS]
// Prints medians over the rounds, in GB/s over all ranks. A save is all of it, from the first file
// to the commit, with another rank's reading back. Both ways find the disk alike: each writes,
// reads what has been dropped from the page cache, and is removed before the other begins, which
// gets the same blocks; which of them goes first changes from round to round.

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <vector>

#include "parallel/agreement.h"
#include "parallel/checkpoint.h"
#include "parallel/mpi_communicator.h"
#include "runtime/checkpoint/file.h"
#include "runtime/checkpoint/store.h"
#include "runtime/telemetry/stopwatch.h"
#include "runtime/tensor/elementwise.h"

namespace cairn {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kColumns = 1024;
constexpr int64_t kRows = 1024;  // of a matrix on one rank: 4 MiB

// Matrices cut over the ranks, each with its two moments.
class State {
 public:
  State(const Communicator& world, int64_t mebibytes) {
    parameters_.resize(std::max<int64_t>(1, mebibytes / 12));
    for (size_t i = 0; i < parameters_.size(); ++i) {
      Parameter& parameter = parameters_[i];
      parameter.name = fmt::format("layers.{}.weight", i);
      parameter.shard =
          ShardSpec::Split({kRows * world.size(), kColumns}, 0, world.size(), world.rank());
      for (const char* kind : {"weight", "exp_avg", "exp_avg_sq"}) {
        const Tensor data = Tensor::Empty({kRows * kColumns}, DType::kFloat32, *device_);
        Fill(data, static_cast<double>(i + 1));
        pieces_.push_back({&parameter, kind, data, 0, true});
      }
    }
  }
  const std::vector<StatePiece>& pieces() const { return pieces_; }
  uint64_t bytes() const { return pieces_.size() * kRows * kColumns * sizeof(float); }

 private:
  std::unique_ptr<Device> device_ = NewCpuDevice();
  std::vector<Parameter> parameters_;
  std::vector<StatePiece> pieces_;
};

std::span<std::byte> BytesOf(const StatePiece& piece) {
  return {static_cast<std::byte*>(piece.data.raw()), piece.data.bytes()};
}

// As anyone would: write, then fsync.
void WritePlain(const std::string& path, const State& state) {
  const int file = creat(path.c_str(), 0666);
  if (file < 0) ThrowErrno(errno, "creat", path);
  for (const StatePiece& piece : state.pieces()) {
    for (std::span<std::byte> rest = BytesOf(piece); !rest.empty();) {
      const ssize_t written = write(file, rest.data(), rest.size());
      if (written < 0) ThrowErrno(errno, "write", path);
      rest = rest.subspan(static_cast<size_t>(written));
    }
  }
  if (fsync(file) != 0) ThrowErrno(errno, "fsync", path);
  if (close(file) != 0) ThrowErrno(errno, "close", path);
}

void ReadPlain(const std::string& path, const State& state) {
  const int file = open(path.c_str(), O_RDONLY);  // NOLINT(cppcoreguidelines-pro-type-vararg)
  if (file < 0) ThrowErrno(errno, "open", path);
  for (const StatePiece& piece : state.pieces()) {
    for (std::span<std::byte> rest = BytesOf(piece); !rest.empty();) {
      const ssize_t got = read(file, rest.data(), rest.size());
      if (got <= 0) ThrowErrno(errno, "read", path);
      rest = rest.subspan(static_cast<size_t>(got));
    }
  }
  if (close(file) != 0) ThrowErrno(errno, "close", path);
}

// GB/s of all ranks together.
double Measure(Communicator& world, uint64_t bytes, const std::function<void()>& work) {
  world.Barrier();
  const Stopwatch watch;
  work();
  world.Barrier();
  return static_cast<double>(bytes) * world.size() / watch.ElapsedSeconds() * 1e-9;
}

// What rank 0 does for all.
void ForAll(Communicator& world, const std::function<void()>& work) {
  RunOnFirst(world, [&] {
    work();
    return std::string();
  });
}

void DropCaches(const std::string& folder) {
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file()) File::OpenForRead(entry.path()).DropCache();
  }
}

// The figures of one way, one of each round.
struct Rates {
  std::vector<double> written;
  std::vector<double> read;
};

void MeasureWay(Communicator& world, const std::string& folder, uint64_t bytes,
                const std::function<void()>& write, const std::function<void()>& read,
                Rates& rates) {
  ForAll(world, [&] { MakeDirectories(folder); });
  rates.written.push_back(Measure(world, bytes, write));
  ForAll(world, [&] { DropCaches(folder); });
  rates.read.push_back(Measure(world, bytes, read));
  ForAll(world, [&] {
    fs::remove_all(folder);
    ::sync();  // until then the blocks are not free
  });
}

double Quantile(std::vector<double> values, double part) {
  std::ranges::sort(values);
  return values[std::llround(part * static_cast<double>(values.size() - 1))];
}

// Both ways in figures: medians, and between which values the middle half of the rounds lies.
void Print(const char* own_name, const std::vector<double>& own, const char* plain_name,
           const std::vector<double>& plain) {
  const auto text = [](const std::vector<double>& values) {
    return fmt::format("{:.2f} [{:.2f}, {:.2f}]", Quantile(values, 0.5), Quantile(values, 0.25),
                       Quantile(values, 0.75));
  };
  fmt::print("{} {} of {} {} GB/s: {:.0f}%\n", own_name, text(own), plain_name, text(plain),
             100 * Quantile(own, 0.5) / Quantile(plain, 0.5));
}

void Bench(Communicator& world, const std::string& folder, int64_t mebibytes, int rounds) {
  const State state(world, mebibytes);
  const std::string file = fmt::format("{}/plain-{}", folder, world.rank());
  Rates plain;
  Rates checkpoint;
  for (int round = 0; round < rounds; ++round) {
    const auto plain_way = [&] {
      MeasureWay(
          world, folder, state.bytes(), [&] { WritePlain(file, state); },
          [&] { ReadPlain(file, state); }, plain);
    };
    const auto checkpoint_way = [&] {
      std::string saved;
      MeasureWay(
          world, folder, state.bytes(),
          [&] { saved = SaveCheckpoint(world, folder, Manifest(), state.pieces()); },
          [&] {
            CheckpointReader reader(saved);
            LoadPieces(reader, state.pieces());
          },
          checkpoint);
    };
    if (round % 2 == 0) plain_way();
    checkpoint_way();
    if (round % 2 != 0) plain_way();
    if (world.rank() != 0) continue;
    fmt::print("round {}: write+fsync {:.2f}, save {:.2f}; read {:.2f}, load {:.2f} GB/s\n", round,
               plain.written.back(), checkpoint.written.back(), plain.read.back(),
               checkpoint.read.back());
  }
  if (world.rank() != 0) return;
  fmt::print("{} ranks x {:.2f} GB\n", world.size(), static_cast<double>(state.bytes()) * 1e-9);
  Print("save", checkpoint.written, "write+fsync", plain.written);
  Print("load", checkpoint.read, "read", plain.read);
}

}  // namespace
}  // namespace cairn

int main(int argc, char** argv) {
  if (argc < 3) {
    fmt::print(stderr, "usage: {} FOLDER MIB_PER_RANK [ROUNDS]\n", argv[0]);
    return cairn::kExitUsage;
  }
  cairn::MpiSession session(&argc, &argv);
  try {
    const auto world = session.World();
    cairn::Bench(*world, argv[1], std::atoll(argv[2]), argc > 3 ? std::atoi(argv[3]) : 5);
    return 0;
  } catch (const cairn::Error& error) {
    fmt::print(stderr, "rank {}: {}\n", session.rank(), error.what());
    session.Abort(error.exit_status());
  }
}
