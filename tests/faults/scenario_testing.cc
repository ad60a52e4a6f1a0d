#include "scenario_testing.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <random>

#include "parallel/agreement.h"
#include "parallel/checkpoint.h"
#include "parallel/local_communicator.h"
#include "runtime/checkpoint/commit.h"
#include "runtime/checkpoint/file.h"
#include "runtime/checkpoint/shard_writer.h"
#include "runtime/checkpoint/store.h"

namespace cairn::faults {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kInterval = 10;

Manifest Describe(int64_t iteration) {
  Manifest manifest;
  manifest.iteration = iteration;
  manifest.consumed_samples = 8 * iteration;
  manifest.tokens = 64 * iteration;
  manifest.config_text = "run_dir: \"run\"\n";
  manifest.training_state = {.loss_scale = 65536,
                             .loss_scale_growth_tracker = iteration % 7,
                             .loss_scale_hysteresis = 2,
                             .optimizer_steps = iteration - 1,
                             .skipped_iterations = 1,
                             .seed = 1234};
  return manifest;
}

// The part of a rank of a model of two parameters: rows of a matrix, and a vector that rank 0
// writes.
class State {
 public:
  State(int rank, int ranks, int64_t iteration) {
    matrix_.name = "layers.0.mlp.fc1.weight";
    matrix_.shard = ShardSpec::Split({12, 5}, 0, ranks, rank);
    vector_.name = "final_norm.bias";
    vector_.shard = ShardSpec::Replicated({7});
    for (const char* kind : {"weight", "exp_avg"}) {
      for (const Parameter* parameter : {&matrix_, &vector_}) {
        const int64_t elements = parameter->shard.local_shape.numel();
        pieces_.push_back({parameter, kind, Tensor::Zeros({elements}, DType::kFloat32, *device_), 0,
                           parameter == &matrix_ || rank == 0});
      }
    }
    for (size_t p = 0; p < pieces_.size(); ++p) {
      const Rectangle& held = pieces_[p].parameter->shard.held;
      const int64_t first = held.offset[0] * held.extent.numel() / held.extent[0];
      for (int64_t i = 0; i < pieces_[p].data.numel(); ++i) {
        pieces_[p].data.data<float>()[i] =
            static_cast<float>(iteration * 1000 + static_cast<int64_t>(p) * 100 + first + i) / 3;
      }
    }
  }

  const std::vector<StatePiece>& pieces() const { return pieces_; }

  bool operator==(const State& other) const {
    return std::ranges::equal(pieces_, other.pieces_, [](const auto& a, const auto& b) {
      return std::memcmp(a.data.raw(), b.data.raw(), a.data.bytes()) == 0;
    });
  }

