#include "checkpoint_runs_testing.h"

#include <glog/logging.h>
#include <stdlib.h>

#include <filesystem>
#include <span>

#include "parallel/checkpoint.h"
#include "runtime/checkpoint/store.h"
#include "runtime/tensor/elementwise.h"

namespace cairn::testing {

namespace fs = std::filesystem;

RunFolders::RunFolders() {
  std::error_code ignored;
  const fs::path base =
      fs::is_directory("/dev/shm", ignored) ? "/dev/shm" : fs::temp_directory_path();
  path_ = base / "cairn_runs_XXXXXX";
  CHECK(::mkdtemp(path_.data()) != nullptr);
}

RunFolders::~RunFolders() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

std::vector<Point> RunFolders::Train(const Layout& layout, int iterations, const std::string& from,
                                     const std::string& into, const ModelSize& size,
                                     const Sabotage& sabotage) const {
  Hooks hooks;
  if (!from.empty()) {
    hooks.start = [&](TrainEngine& engine, Communicator&) {
      CheckpointReader reader(ResolveCheckpoint(*this / from));
      engine.Load(reader);
      engine.Publish();
    };
  }
  hooks.end = [&](TrainEngine& engine, Communicator& world) {
    Manifest description = engine.Describe();
    std::vector<StatePiece> pieces = engine.State();
    if (sabotage) sabotage(description, pieces);
    SaveCheckpoint(world, *this / into, description, pieces);
  };
  return testing::Train(layout, iterations, hooks, size);
}

CheckpointContent RunFolders::ContentOf(const std::string& run) const {
  CheckpointReader reader(ResolveCheckpoint(*this / run));
  const Manifest& manifest = reader.manifest();
  CheckpointContent content = {.iteration = manifest.iteration,
                               .consumed_samples = manifest.consumed_samples,
                               .tokens = manifest.tokens,
                               .training_state = manifest.training_state,
                               .tensors = {}};
  for (const TensorEntry& tensor : manifest.tensors) {
    std::string& bytes = content.tensors[tensor.name + "@" + tensor.kind];
    size_t numel = 1;
    for (const int64_t extent : tensor.shape) numel *= static_cast<size_t>(extent);
    bytes.resize(numel * sizeof(float));
    reader.Read(tensor.name, tensor.kind, std::vector<int64_t>(tensor.shape.size(), 0),
                tensor.shape, std::as_writable_bytes(std::span(bytes)));
  }
  return content;
}

void RunFolders::Remove(const std::string& run) const { fs::remove_all(*this / run); }

std::vector<ComponentFault> ComponentFaults(const CheckpointContent& fresh) {
  std::vector<ComponentFault> faults;
  for (const char* kind : {"weight", "exp_avg", "exp_avg_sq"}) {
    faults.push_back({kind, false, true, [kind](Manifest&, std::vector<StatePiece>& pieces) {
                        for (const StatePiece& piece : pieces) {
                          if (piece.kind == kind) FillZero(piece.data);
                        }
                      }});
  }
  const auto scalar = [&](const char* name, bool only_fp16, bool steers, auto forget) {
    faults.push_back(
        {name, only_fp16, steers, [forget](Manifest& m, std::vector<StatePiece>&) { forget(m); }});
  };
  const TrainingState start = fresh.training_state;
  scalar("iteration", false, true, [=](Manifest& m) { m.iteration = fresh.iteration; });
  scalar("consumed samples", false, true,
         [=](Manifest& m) { m.consumed_samples = fresh.consumed_samples; });
  scalar("tokens", false, false, [=](Manifest& m) { m.tokens = fresh.tokens; });
  scalar("optimizer steps", false, true,
         [=](Manifest& m) { m.training_state.optimizer_steps = start.optimizer_steps; });
  scalar("loss scale", true, true,
         [=](Manifest& m) { m.training_state.loss_scale = start.loss_scale; });
  scalar("growth tracker", true, false, [=](Manifest& m) {
    m.training_state.loss_scale_growth_tracker = start.loss_scale_growth_tracker;
  });
  scalar("hysteresis", true, false, [=](Manifest& m) {
    m.training_state.loss_scale_hysteresis = start.loss_scale_hysteresis;
  });
  scalar("skipped iterations", true, false,
         [=](Manifest& m) { m.training_state.skipped_iterations = start.skipped_iterations; });
  scalar("seed", false, false, [](Manifest& m) { m.training_state.seed += 1; });
  return faults;
}

}  // namespace cairn::testing
