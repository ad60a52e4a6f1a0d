// How fast checkpoints are saved and loaded, beside plain files of the same bytes in the same
// folder:
//   [mpirun -n RANKS] bench_parallel_checkpoint FOLDER MIB_PER_RANK [ROUNDS]
// Prints medians over the rounds, in GB/s over all ranks. What is read has been dropped from the
// page cache before, where the kernel lets us.

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
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

void DropCaches(const std::string& folder) {
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file()) File::OpenForRead(entry.path()).DropCache();
  }
}

// GB/s of all ranks together.
double Measure(Communicator& world, uint64_t bytes, const std::function<void()>& work) {
  world.Barrier();
  const Stopwatch watch;
  work();
  world.Barrier();
  return static_cast<double>(bytes) * world.size() / watch.ElapsedSeconds() * 1e-9;
}

double Median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

void Bench(Communicator& world, const std::string& folder, int64_t mebibytes, int rounds) {
  const State state(world, mebibytes);
  const std::string plain = fmt::format("{}/plain-{}", folder, world.rank());
  std::vector<double> write;
  std::vector<double> save;
  std::vector<double> read;
  std::vector<double> load;
  for (int round = 0; round < rounds; ++round) {
    RunOnFirst(world, [&] {
      fs::remove_all(folder);
      MakeDirectories(folder);
      return std::string();
    });
    write.push_back(Measure(world, state.bytes(), [&] { WritePlain(plain, state); }));
    Manifest manifest;
    manifest.iteration = round;
    std::string saved;
    save.push_back(Measure(world, state.bytes(), [&] {
      saved = SaveCheckpoint(world, folder, manifest, state.pieces());
    }));
    RunOnFirst(world, [&] {
      DropCaches(folder);
      return std::string();
    });
    read.push_back(Measure(world, state.bytes(), [&] { ReadPlain(plain, state); }));
    load.push_back(Measure(world, state.bytes(), [&] {
      CheckpointReader reader(saved);
      LoadPieces(reader, state.pieces());
    }));
    if (world.rank() != 0) continue;
    fmt::print("round {}: write+fsync {:.2f}, save {:.2f}; read {:.2f}, load {:.2f} GB/s\n", round,
               write.back(), save.back(), read.back(), load.back());
  }
  if (world.rank() != 0) return;
  fmt::print(
      "{} ranks x {:.2f} GB: save {:.2f} of {:.2f} GB/s ({:.0f}%), load {:.2f} of {:.2f} GB/s "
      "({:.0f}%)\n",
      world.size(), static_cast<double>(state.bytes()) * 1e-9, Median(save), Median(write),
      100 * Median(save) / Median(write), Median(load), Median(read),
      100 * Median(load) / Median(read));
  fs::remove_all(folder);
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
