#pragma once

#include "parallel/communicator.h"

namespace cairn {

// What every backend asks of the operands of a verb: tensors that break it are mistakes of the
// program, but for those of a device that the backend does not carry: Error(kDevice).

/// Contiguous, and of a device of `kind`.
void CheckOperand(const Communicator& group, const char* verb, const Tensor& tensor,
                  DeviceKind kind);
/// The same of both, which have one dtype, and sizes in the proportion of the parts.
void CheckOperands(const Communicator& group, const char* verb, const Tensor& output,
                   int output_parts, const Tensor& input, int input_parts, DeviceKind kind);
/// Two tensors of as many parts as there are ranks, not the same memory.
void CheckAllToAll(const Communicator& group, const Tensor& output, const Tensor& input,
                   DeviceKind kind);
void CheckPeer(const Communicator& group, const char* verb, int peer);

}  // namespace cairn
