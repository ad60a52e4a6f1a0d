#include "parallel/replica_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>

#include "parallel/agreement.h"
#include "parallel/local_communicator.h"
#include "runtime/tensor/elementwise.h"

namespace cairn {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// A rank with a parameter that is cut over tp, one that is not, and on the ends of the pipeline a
// tied one.
class Rank {
 public:
  Rank(Communicator& world, const MeshShape& shape, DType dtype)
      : device_(NewCpuDevice()), mesh_(world, shape) {
    const MeshCoordinate& at = mesh_.coordinate();
    if (mesh_.first_stage() || mesh_.last_stage()) Add("tied").tied_across_stages = true;
    Add("matrix").shard = ShardSpec::Split({12, 5}, 0, shape.tp, at.tp);
    Add("bias").tp_replicated = shape.tp > 1;
    ParameterList list;
    for (const auto& parameter : parameters_) list.push_back(parameter.get());
    ParameterBuffers::Options options;
    options.compute_dtype = dtype;
    buffers_ = std::make_unique<ParameterBuffers>(list, *device_, options);
    for (Parameter* parameter : list) Fill(parameter->weight.value, 0.5);
    // Another part on each tp rank.
    Fill(Find("matrix"), 1.0 + at.tp);
  }

  Tensor Find(const std::string& name) const {
    for (const auto& parameter : parameters_) {
      if (parameter->name == name) return parameter->weight.value;
    }
    return {};
  }
  void FlipBit(const std::string& name) const { *static_cast<uint8_t*>(Find(name).raw()) ^= 1; }
  void Check() const { CheckReplicas(mesh_, *buffers_); }

 private:
  Parameter& Add(const char* name) {
    parameters_.push_back(std::make_unique<Parameter>());
    parameters_.back()->name = name;
    parameters_.back()->shard = ShardSpec::Replicated({7});
    return *parameters_.back();
  }

  std::unique_ptr<Device> device_;
  Mesh mesh_;
  std::vector<std::unique_ptr<Parameter>> parameters_;
  std::unique_ptr<ParameterBuffers> buffers_;
};

// What the check says after a bit of `name` flipped on `rank` (negative: on none).
std::string Verdict(const MeshShape& shape, int rank, const std::string& name,
                    DType dtype = DType::kFloat32) {
  std::string said;
  RunLocalRanks(shape.world(), [&](Communicator& world) {
    const Rank own(world, shape, dtype);
    if (world.rank() == rank) own.FlipBit(name);
    try {
      own.Check();
    } catch (const CollectiveError& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kDevice);
      if (world.rank() == 0) said = error.message();
    }
  });
  return said;
}

TEST(ReplicaCheckTest, EqualReplicasPass) {
  for (const MeshShape& shape :
       {MeshShape{}, MeshShape{.dp = 3}, MeshShape{.tp = 2, .dp = 2, .pp = 3}}) {
    EXPECT_EQ(Verdict(shape, -1, ""), "") << shape.ToString();
  }
}

TEST(ReplicaCheckTest, AMajorityTellsWhichRankIsWrong) {
  EXPECT_THAT(Verdict({.dp = 3}, 1, "matrix"),
              HasSubstr("rank 1 holds another \"matrix\" than the other replicas"));
  EXPECT_THAT(Verdict({.tp = 2, .dp = 3, .pp = 2}, 9, "matrix", DType::kBFloat16),
              HasSubstr("rank 9 holds another \"matrix\" than the other replicas"));
  EXPECT_THAT(Verdict({.tp = 3}, 2, "bias"), HasSubstr("rank 2 holds another \"bias\""));
}

TEST(ReplicaCheckTest, WithoutAMajorityAllAreNamed) {
  EXPECT_THAT(Verdict({.dp = 2}, 1, "bias"),
              AllOf(HasSubstr("ranks 0, 1 hold another \"bias\" than each other"),
                    HasSubstr("no majority")));
  EXPECT_THAT(Verdict({.pp = 3}, 2, "tied"), HasSubstr("ranks 0, 2 hold another \"tied\""));
}

TEST(ReplicaCheckTest, PartsThatOnlyOneRankHoldsAreNotCompared) {
  EXPECT_EQ(Verdict({.tp = 3}, 1, "matrix"), "");
  EXPECT_EQ(Verdict({.pp = 2}, 1, "bias"), "");
}

}  // namespace
}  // namespace cairn
