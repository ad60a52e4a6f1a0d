// Run by mpirun: the MPI backend against the reference that the other backends meet, and with the
// argument "fail" the end of a job in which one rank throws.

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>

#include <cstdio>
#include <string_view>
#include <thread>

#include "parallel/checkpoint_saver.h"
#include "parallel/host_memory.h"
#include "parallel/mesh.h"
#include "parallel/mpi_communicator.h"
#include "runtime/base/error.h"
#include "tests/parallel/communicator_testing.h"

namespace cairn {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

MpiSession* session = nullptr;

class MpiCommunicatorTest : public ::testing::Test {
 protected:
  std::unique_ptr<Communicator> world_ = session->World();
};

// In memory that the ranks share, and by messages, as between hosts.
class TransportTest : public ::testing::TestWithParam<bool> {
 protected:
  std::unique_ptr<Communicator> world_ = session->World(GetParam());
};

TEST_P(TransportTest, EveryVerbEqualsTheSerialReference) {
  const std::unique_ptr<Stream> stream = NewInlineStream();
  for (const DType dtype : testing::kAllDTypes) {
    for (const int64_t n : {0, 1, 5, 2051}) testing::CheckEveryVerb(*world_, *stream, dtype, n);
  }
}

TEST_P(TransportTest, ReductionsOfSeveralChunks) {
  const std::unique_ptr<Stream> stream = NewInlineStream();
  testing::CheckEveryVerb(*world_, *stream, DType::kFloat64, 20'001);  // one, not gathered whole
  testing::CheckEveryVerb(*world_, *stream, DType::kFloat32, 300'007);
  testing::CheckEveryVerb(*world_, *stream, DType::kBFloat16, 600'011);
}

TEST_F(MpiCommunicatorTest, RanksOfOneHostShareMemory) {
  EXPECT_NE(HostMemory::New(MPI_COMM_WORLD, "world", 10'000), nullptr);
}

// A long message needs its sender's help where the receiver cannot read it by itself: rank 0 waits
// in a collective for a rank that waits for rank 0's message.
TEST_P(TransportTest, AMessageArrivesWhileItsSenderWaitsInACollective) {
  if (world_->size() == 1) return;
  const std::unique_ptr<Stream> stream = NewInlineStream();
  const std::unique_ptr<Device> device = NewCpuDevice();
  const std::unique_ptr<Communicator> pair = world_->Split(0, world_->rank(), "pair");
  const Tensor message = Tensor::Zeros({4'000'000}, DType::kFloat32, *device);
  const Tensor sum = Tensor::Zeros({50'000}, DType::kFloat32, *device);
  world_->AllReduce(sum, ReduceOp::kSum,
                    *stream);  // the ranks have met; only now they share memory
  if (world_->rank() == 0) pair->Send(message, world_->size() - 1, *stream);
  if (world_->rank() == world_->size() - 1) pair->Recv(message, 0, *stream);
  world_->AllReduce(sum, ReduceOp::kSum, *stream);
}

TEST_P(TransportTest, OfPartsOfTheWorldAsWell) {
  const std::unique_ptr<Stream> stream = NewInlineStream();
  const std::unique_ptr<Communicator> part = world_->Split(world_->rank() % 2, 0, "part");
  testing::CheckEveryVerb(*part, *stream, DType::kFloat32, 70'001);
}

INSTANTIATE_TEST_SUITE_P(Mpi, TransportTest, ::testing::Bool(),
                         [](const auto& info) { return info.param ? "SharedMemory" : "Messages"; });

TEST_F(MpiCommunicatorTest, TwoCommunicatorsOnTwoStreamsAtOnce) {
  const std::unique_ptr<Communicator> other = world_->Split(0, world_->rank(), "other");
  const std::unique_ptr<Device> device = NewCpuDevice();
  const std::unique_ptr<Stream> one = NewWorkerStream("one");
  const std::unique_ptr<Stream> two = NewWorkerStream("two");
  const Tensor a = Tensor::FromHost<float>(std::vector<float>(20'000, 1.0F), {20'000}, *device);
  const Tensor b = Tensor::FromHost<float>(std::vector<float>(20'000, 1.0F), {20'000}, *device);
  for (int i = 0; i < 5; ++i) {
    world_->AllReduce(a, ReduceOp::kSum, *one);
    other->AllReduce(b, ReduceOp::kSum, *two);
  }
  one->Synchronize();
  two->Synchronize();
  float expected = 1;
  for (int i = 0; i < 5; ++i) expected *= static_cast<float>(world_->size());
  EXPECT_EQ(a.ToHost<float>(), std::vector<float>(20'000, expected));
  EXPECT_EQ(b.ToHost<float>(), std::vector<float>(20'000, expected));
}

TEST_F(MpiCommunicatorTest, BytesOfAnySize) {
  const std::vector<std::string> all = world_->AllGatherBytes(std::string(world_->rank(), 'x'));
  ASSERT_EQ(static_cast<int>(all.size()), world_->size());
  for (int r = 0; r < world_->size(); ++r) EXPECT_EQ(all[r], std::string(r, 'x'));
  world_->Barrier();
}

TEST_F(MpiCommunicatorTest, SplitOrdersByKey) {
  const std::unique_ptr<Communicator> nobody = world_->Split(-1, 0, "nobody");
  EXPECT_EQ(nobody, nullptr);
  const std::unique_ptr<Communicator> backwards = world_->Split(0, -world_->rank(), "backwards");
  EXPECT_EQ(backwards->rank(), world_->size() - 1 - world_->rank());
  EXPECT_EQ(backwards->recorder(), world_->recorder());
  const std::unique_ptr<Stream> stream = NewInlineStream();
  testing::CheckEveryVerb(*backwards, *stream, DType::kFloat32, 77);
}

TEST_F(MpiCommunicatorTest, ABackgroundGroupTalksBesideTheWorld) {
  const std::unique_ptr<Communicator> background = world_->Background("background");
  EXPECT_EQ(background->size(), world_->size());
  std::jthread talker([&] {
    for (int round = 0; round < 20; ++round) {
      const std::string own(world_->rank() + round, 'x');
      const std::vector<std::string> all = background->AllGatherBytes(own);
      for (int r = 0; r < world_->size(); ++r) EXPECT_EQ(all[r], std::string(r + round, 'x'));
    }
  });
  const std::unique_ptr<Stream> stream = NewInlineStream();
  testing::CheckEveryVerb(*world_, *stream, DType::kFloat32, 2051);
}

TEST_F(MpiCommunicatorTest, ManyLargeMessagesBeforeAnyIsReceived) {
  if (world_->size() == 1) return;
  const std::unique_ptr<Device> device = NewCpuDevice();
  Stream& stream = device->compute_stream();
  const int right = (world_->rank() + 1) % world_->size();
  const int left = (world_->rank() + world_->size() - 1) % world_->size();
  constexpr int64_t kElements = 100'000;  // beyond any eager limit
  for (int i = 0; i < 8; ++i) {
    // The tensor goes out of scope; the communicator holds it.
    const std::vector<float> values(kElements, static_cast<float>(10 * world_->rank() + i));
    world_->Send(Tensor::FromHost<float>(values, {kElements}, *device), right, stream);
  }
  const Tensor got = Tensor::Zeros({kElements}, DType::kFloat32, *device);
  for (int i = 0; i < 8; ++i) {
    world_->Recv(got, left, stream);
    EXPECT_EQ(got.ToHost<float>(),
              std::vector<float>(kElements, static_cast<float>(10 * left + i)));
  }
  world_->Barrier();
  world_.reset();  // before the device of the tensors it may still hold
}

TEST_F(MpiCommunicatorTest, AMessageOfAnotherSizeIsAnError) {
  if (world_->size() == 1) return;
  const std::unique_ptr<Device> device = NewCpuDevice();
  Stream& stream = device->compute_stream();
  const Tensor four = Tensor::Zeros({4}, DType::kFloat32, *device);
  for (const int64_t expected : {3, 5}) {
    if (world_->rank() == 0) world_->Send(four, 1, stream);
    if (world_->rank() == 1) {
      try {
        world_->Recv(Tensor::Zeros({expected}, DType::kFloat32, *device), 0, stream);
        ADD_FAILURE() << "16 bytes were received as " << expected * 4;
      } catch (const Error& error) {
        EXPECT_EQ(error.kind(), ErrorKind::kCommunication);
        EXPECT_THAT(error.what(), HasSubstr("mpi Recv on world"));
      }
    }
    world_->Barrier();
  }
  world_.reset();
}

TEST_F(MpiCommunicatorTest, AMeshOfTheWorld) {
  const Mesh mesh(*world_, {.tp = 1, .cp = 1, .dp = 1, .pp = world_->size()});
  EXPECT_EQ(mesh.pp_forward().size(), world_->size());
  EXPECT_EQ(mesh.model().rank(), world_->rank());
  EXPECT_EQ(mesh.tp().size(), 1);
  mesh.pp_backward().Barrier();
}

TEST_F(MpiCommunicatorTest, TheSessionKnowsItsHost) {
  EXPECT_EQ(session->rank(), world_->rank());
  EXPECT_EQ(session->size(), world_->size());
  EXPECT_EQ(session->local_rank(), world_->rank());
  EXPECT_EQ(session->local_size(), world_->size());
  // No rank is bound: all share the cores that each may run on.
  cpu_set_t usable;
  ASSERT_EQ(sched_getaffinity(0, sizeof(usable), &usable), 0);
  EXPECT_NEAR(session->cores() * world_->size(), CPU_COUNT(&usable), 1e-9);
  EXPECT_TRUE(LaunchedByMpi());
  EXPECT_NO_THROW(CheckLaunchedWorld(world_->size()));
}

// A rank that failed a test no longer keeps step with the others: end them all at once.
class AbortOnFailure : public ::testing::EmptyTestEventListener {
  void OnTestPartResult(const ::testing::TestPartResult& result) override {
    if (result.failed()) session->Abort(kExitCheckFailed);
  }
};

int RunTests(int* argc, char** argv) {
  ::testing::InitGoogleTest(argc, argv);
  auto& listeners = ::testing::UnitTest::GetInstance()->listeners();
  if (session->rank() != 0) {
    // One report is enough, but failures must be seen whichever rank they happen on.
    class PrintFailures : public ::testing::EmptyTestEventListener {
      void OnTestPartResult(const ::testing::TestPartResult& result) override {
        if (!result.failed()) return;
        fmt::print(stderr, "rank {}: {}:{}: {}\n", session->rank(), result.file_name(),
                   result.line_number(), result.message());
      }
    };
    delete listeners.Release(listeners.default_result_printer());
    listeners.Append(new PrintFailures);
  }
  listeners.Append(new AbortOnFailure);
  return RUN_ALL_TESTS();
}

// The last rank throws with a message and a checkpoint on their way and groups open; the others
// wait for it, and do not save.
void RunIntoAnError() {
  const std::unique_ptr<Device> device = NewCpuDevice();
  const std::unique_ptr<Communicator> world = session->World();
  const std::unique_ptr<Communicator> part = world->Split(0, world->rank(), "part");
  CheckpointSaver saver(*world, {.run_dir = "never made"});
  if (world->rank() == world->size() - 1) {
    saver.Save({}, {});
    part->Send(Tensor::Zeros({1'000'000}, DType::kFloat32, *device), 0, device->compute_stream());
    Throw(ErrorKind::kData, "sample 12", "damaged");
  }
  part->Barrier();
}

}  // namespace
}  // namespace cairn

int main(int argc, char** argv) {
  cairn::MpiSession session(&argc, &argv);
  cairn::session = &session;
  try {
    if (argc > 1 && std::string_view(argv[1]) == "fail") cairn::RunIntoAnError();
    return cairn::RunTests(&argc, argv);
  } catch (const cairn::Error& error) {
    fmt::print(stderr, "rank {}: {}\n", session.rank(), error.what());
    session.Abort(error.exit_status());
  }
}
