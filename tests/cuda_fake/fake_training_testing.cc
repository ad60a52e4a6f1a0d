#include "fake_training_testing.h"

#include <gmock/gmock.h>

#include <cmath>

#include "parallel/checkpoint_saver.h"
#include "parallel/device_world.h"
#include "parallel/local_communicator.h"
#include "runtime/base/error.h"

namespace cairn::testing {
namespace {

// Everything of a run that uses the GPU.
std::vector<Point> TrainOnRank(const TrainConfig& config, const FakeRun& run, Communicator& world,
                               Device& device) {
  const Mesh mesh(world, MakeMeshShape(config, world.size()));
  TrainEngine engine(config, mesh, device);
  engine.Initialize();
  engine.Publish();
  std::vector<Point> points;
  const auto read = [&](int64_t index, std::span<int32_t> tokens) {
    ReadTestSample(index, tokens, config.model().vocab_size());
  };
  for (int i = 0; i < run.steps; ++i) {
    run.before_step(world.rank(), i);
    const TrainEngine::StepOutcome outcome = engine.Step(read);
    points.push_back({outcome.lm_loss, outcome.grad_norm});
  }
  engine.CheckReplicatedWeights();
  points.push_back({engine.Evaluate(read, 1), 0});
  if (!run.save_into.empty()) {
    {
      CheckpointSaver saver(world, {.run_dir = run.save_into});
      saver.Save(engine.Describe(), engine.State());
      engine.Step(read);  // beside the save
      const CheckpointSaver::Outcome saved = saver.Collect();
      if (saved.error) throw Error(*saved.error);
    }
    CheckpointReader reader(ResolveCheckpoint(run.save_into));
    engine.Load(reader);
    engine.Publish();
    engine.Step(read);
    engine.Diagnose(read);
  }
  return points;
}

}  // namespace

std::vector<FakeRun> WithEveryOption(const FakeRun& base) {
  std::vector<FakeRun> runs;
  for (const auto change : std::vector<void (*)(FakeRun&)>{
           [](FakeRun& run) { run.layout.zero = true; },
           [](FakeRun& run) { run.layout.sequence_parallel = true; },
           [](FakeRun& run) { run.layout.recompute = "full"; },
           [](FakeRun& run) { run.layout.recompute = "selective"; },
           [](FakeRun& run) { run.layout.deterministic = true; },
           [](FakeRun& run) { run.layout.precision = "bf16"; },
           [](FakeRun& run) { run.layout.precision = "fp16"; },
           [](FakeRun& run) { run.overlap = false; },
           [](FakeRun& run) {
             run.layout.zero = true;
             run.layout.sequence_parallel = true;
             run.layout.recompute = "full";
             run.layout.precision = "bf16";
             run.layout.deterministic = true;
           },
       }) {
    change(runs.emplace_back(base));
  }
  return runs;
}

FakeOutcome RunOnFakes(int ranks, const std::function<void(Communicator& world, Device&)>& body,
                       const fake::Behaviour& behaviour, bool shared_gpu) {
  FakeOutcome outcome;
  fake::Begin(ranks, behaviour);
  try {
    RunLocalRanks(ranks, [&](Communicator& host) {
      const fake::RankScope scope(host.rank());
      const std::unique_ptr<Device> device = NewCudaDevice(shared_gpu ? 0 : host.rank());
      const std::unique_ptr<Communicator> world = NewDeviceWorld(host, *device);
      body(*world, *device);
    });
  } catch (const std::exception& error) {
    outcome.error = error.what();
  }
  outcome.problems = fake::End();
  return outcome;
}

FakeOutcome TrainOnFakes(const FakeRun& run) {
  TrainConfig config = LayoutConfig(run.layout, 1234, run.size);
  config.mutable_parallel()->set_overlap_grad_reduce(run.overlap);
  config.mutable_train()->set_cuda_graphs(run.graphs);
  std::vector<Point> points;
  FakeOutcome outcome = RunOnFakes(
      run.layout.ranks(),
      [&](Communicator& world, Device& device) {
        std::vector<Point> own = TrainOnRank(config, run, world, device);
        if (world.rank() == 0) points = std::move(own);
      },
      run.behaviour, run.shared_gpu);
  outcome.points = std::move(points);
  return outcome;
}

void ExpectClean(const FakeRun& run) {
  SCOPED_TRACE(run.layout.Name() + (run.overlap ? "" : " no overlap"));
  const FakeOutcome outcome = TrainOnFakes(run);
  EXPECT_THAT(outcome.problems, ::testing::IsEmpty());
  EXPECT_EQ(outcome.error, "");
  EXPECT_FALSE(outcome.points.empty());
  for (const Point& point : outcome.points) {
    EXPECT_TRUE(std::isfinite(point.lm_loss) && std::isfinite(point.grad_norm));
  }
}

}  // namespace cairn::testing
