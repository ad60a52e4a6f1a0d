#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "launcher/commands/arguments.h"
#include "launcher/commands/bench_measure.h"
#include "launcher/commands/bench_subcommands.h"
#include "launcher/commands/ckpt_output.h"
#include "launcher/run_ranks.h"
#include "parallel/agreement.h"
#include "parallel/local_communicator.h"
#include "parallel/mpi_communicator.h"
#include "runtime/tensor/elementwise.h"

namespace cairn {
namespace {

constexpr int64_t kSmallest = int64_t{1} << 10;
constexpr int64_t kLargest = int64_t{64} << 20;

struct CollectiveArguments {
  int64_t smallest = kSmallest;
  int64_t largest = kLargest;
  int repeat = 10;
  int ranks = 2;  // where no launcher started some
  bool json = false;
};

// Seconds of each verb on tensors of one size.
struct CollectiveRow {
  int64_t bytes;
  std::vector<double> seconds;
};

constexpr const char* kVerbs[] = {"AllReduce", "AllGather", "ReduceScatter", "AllToAll"};

// Median seconds of one call. Short ones are made several at a time, so that clock and barrier do
// not count.
double MeasureVerb(Communicator& world, int64_t bytes, int repeat,
                   const std::function<void()>& call) {
  constexpr int64_t kAtATime = int64_t{256} << 10;
  constexpr int64_t kMostCalls = 64;
  const int64_t calls = std::clamp<int64_t>(kAtATime / bytes, 1, kMostCalls);
  return MedianSeconds(repeat,
                       [&] {
                         world.Barrier();
                         for (int64_t i = 0; i < calls; ++i) call();
                       }) /
         static_cast<double>(calls);
}

// On rank 0: a row for each size, four times the one before.
std::vector<CollectiveRow> MeasureAll(Communicator& world, const CollectiveArguments& arguments) {
  const std::unique_ptr<Device> device = NewCpuDevice();
  Stream& stream = device->compute_stream();
  std::vector<CollectiveRow> rows;
  for (int64_t size = arguments.smallest; size <= arguments.largest; size *= 4) {
    // A whole number of elements for each rank.
    const int64_t part = std::max<int64_t>(1, size / 4 / world.size());
    const Tensor whole = Tensor::Zeros({part * world.size()}, DType::kFloat32, *device);
    const Tensor other = Tensor::Zeros(whole.shape(), DType::kFloat32, *device);
    const Tensor own = other.Narrow(0, 0, part);
    CollectiveRow row{size, {}};
    const auto measure = [&](const std::function<void()>& call) {
      row.seconds.push_back(MeasureVerb(world, size, arguments.repeat, call));
    };
    measure([&] { world.AllReduce(whole, ReduceOp::kSum, stream); });
    measure([&] { world.AllGather(whole, own, stream); });
    measure([&] { world.ReduceScatter(own, whole, stream); });
    measure([&] { world.AllToAll(other, whole, stream); });
    rows.push_back(std::move(row));
  }
  return rows;
}

void Print(const CollectiveArguments& arguments, const char* communicator, int ranks,
           const std::vector<CollectiveRow>& rows) {
  if (arguments.json) {
    Json all = Json::array();
    for (const CollectiveRow& row : rows) {
      for (size_t verb = 0; verb < std::size(kVerbs); ++verb) {
        all.push_back({{"communicator", communicator},
                       {"ranks", ranks},
                       {"verb", kVerbs[verb]},
                       {"bytes", row.bytes},
                       {"microseconds", row.seconds[verb] * 1e6},
                       {"bytes_per_second", static_cast<double>(row.bytes) / row.seconds[verb]}});
      }
    }
    return PrintJson(all);
  }
  PrintText(fmt::format("{} ranks of {}: GB/s of the whole tensor (and microseconds)\n", ranks,
                        communicator));
  std::vector<std::string> heads = {">bytes"};
  for (const char* verb : kVerbs) heads.push_back(fmt::format(">{}", verb));
  Table table(heads);
  for (const CollectiveRow& row : rows) {
    std::vector<Cell> cells = {HumanBytes(static_cast<uint64_t>(row.bytes))};
    for (const double seconds : row.seconds) {
      cells.emplace_back(fmt::format(
          "{:.2f} ({:.0f})", static_cast<double>(row.bytes) / seconds * 1e-9, seconds * 1e6));
    }
    table.AddRow(std::move(cells));
  }
  PrintText(table.Render());
}

int BenchCollective(const CollectiveArguments& arguments, const Program& program) {
  if (!LaunchedByMpi()) {
    std::vector<CollectiveRow> rows;
    RunLocalRanks(arguments.ranks, [&](Communicator& world) {
      std::vector<CollectiveRow> own = MeasureAll(world, arguments);
      if (world.rank() == 0) rows = std::move(own);
    });
    Print(arguments, "threads", arguments.ranks, rows);
    return kExitOk;
  }
  return RunRanks(program, [&](Communicator& world, int) {
    const std::vector<CollectiveRow> rows = MeasureAll(world, arguments);
    RunOnFirst(world, [&] {
      Print(arguments, "mpi", world.size(), rows);
      return std::string();
    });
    return kExitOk;
  });
}

}  // namespace

void AddBenchCollective(CLI::App& bench, const Program& program, int& exit_status) {
  auto arguments = std::make_shared<CollectiveArguments>();
  CLI::App* const command = bench.add_subcommand(
      "collective", "communication, of threads or (under mpirun) of processes");
  const auto add_size = [&](const char* name, int64_t& size, const char* description) {
    command->add_option(name, size, description)
        ->check(InRange<int64_t>(4, int64_t{1} << 32))
        ->type_name("BYTES")
        ->capture_default_str();
  };
  add_size("--min-bytes", arguments->smallest,
           "smallest tensor; each is four times the one before");
  add_size("--max-bytes", arguments->largest, "largest tensor");
  command->add_option("--ranks", arguments->ranks, "threads, where no launcher started ranks")
      ->check(InRange(1, 64))
      ->type_name("N")
      ->capture_default_str();
  command->add_option("--repeat", arguments->repeat, "how often; medians are reported")
      ->check(InRange(1, 100000))
      ->type_name("N")
      ->capture_default_str();
  command->add_flag("--json", arguments->json, "print JSON");
  command->callback(
      [=, &program, &exit_status] { exit_status = BenchCollective(*arguments, program); });
}

}  // namespace cairn
