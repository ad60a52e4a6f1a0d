#include "parallel/mesh.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "parallel/local_communicator.h"
#include "runtime/base/error.h"

namespace cairn {
namespace {

using ::testing::HasSubstr;

const std::vector<MeshShape> kShapes = {
    {.tp = 1, .cp = 1, .dp = 1, .pp = 1}, {.tp = 3, .cp = 1, .dp = 1, .pp = 1},
    {.tp = 1, .cp = 1, .dp = 4, .pp = 1}, {.tp = 1, .cp = 1, .dp = 1, .pp = 3},
    {.tp = 2, .cp = 1, .dp = 2, .pp = 2}, {.tp = 1, .cp = 1, .dp = 3, .pp = 2},
    {.tp = 2, .cp = 1, .dp = 1, .pp = 4}};

TEST(Mesh, CoordinatesAndRanksAreInverse) {
  const MeshShape shape{.tp = 2, .cp = 3, .dp = 4, .pp = 5};
  std::set<int> ranks;
  for (int rank = 0; rank < shape.world(); ++rank) {
    ranks.insert(RankOf(shape, CoordinateOf(shape, rank)));
    EXPECT_EQ(RankOf(shape, CoordinateOf(shape, rank)), rank);
  }
  EXPECT_EQ(static_cast<int>(ranks.size()), 120);
  // tp neighbours are neighbours; then cp, dp, and pp farthest.
  EXPECT_EQ(RankOf(shape, {.tp = 1, .cp = 0, .dp = 0, .pp = 0}), 1);
  EXPECT_EQ(RankOf(shape, {.tp = 0, .cp = 1, .dp = 0, .pp = 0}), 2);
  EXPECT_EQ(RankOf(shape, {.tp = 0, .cp = 0, .dp = 1, .pp = 0}), 6);
  EXPECT_EQ(RankOf(shape, {.tp = 0, .cp = 0, .dp = 0, .pp = 1}), 24);
}

// The world ranks of a group, as its members tell them.
std::vector<int> Members(Communicator& group, const Communicator& world) {
  std::vector<int> members;
  for (const std::string& rank : group.AllGatherBytes(std::to_string(world.rank()))) {
    members.push_back(std::stoi(rank));
  }
  EXPECT_EQ(members[group.rank()], world.rank());
  return members;
}

// The ranks that share with `at` every axis but those of `free`, in rank order.
template <typename Free>
std::vector<int> Expected(const MeshShape& shape, const MeshCoordinate& at, Free&& free) {
  std::vector<int> members;
  for (int rank = 0; rank < shape.world(); ++rank) {
    if (free(CoordinateOf(shape, rank), at)) members.push_back(rank);
  }
  return members;
}

TEST(Mesh, GroupsHoldTheRightRanks) {
  using C = const MeshCoordinate&;
  for (const MeshShape& shape : kShapes) {
    SCOPED_TRACE(shape.ToString());
    RunLocalRanks(shape.world(), [&](Communicator& world) {
      const Mesh mesh(world, shape);
      const MeshCoordinate& at = mesh.coordinate();
      const auto same = [&](auto&& rule) { return Expected(shape, at, rule); };
      EXPECT_EQ(Members(mesh.tp(), world),
                same([](C a, C b) { return a.dp == b.dp && a.pp == b.pp; }));
      EXPECT_EQ(Members(mesh.dp(), world),
                same([](C a, C b) { return a.tp == b.tp && a.pp == b.pp; }));
      const auto stages = same([](C a, C b) { return a.tp == b.tp && a.dp == b.dp; });
      EXPECT_EQ(Members(mesh.pp_forward(), world), stages);
      EXPECT_EQ(Members(mesh.pp_backward(), world), stages);
      EXPECT_EQ(Members(mesh.model(), world), same([](C a, C b) { return a.dp == b.dp; }));
      if (shape.pp > 1 && (mesh.first_stage() || mesh.last_stage())) {
        ASSERT_NE(mesh.embedding(), nullptr);
        EXPECT_EQ(Members(*mesh.embedding(), world),
                  (std::vector<int>{stages.front(), stages.back()}));
      } else {
        EXPECT_EQ(mesh.embedding(), nullptr);
      }
      EXPECT_EQ(mesh.pp_backward().name(), "pp-backward");
    });
  }
}

TEST(Mesh, TheMetaMeshHasTheSameGroups) {
  for (const MeshShape& shape : kShapes) {
    SCOPED_TRACE(shape.ToString());
    RunLocalRanks(shape.world(), [&](Communicator& world) {
      const Mesh real(world, shape);
      std::vector<CommRecord> log;
      const Mesh meta = Mesh::Meta(world.rank(), shape, &log);
      const auto expect_same = [](const Communicator& a, const Communicator& b) {
        EXPECT_EQ(a.rank(), b.rank());
        EXPECT_EQ(a.size(), b.size());
        EXPECT_EQ(a.name(), b.name());
      };
      expect_same(meta.world(), real.world());
      expect_same(meta.tp(), real.tp());
      expect_same(meta.dp(), real.dp());
      expect_same(meta.pp_forward(), real.pp_forward());
      expect_same(meta.pp_backward(), real.pp_backward());
      expect_same(meta.model(), real.model());
      ASSERT_EQ(meta.embedding() == nullptr, real.embedding() == nullptr);
      if (real.embedding() != nullptr) expect_same(*meta.embedding(), *real.embedding());
    });
  }
}

TEST(Mesh, AnImaginedRankOfALargeWorldRecordsItsTraffic) {
  std::vector<CommRecord> log;
  const Mesh mesh = Mesh::Meta(9'999, {.tp = 8, .cp = 1, .dp = 125, .pp = 10}, &log);
  const std::unique_ptr<Device> device = NewMetaDevice();
  const Tensor part = Tensor::Empty({3, 5}, DType::kBFloat16, *device);
  const Tensor whole = Tensor::Empty({24, 5}, DType::kBFloat16, *device);
  Stream& stream = device->compute_stream();
  mesh.tp().AllReduce(part, ReduceOp::kSum, stream);
  mesh.tp().AllReduce(part, ReduceOp::kSum, stream);
  mesh.tp().AllGather(whole, part, stream);
  mesh.tp().ReduceScatter(part, whole, stream);
  mesh.pp_forward().Recv(part, 8, stream);
  ASSERT_EQ(log.size(), 4u);
  EXPECT_EQ(log[0].group, "tp");
  EXPECT_EQ(log[0].verb, "AllReduce");
  EXPECT_EQ(log[0].group_size, 8);
  EXPECT_EQ(log[0].calls, 2);
  EXPECT_EQ(log[0].bytes, 2 * 15 * 2);
  EXPECT_EQ(log[1].bytes, 120 * 2);
  EXPECT_EQ(log[2].bytes, 120 * 2);
  EXPECT_EQ(log[3].group, "pp-forward");
  EXPECT_EQ(mesh.dp().AllGatherBytes("x").size(), 125u);
  EXPECT_THROW(mesh.world().Split(0, 0, "part"), Error);
}

TEST(Mesh, RefusesAWorldOfAnotherSize) {
  RunLocalRanks(3, [](Communicator& world) {
    try {
      const Mesh mesh(world, {.tp = 2, .cp = 1, .dp = 1, .pp = 2});
      FAIL();
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kConfig);
      EXPECT_THAT(error.message(), HasSubstr("tp 2 × dp 1 × pp 2 needs 4 ranks, and there are 3"));
    }
    EXPECT_THROW(Mesh(world, {.tp = 3, .cp = 1, .dp = 0, .pp = 1}), Error);
    EXPECT_THROW(Mesh(world, {.tp = 1, .cp = 3, .dp = 1, .pp = 1}), Error);
  });
}

}  // namespace
}  // namespace cairn