 private:
  std::unique_ptr<Device> device_ = NewCpuDevice();
  Parameter matrix_;
  Parameter vector_;
  std::vector<StatePiece> pieces_;
};

// "" if the checkpoint holds the state of `iteration` to the bit.
std::string Difference(const std::string& directory, int64_t iteration) {
  try {
    CheckpointReader reader(directory);
    Manifest described = reader.manifest();
    described.tensors.clear();
    described.files.clear();
    if (SerializeManifest(described) != SerializeManifest(Describe(iteration))) {
      return "describes another iteration";
    }
    const State loaded(0, 1, -1);
    LoadPieces(reader, loaded.pieces());
    return loaded == State(0, 1, iteration) ? "" : "holds the state of another iteration";
  } catch (const Error& error) {
    return error.what();
  }
}

std::string ReadText(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

// A step folder's file, finished or not.
bool IsKnownFile(std::string name) {
  if (name.ends_with(".part")) name.resize(name.size() - 5);
  if (name == kManifestFile || name == kCommitFile || name == kDamagedFile) return true;
  for (int rank = 0; rank < 8; ++rank) {
    if (name == ShardFileName(rank)) return true;
  }
  return false;
}

void CheckNames(const std::string& run_dir, std::vector<std::string>& problems) {
  const std::string checkpoints = CheckpointsDirectory(run_dir);
  if (!fs::exists(checkpoints)) return;
  for (const auto& entry : fs::directory_iterator(checkpoints)) {
    const std::string name = entry.path().filename();
    if (name == "LATEST" || name == "LATEST.part") continue;
    if (!ParseStepName(name) || !entry.is_directory()) {
      problems.push_back("nobody made " + name);
      continue;
    }
    for (const auto& file : fs::directory_iterator(entry.path())) {
      if (!IsKnownFile(file.path().filename())) {
        problems.push_back("nobody made " + file.path().string());
      }
    }
  }
  if (!fs::exists(checkpoints + "/LATEST")) return;
  const std::string hint = ReadText(checkpoints + "/LATEST");
  if (hint.empty() || hint.back() != '\n' ||
      !fs::exists(checkpoints + "/" + hint.substr(0, hint.size() - 1) + "/COMMIT")) {
    problems.push_back(fmt::format("LATEST leads nowhere: {:?}", hint));
  }
}

std::set<int64_t> StepsWhere(const std::string& run_dir, bool (*holds)(const CheckpointInfo&)) {
  std::set<int64_t> steps;
  for (const CheckpointInfo& info : ListCheckpoints(run_dir)) {
    if (holds(info)) steps.insert(info.iteration);
  }
  return steps;
}

}  // namespace

std::set<int64_t> Scenario::Kept(const std::set<int64_t>& good) const {
  std::set<int64_t> kept;
  int64_t newer = 0;
  for (auto it = good.rbegin(); it != good.rend(); ++it, ++newer) {
    if (keep < 1 || newer < keep || *it == protect) kept.insert(*it);
  }
  return kept;
}

const std::vector<Scenario>& Scenarios() {
  static const std::vector<Scenario> scenarios = {
      {.name = "first save of a run", .ranks = 2, .iteration = 10},
      {.name = "third of a run, two are kept",
       .ranks = 2,
       .committed = {10, 20},
       .iteration = 30,
       .keep = 2},
      {.name = "again what was killed, one is kept",
       .ranks = 3,
       .committed = {20},
       .aborted = {10, 30},
       .iteration = 30,
       .keep = 1},
      {.name = "again what was damaged",
       .ranks = 1,
       .committed = {10},
       .quarantined = {20},
       .iteration = 20,
       .keep = 1},
      {.name = "one kept, one protected, two removed",
       .ranks = 4,
       .committed = {10, 20, 30},
       .iteration = 40,
       .keep = 1,
       .protect = 10},
  };
  return scenarios;
}

Scenario RandomScenario(uint64_t seed) {
  std::mt19937_64 random(seed);
  Scenario scenario;
  scenario.name = fmt::format("random {}", seed);
  scenario.ranks = 1 + static_cast<int>(random() % 4);
  const int64_t steps = static_cast<int64_t>(random() % 5);
  for (int64_t step = 1; step <= steps; ++step) {
    const uint64_t kind = random() % 6;
    auto& list = kind == 0   ? scenario.aborted
                 : kind == 1 ? scenario.quarantined
                             : scenario.committed;
    list.push_back(step * kInterval);
  }
  scenario.iteration = (steps + 1) * kInterval;
  // Sometimes the last attempt again.
  for (const auto* list : {&scenario.aborted, &scenario.quarantined}) {
    if (!list->empty() && list->back() == steps * kInterval && random() % 2 == 0) {
      scenario.iteration = steps * kInterval;
    }
  }
  scenario.keep = static_cast<int64_t>(random() % 4);
  if (!scenario.committed.empty() && random() % 3 == 0) {
    scenario.protect = scenario.committed[random() % scenario.committed.size()];
  }
  return scenario;
}

FolderImage Before(const Scenario& scenario, const Scratch& scratch) {
  WriteFolder(scratch.root(), {});
  int ranks = 0;
  for (const auto* list : {&scenario.committed, &scenario.aborted, &scenario.quarantined}) {
    for (const int64_t iteration : *list) {
      RunLocalRanks(1 + ranks++ % 4,
                    [&](Communicator& world) { Save(world, scratch.run(), iteration); });
    }
  }
  for (const int64_t iteration : scenario.aborted) {
    const std::string directory = StepDirectory(scratch.run(), iteration);
    fs::rename(directory + "/COMMIT", directory + "/COMMIT.part");
  }
  for (const int64_t iteration : scenario.quarantined) {
    QuarantineCheckpoint(StepDirectory(scratch.run(), iteration));
  }
  if (!scenario.committed.empty()) {
    WriteFileAtomically(CheckpointsDirectory(scratch.run()) + "/LATEST",
                        StepName(*std::ranges::max_element(scenario.committed)) + "\n");
  } else {
    RemoveFileQuietly(CheckpointsDirectory(scratch.run()) + "/LATEST");
  }
  return ReadFolder(scratch.root());
}

void Save(Communicator& world, const std::string& run_dir, int64_t iteration) {
  const State state(world.rank(), world.size(), iteration);
  SaveCheckpoint(world, run_dir, Describe(iteration), state.pieces());
}

void Retain(Communicator& world, const std::string& run_dir, const Scenario& scenario) {
  RunOnFirst(world, [&] {
    ApplyRetention(run_dir, {.keep = scenario.keep, .protect_iteration = scenario.protect});
    return std::string();
  });
}

std::set<int64_t> GoodCheckpoints(const std::string& run_dir, std::vector<std::string>& problems) {
  std::set<int64_t> good;
  CheckNames(run_dir, problems);
  for (const CheckpointInfo& info : ListCheckpoints(run_dir)) {
    if (!fs::exists(info.path + "/COMMIT")) continue;
    const std::vector<Damage> damages = VerifyCheckpoint(info.path, VerifyLevel::kFull);
    const std::string problem =
        damages.empty() ? Difference(info.path, info.iteration) : Describe(damages[0]);
    if (problem.empty()) {
      good.insert(info.iteration);
    } else {
      problems.push_back(fmt::format("a false commit: {}: {}", info.path, problem));
    }
  }
  return good;
}

std::set<int64_t> AbortedAttempts(const std::string& run_dir) {
  return StepsWhere(
      run_dir, [](const CheckpointInfo& info) { return info.state == CheckpointState::kAborted; });
}

Scenario Found(const Scenario& scenario, const std::string& run_dir) {
  Scenario found = scenario;
  std::vector<std::string> ignored;
  const std::set<int64_t> good = GoodCheckpoints(run_dir, ignored);
  const std::set<int64_t> aborted = AbortedAttempts(run_dir);
  found.committed.assign(good.begin(), good.end());
  found.aborted.assign(aborted.begin(), aborted.end());
  found.iteration = (good.empty() ? 0 : *good.rbegin()) + kInterval;
  found.removed.clear();
  for (const auto* list : {&scenario.committed, &scenario.aborted, &scenario.removed}) {
    std::ranges::copy_if(*list, std::back_inserter(found.removed), [&](int64_t iteration) {
      return !good.contains(iteration) && iteration != found.iteration;
    });
  }
  return found;
}

void GoOn(const std::string& run_dir, const Scenario& scenario,
          std::vector<std::string>& problems) {
  std::set<int64_t> good = GoodCheckpoints(run_dir, problems);
  const std::optional<std::string> newest = FindNewestGood(run_dir, VerifyLevel::kFull);
  if (newest.has_value() == good.empty() ||
      (newest && newest != StepDirectory(run_dir, *good.rbegin()))) {
    problems.push_back(
        fmt::format("good are [{}], found is {}", fmt::join(good, " "), newest.value_or("none")));
    return;
  }
  const int64_t from = good.empty() ? 0 : *good.rbegin();
  int64_t last = std::max(scenario.iteration, from);
  // Attempts are left alone until a later one is committed.
  for (const int64_t iteration : AbortedAttempts(run_dir)) last = std::max(last, iteration);
  last += kInterval;
  for (int64_t iteration = from + kInterval; iteration <= last; iteration += kInterval) {
    try {
      RunLocalRanks(scenario.ranks, [&](Communicator& world) {
        Save(world, run_dir, iteration);
        Retain(world, run_dir, scenario);
      });
    } catch (const Error& error) {
      problems.push_back(fmt::format("the save of {} after it: {}", iteration, error.what()));
      return;
    }
    good.insert(iteration);
    good = scenario.Kept(good);
  }
  const std::set<int64_t> left = GoodCheckpoints(run_dir, problems);
  if (left != good) {
    problems.push_back(fmt::format("in the end [{}] are good, not [{}]", fmt::join(left, " "),
                                   fmt::join(good, " ")));
  }
  const std::set<int64_t> aborted = AbortedAttempts(run_dir);
  if (!aborted.empty()) {
    problems.push_back(fmt::format("attempts stay: [{}]", fmt::join(aborted, " ")));
  }
}

}  // namespace cairn::faults
