#pragma once

#include "parallel/mesh.h"
#include "parallel/parameter_buffers.h"

namespace cairn {

/// Compares, by digest, the weights that several ranks must hold alike to the bit: replicas over
/// dp, parameters that tp does not cut, the tied embedding at both ends of the pipeline. A bit that
/// flipped in one of them would train on unseen. Collective over the mesh's world. On a difference
/// every rank throws CollectiveError(kDevice), which names the tensor and the rank that stands
/// alone, or all ranks where no majority tells which one is right.
void CheckReplicas(const Mesh& mesh, const ParameterBuffers& buffers);

}  // namespace cairn
