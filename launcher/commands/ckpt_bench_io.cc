#include <fmt/format.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <functional>
#include <memory>
#include <random>
#include <span>

#include "launcher/commands/arguments.h"
#include "launcher/commands/bench_measure.h"
#include "launcher/commands/ckpt_output.h"
#include "launcher/commands/ckpt_rewrite.h"
#include "runtime/base/error.h"
#include "runtime/checkpoint/checkpoint_reader.h"
#include "runtime/checkpoint/commit.h"
#include "runtime/checkpoint/digest.h"
#include "runtime/checkpoint/file.h"
#include "runtime/checkpoint/shard_writer.h"
#include "runtime/checkpoint/verify.h"

namespace cairn {
namespace {

// Tensors of a usual size, all of the same bytes: little memory, whatever is written.
constexpr uint64_t kTensorBytes = uint64_t{64} << 20;

// A folder of its own in the folder that is measured, which goes with all it holds.
class ScratchFolder {
 public:
  explicit ScratchFolder(const std::string& directory)
      : path_(JoinPath(directory, "cairn-bench-io-XXXXXX")) {
    if (::mkdtemp(path_.data()) == nullptr) ThrowErrno(errno, "mkdtemp", path_);
  }
  ~ScratchFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;

  std::string operator/(std::string_view name) const { return JoinPath(path_, name); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

std::vector<std::byte> NoiseBytes(uint64_t count) {
  std::vector<std::byte> bytes(count);
  std::mt19937_64 random(1);
  std::ranges::generate(bytes, [&] { return static_cast<std::byte>(random()); });
  return bytes;
}

// The same bytes by plain calls and by the ways of a checkpoint, in turn, so that whatever else the
// disk does meets both alike. What one wrote is gone before the other begins: it gets the same
// blocks, for a second file beside the first can be much slower.
class Benchmark {
 public:
  Benchmark(const std::string& directory, uint64_t bytes)
      : folder_(directory), bytes_(bytes), noise_(NoiseBytes(std::min(bytes, kTensorBytes))) {}

  void RunOnce() {
    const bool plain_first = save_.size() % 2 == 0;
    if (plain_first) RunPlain();
    RunCheckpoint();
    if (!plain_first) RunPlain();
  }

  double Rate(const std::vector<double>& seconds) const {
    return static_cast<double>(bytes_) / Median(seconds);
  }

  Json ToJson() const {
    return {{"bytes", bytes_},
            {"rounds", save_.size()},
            {"plain_write_bytes_per_second", Rate(plain_write_)},
            {"save_bytes_per_second", Rate(save_)},
            {"save_to_plain_write", Rate(save_) / Rate(plain_write_)},
            {"plain_read_bytes_per_second", Rate(plain_read_)},
            {"load_bytes_per_second", Rate(load_)},
            {"load_to_plain_read", Rate(load_) / Rate(plain_read_)},
            {"verify_bytes_per_second", Rate(verify_)},
            {"verify_to_plain_read", Rate(verify_) / Rate(plain_read_)}};
  }

  std::string ToText() const {
    Table table({"", ">GB/s", ">of plain"});
    const auto row = [&](const char* name, const std::vector<double>& own,
                         const std::vector<double>& plain) {
      table.AddRow({name, fmt::format("{:.2f}", Rate(own) / 1e9),
                    fmt::format("{:.0f}%", 100 * Rate(own) / Rate(plain))});
    };
    row("plain write, fsync", plain_write_, plain_write_);
    row("save: hash, write, fsync", save_, plain_write_);
    row("plain read", plain_read_, plain_read_);
    row("load: read, check", load_, plain_read_);
    row("verify", verify_, plain_read_);
    return table.Render();
  }

 private:
  void RunPlain() {
    plain_write_.push_back(SecondsOf([&] { PlainWrite(); }));
    Forget(folder_ / "plain");
    plain_read_.push_back(SecondsOf([&] { PlainRead(); }));
    Remove("plain");
  }

  void RunCheckpoint() {
    MakeDirectories(folder_ / "checkpoint");
    ShardResult shard;
    save_.push_back(SecondsOf([&] { shard = Save(); }));
    Manifest manifest;
    MergeShards({shard}, manifest);
    WriteCommit(folder_ / "checkpoint", manifest);
    const std::string shard_path = folder_ / "checkpoint/" + shard.file.name;
    Forget(shard_path);
    load_.push_back(SecondsOf([&] { Load(); }));
    Forget(shard_path);
    verify_.push_back(SecondsOf([&] { Verify(); }));
    Remove("checkpoint");
  }

  // Calls `visit` with the size of each tensor.
  void ForEachTensor(const std::function<void(uint64_t)>& visit) const {
    for (uint64_t begin = 0; begin < bytes_; begin += kTensorBytes) {
      visit(std::min(kTensorBytes, bytes_ - begin));
    }
  }

  static void Forget(const std::string& path) { File::OpenForRead(path).DropCache(); }

  void Remove(const char* name) const {
    std::filesystem::remove_all(folder_ / name);
    ::sync();  // until then the blocks are not free
  }

  void PlainWrite() const {
    File file = File::Create(folder_ / "plain");
    ForEachTensor([&](uint64_t size) { file.Write(std::span(noise_).first(size)); });
    file.Sync();
    file.Close();
  }

  ShardResult Save() const {
    ShardWriter writer(folder_ / "checkpoint", ShardFileName(0));
    int64_t index = 0;
    ForEachTensor([&](uint64_t size) {
      const auto extent = static_cast<int64_t>(size);
      writer.Add({fmt::format("t{}", index++),
                  kWeightKind,
                  "U8",
                  {extent},
                  {0},
                  {extent},
                  std::span(noise_).first(size)});
    });
    return writer.Write();
  }

  void PlainRead() {
    const File file = File::OpenForRead(folder_ / "plain");
    uint64_t begin = 0;
    ForEachTensor([&](uint64_t size) {
      loaded_.resize(size);
      file.ReadAt(begin, loaded_);
      begin += size;
    });
  }

  void Load() {
    CheckpointReader reader(folder_ / "checkpoint");
    for (const TensorEntry& tensor : reader.manifest().tensors) {
      loaded_.resize(static_cast<size_t>(tensor.shape[0]));
      reader.Read(tensor.name, tensor.kind, std::vector<int64_t>{0}, tensor.shape, loaded_);
    }
  }

  void Verify() const {
    const std::vector<Damage> damages =
        VerifyCheckpoint(folder_ / "checkpoint", VerifyLevel::kFull);
    if (!damages.empty()) {
      throw Error(ErrorKind::kCheckpoint, folder_.path(), Describe(damages.front()));
    }
  }

  ScratchFolder folder_;
  uint64_t bytes_;
  std::vector<std::byte> noise_;
  std::vector<std::byte> loaded_;
  std::vector<double> plain_write_;
  std::vector<double> save_;
  std::vector<double> plain_read_;
  std::vector<double> load_;
  std::vector<double> verify_;
};

struct BenchArguments {
  std::string directory;
  uint64_t size = uint64_t{512} << 20;
  int rounds = 5;
  bool as_json = false;
};

void Run(const BenchArguments& arguments) {
  if (arguments.size == 0) Throw(ErrorKind::kUsage, "--size", "0 bytes take no time");
  Benchmark benchmark(arguments.directory, arguments.size);
  for (int round = 0; round < arguments.rounds; ++round) benchmark.RunOnce();
  if (arguments.as_json) {
    PrintJson(benchmark.ToJson());
  } else {
    PrintText(benchmark.ToText());
  }
}

}  // namespace

void AddBenchIo(CLI::App& ckpt) {
  auto arguments = std::make_shared<BenchArguments>();
  CLI::App* const command =
      ckpt.add_subcommand("bench-io", "measure saving and loading against the disk's own speed");
  command->add_option("DIR", arguments->directory, "a folder on the disk to measure")
      ->required()
      ->check(CLI::ExistingDirectory)
      ->type_name("");
  command->add_option("--size", arguments->size, "bytes to write and read (default: 512MiB)")
      ->transform(CLI::AsSizeValue(true).description(""))
      ->type_name("BYTES");
  command->add_option("--rounds", arguments->rounds, "how often; medians are reported")
      ->check(InRange(1, 1000))
      ->capture_default_str()
      ->type_name("N");
  command->add_flag("--json", arguments->as_json, "print JSON");
  command->callback([arguments] { Run(*arguments); });
}

}  // namespace cairn
