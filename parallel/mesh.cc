#include "parallel/mesh.h"

#include <glog/logging.h>

#include "parallel/local_communicator.h"
#include "runtime/base/error.h"

namespace cairn {
namespace {

// A group of the mesh as one rank sees it: `color` is the world rank of its first member.
struct GroupPlan {
  const char* name;
  int size;
  int rank;
  int color;  ///< negative: this rank is in no such group
};

struct MeshPlan {
  GroupPlan tp;
  GroupPlan dp;
  GroupPlan pp_forward;
  GroupPlan pp_backward;
  GroupPlan model;
  GroupPlan embedding;
};

MeshPlan PlanGroups(const MeshShape& shape, const MeshCoordinate& at) {
  const auto first = [&](int MeshCoordinate::*axis) {
    MeshCoordinate coordinate = at;
    coordinate.*axis = 0;
    return RankOf(shape, coordinate);
  };
  const int pipeline = first(&MeshCoordinate::pp);
  const bool at_an_end = at.pp == 0 || at.pp == shape.pp - 1;
  return {
      .tp = {"tp", shape.tp, at.tp, first(&MeshCoordinate::tp)},
      .dp = {"dp", shape.dp, at.dp, first(&MeshCoordinate::dp)},
      .pp_forward = {"pp-forward", shape.pp, at.pp, pipeline},
      .pp_backward = {"pp-backward", shape.pp, at.pp, pipeline},
      .model = {"model", shape.tp * shape.pp, at.tp + shape.tp * at.pp,
                RankOf(shape, {.tp = 0, .cp = at.cp, .dp = at.dp, .pp = 0})},
      .embedding = {"embedding", shape.pp > 1 ? 2 : 1, at.pp == 0 ? 0 : 1,
                    at_an_end ? pipeline : -1},
  };
}

void CheckShape(const MeshShape& shape, int world_size) {
  for (const int extent : {shape.tp, shape.cp, shape.dp, shape.pp}) {
    if (extent < 1) {
      Throw(ErrorKind::kConfig, "parallel", "the mesh {} has an empty axis", shape.ToString());
    }
  }
  if (shape.cp != 1) {
    Throw(ErrorKind::kConfig, "parallel.context_parallel_size",
          "context parallelism is not available; {} must be 1", shape.cp);
  }
  if (shape.world() != world_size) {
    Throw(ErrorKind::kConfig, "parallel", "the mesh {} needs {} ranks, and there are {}",
          shape.ToString(), shape.world(), world_size);
  }
}

}  // namespace

std::string MeshShape::ToString() const {
  const std::string context = cp == 1 ? "" : fmt::format("cp {} × ", cp);
  return fmt::format("tp {} × {}dp {} × pp {}", tp, context, dp, pp);
}

MeshCoordinate CoordinateOf(const MeshShape& shape, int rank) {
  CHECK(rank >= 0 && rank < shape.world()) << rank << " of " << shape.ToString();
  MeshCoordinate coordinate;
  coordinate.tp = rank % shape.tp;
  rank /= shape.tp;
  coordinate.cp = rank % shape.cp;
  rank /= shape.cp;
  coordinate.dp = rank % shape.dp;
  coordinate.pp = rank / shape.dp;
  return coordinate;
}

int RankOf(const MeshShape& shape, const MeshCoordinate& coordinate) {
  return coordinate.tp +
         shape.tp * (coordinate.cp + shape.cp * (coordinate.dp + shape.dp * coordinate.pp));
}

template <typename MakeGroup>
void Mesh::MakeGroups(const MakeGroup& make) {
  const MeshPlan plan = PlanGroups(shape_, coordinate_);
  // Every rank sees the same sizes, so none waits in a Split for those that need no group.
  const auto group = [&](const GroupPlan& wanted) {
    return wanted.size == 1 ? NewSingleCommunicator(wanted.name) : make(wanted);
  };
  tp_ = group(plan.tp);
  dp_ = group(plan.dp);
  pp_forward_ = group(plan.pp_forward);
  pp_backward_ = group(plan.pp_backward);
  model_ = group(plan.model);
  if (shape_.pp > 1) embedding_ = group(plan.embedding);
}

Mesh::Mesh(Communicator& world, const MeshShape& shape) : shape_(shape), world_(&world) {
  CheckShape(shape, world.size());
  coordinate_ = CoordinateOf(shape, world.rank());
  MakeGroups([&](const GroupPlan& plan) { return world.Split(plan.color, plan.rank, plan.name); });
}

Mesh Mesh::Meta(int rank, const MeshShape& shape, std::vector<CommRecord>* log) {
  CheckShape(shape, shape.world());
  Mesh mesh;
  mesh.shape_ = shape;
  mesh.coordinate_ = CoordinateOf(shape, rank);
  mesh.owned_world_ = NewMetaCommunicator(rank, shape.world(), log);
  mesh.world_ = mesh.owned_world_.get();
  mesh.MakeGroups([&](const GroupPlan& plan) -> std::unique_ptr<Communicator> {
    if (plan.color < 0) return nullptr;
    return NewMetaGroup(plan.rank, plan.size, plan.name, log);
  });
  return mesh;
}

}  // namespace cairn
