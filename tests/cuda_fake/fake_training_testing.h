#pragma once

#include <functional>
#include <string>
#include <vector>

#include "../launcher/layouts/layouts_testing.h"
#include "fake_gpu.h"

namespace cairn::testing {

/// What a run on fake GPUs does.
struct FakeRun {
  Layout layout;
  int steps = 2;
  bool overlap = true;      ///< parallel.overlap_grad_reduce
  std::string save_into{};  ///< a checkpoint after the last step; empty: none
  fake::Behaviour behaviour{};
  bool shared_gpu = false;  ///< see RunOnFakes
  bool graphs = false;      ///< train.cuda_graphs
  std::function<void(int rank, int step)> before_step = [](int, int) {};
  ModelSize size = {
      .layers = 4, .hidden = 16, .heads = 4, .seq_length = 8, .vocabulary = 61, .global_batch = 8};
};

/// `base`, of several ranks, with each option that changes what GPUs are given, and with many at
/// once.
std::vector<FakeRun> WithEveryOption(const FakeRun& base);

struct FakeOutcome {
  std::vector<std::string> problems;  ///< of the calls
  std::string error;                  ///< that ended the run; empty: none
  std::vector<Point> points;          ///< rank 0's
};

/// Ranks as threads, each with the GPU backend on a fake GPU of its own, that talk by NCCL.
FakeOutcome TrainOnFakes(const FakeRun& run);

/// Nothing is wrong with that, and every number is finite.
void ExpectClean(const FakeRun& run);

/// The same for any body: `body(world, device)` on each rank. `shared_gpu`: all of them have
/// GPU 0, and talk by way of host memory, unless NCCL lets them share it.
FakeOutcome RunOnFakes(int ranks, const std::function<void(Communicator& world, Device&)>& body,
                       const fake::Behaviour& behaviour = {}, bool shared_gpu = false);

}  // namespace cairn::testing
