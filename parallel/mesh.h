#pragma once

#include <memory>
#include <string>
#include <vector>

#include "parallel/communicator.h"
#include "parallel/meta_communicator.h"

namespace cairn {

/// Sizes of the axes of the device mesh. rank = tp + tp_size * (cp + cp_size * (dp + dp_size *
/// pp)): tp neighbours are neighbours of a host. (Expert parallelism splits dp; its size must be 1
/// for now.)
struct MeshShape {
  int tp = 1;
  int cp = 1;
  int dp = 1;
  int pp = 1;

  int world() const { return tp * cp * dp * pp; }
  std::string ToString() const;  ///< "tp 2 × dp 1 × pp 2"
};

/// Where a rank stands on each axis.
struct MeshCoordinate {
  int tp = 0;
  int cp = 0;
  int dp = 0;
  int pp = 0;
};

MeshCoordinate CoordinateOf(const MeshShape& shape, int rank);
int RankOf(const MeshShape& shape, const MeshCoordinate& coordinate);

/// The groups a rank communicates in. Owns the communicators split from the world.
class Mesh {
 public:
  /// Collective over `world`, whose size must be shape.world().
  Mesh(Communicator& world, const MeshShape& shape);
  /// The mesh of `rank` of an imagined world, for the planner.
  static Mesh Meta(int rank, const MeshShape& shape, std::vector<CommRecord>* log);

  const MeshShape& shape() const { return shape_; }
  const MeshCoordinate& coordinate() const { return coordinate_; }
  bool first_stage() const { return coordinate_.pp == 0; }
  bool last_stage() const { return coordinate_.pp == shape_.pp - 1; }

  Communicator& world() const { return *world_; }
  Communicator& tp() const { return *tp_; }
  Communicator& dp() const { return *dp_; }
  /// Activations to the next stage and back; one communicator per direction, so that no order
  /// between the two directions is implied (NCCL would deadlock on one).
  Communicator& pp_forward() const { return *pp_forward_; }
  Communicator& pp_backward() const { return *pp_backward_; }
  /// The tp × pp ranks that together hold one copy of the model.
  Communicator& model() const { return *model_; }
  /// First and last stage of this tp, dp position, which share the tied embedding; nullptr on ranks
  /// in between and when pp is 1.
  Communicator* embedding() const { return embedding_.get(); }

 private:
  Mesh() = default;
  // `make` turns the plan of a group into its communicator, collectively in the same order.
  template <typename MakeGroup>
  void MakeGroups(const MakeGroup& make);

  MeshShape shape_;
  MeshCoordinate coordinate_;
  std::unique_ptr<Communicator> owned_world_;  // of a meta mesh
  Communicator* world_ = nullptr;
  std::unique_ptr<Communicator> tp_;
  std::unique_ptr<Communicator> dp_;
  std::unique_ptr<Communicator> pp_forward_;
  std::unique_ptr<Communicator> pp_backward_;
  std::unique_ptr<Communicator> model_;
  std::unique_ptr<Communicator> embedding_;
};

}  // namespace cairn
