// The comparison of layouts can fail: each fault that it exists to find is put in, and must show.
#include <gtest/gtest.h>

#include "checkpoint_runs_testing.h"
#include "layouts_testing.h"
#include "parallel/local_communicator.h"
#include "runtime/tensor/elementwise.h"

namespace cairn::testing {
namespace {

constexpr int kIterations = 3;
constexpr double kTolerance = 2e-5;

// Passes everything on to another communicator, but for AllReduce, and splits into its like.
class FaultyCommunicator : public Communicator {
 public:
  using AllReduceFault = std::function<void(Communicator& inner, const Tensor&, ReduceOp, Stream&)>;

  FaultyCommunicator(Communicator& inner, std::string faulty_group, AllReduceFault fault)
      : Communicator(inner.rank(), inner.size(), inner.name(), inner.recorder()),
        inner_(&inner),
        faulty_group_(std::move(faulty_group)),
        fault_(std::move(fault)) {}
  FaultyCommunicator(std::unique_ptr<Communicator> inner, std::string faulty_group,
                     AllReduceFault fault)
      : FaultyCommunicator(*inner, std::move(faulty_group), std::move(fault)) {
    owned_ = std::move(inner);
  }

  void AllReduce(const Tensor& tensor, ReduceOp op, Stream& stream) override {
    if (name() == faulty_group_) {
      fault_(*inner_, tensor, op, stream);
    } else {
      inner_->AllReduce(tensor, op, stream);
    }
  }
  void AllGather(const Tensor& output, const Tensor& input, Stream& stream) override {
    inner_->AllGather(output, input, stream);
  }
  void ReduceScatter(const Tensor& output, const Tensor& input, Stream& stream) override {
    inner_->ReduceScatter(output, input, stream);
  }
  void AllToAll(const Tensor& output, const Tensor& input, Stream& stream) override {
    inner_->AllToAll(output, input, stream);
  }
  void Broadcast(const Tensor& tensor, int root, Stream& stream) override {
    inner_->Broadcast(tensor, root, stream);
  }
  void Send(const Tensor& tensor, int peer, Stream& stream) override {
    inner_->Send(tensor, peer, stream);
  }
  void Recv(const Tensor& tensor, int peer, Stream& stream) override {
    inner_->Recv(tensor, peer, stream);
  }
  std::vector<std::string> AllGatherBytes(const std::string& bytes) override {
    return inner_->AllGatherBytes(bytes);
  }
  std::unique_ptr<Communicator> Split(int color, int key, const std::string& name) override {
    std::unique_ptr<Communicator> part = inner_->Split(color, key, name);
    if (part == nullptr) return nullptr;
    return std::make_unique<FaultyCommunicator>(std::move(part), faulty_group_, fault_);
  }
  std::unique_ptr<Communicator> Background(const std::string& name) override {
    return inner_->Background(name);
  }
  void Leave() override { inner_->Leave(); }
  void Abort(const std::string& reason) override { inner_->Abort(reason); }

 private:
  std::unique_ptr<Communicator> owned_;
  Communicator* inner_;
  std::string faulty_group_;
  AllReduceFault fault_;
};

double DeviationWithFault(const Layout& layout, const std::string& group,
                          const FaultyCommunicator::AllReduceFault& fault) {
  const TrainConfig config = LayoutConfig(layout);
  std::vector<Point> points;
  RunLocalRanks(layout.ranks(), [&](Communicator& world) {
    FaultyCommunicator faulty(world, group, fault);
    const std::vector<Point> own = TrainOnRank(config, faulty, kIterations);
    if (world.rank() == 0) points = own;
  });
  return LargestDeviation(points, Train({}, kIterations));
}

void PassOn(Communicator& inner, const Tensor& tensor, ReduceOp op, Stream& stream) {
  inner.AllReduce(tensor, op, stream);
}

TEST(NegativeControlTest, WithoutAFaultTheControlsPass) {
  EXPECT_LE(DeviationWithFault({.pp = 2}, "embedding", PassOn), kTolerance);
  EXPECT_LE(DeviationWithFault({.dp = 2}, "dp", PassOn), kTolerance);
}

TEST(NegativeControlTest, AMissedTiedEmbeddingReductionShows) {
  auto skip = [](Communicator&, const Tensor&, ReduceOp, Stream&) {};
  EXPECT_GT(DeviationWithFault({.pp = 2}, "embedding", skip), kTolerance);
}

TEST(NegativeControlTest, AnUnscaledLossShows) {
  // The mean over each replica's tokens instead of the whole batch's: gradients dp times too large.
  auto unscaled = [](Communicator& inner, const Tensor& tensor, ReduceOp op, Stream& stream) {
    inner.AllReduce(tensor, op, stream);
    stream.Run([=, size = inner.size()] { Scale(tensor, size); });
  };
  EXPECT_GT(DeviationWithFault({.dp = 2}, "dp", unscaled), kTolerance);
}

TEST(NegativeControlTest, AMissedGradientReductionShows) {
  auto skip = [](Communicator&, const Tensor&, ReduceOp, Stream&) {};
  EXPECT_GT(DeviationWithFault({.dp = 2}, "dp", skip), kTolerance);
  EXPECT_GT(DeviationWithFault({.tp = 2}, "tp", skip), kTolerance);
}

// A dropout key that depends on the rank: another seed on the second replica, weights alike.
TEST(NegativeControlTest, AWrongDropoutKeyShows) {
  const Layout layout{.dp = 2};
  std::vector<Point> points;
  RunLocalRanks(layout.ranks(), [&](Communicator& world) {
    Hooks hooks;
    hooks.start = [](TrainEngine& engine, Communicator& group) {
      engine.Initialize();
      for (const StatePiece& piece : engine.State()) {
        group.Broadcast(piece.data, 0, piece.data.device().compute_stream());
      }
      engine.Publish();
    };
    const TrainConfig config = LayoutConfig(layout, 1234 + world.rank());
    const std::vector<Point> own = TrainOnRank(config, world, kIterations, hooks);
    if (world.rank() == 0) points = own;
  });
  EXPECT_GT(LargestDeviation(points, Train({}, kIterations)), kTolerance);
}

// Each saved component in turn is left out: a run that goes on from there is another run.
TEST(NegativeControlTest, AResumeWithoutAComponentShows) {
  constexpr int kBefore = 4;
  constexpr int kAfter = 2;
  const RunFolders runs;
  const Layout layout{.pp = 2, .precision = "fp16"};
  // The scale grows twice before, and small gradients feel it.
  const ModelSize size{.initial_loss_scale = 0x1p12, .loss_scale_window = 2};
  const std::vector<Point> whole = Train(layout, kBefore + kAfter, {}, size);
  const std::vector<Point> rest(whole.begin() + kBefore, whole.end());
  runs.Train(layout, kBefore, "", "saved", size);
  runs.Train(layout, 0, "", "fresh", size);
  EXPECT_EQ(runs.Train(layout, kAfter, "saved", "on", size), rest);
  for (const ComponentFault& fault : ComponentFaults(runs.ContentOf("fresh"))) {
    if (!fault.steers) continue;
    runs.Train(layout, 0, "saved", fault.name, size, fault.sabotage);
    EXPECT_NE(runs.Train(layout, kAfter, fault.name, fault.name + " on", size), rest) << fault.name;
  }
}

}  // namespace
}  // namespace cairn::testing
