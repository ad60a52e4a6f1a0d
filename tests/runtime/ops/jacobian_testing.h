#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "runtime/autograd/tape.h"
#include "runtime/autograd/weight.h"
#include "runtime/device/device.h"
#include "runtime/tensor/tensor.h"

namespace cairn::testing {

/// Normal numbers times `scale`, plus `shift`, rounded to `dtype`; `site` names the sequence.
Tensor RandomTensor(Device& device, const Shape& shape, uint32_t site, double scale = 1.0,
                    double shift = 0.0, DType dtype = DType::kFloat32);
/// The elements of a floating tensor as doubles.
std::vector<double> ToDoubles(const Tensor& tensor);
/// A copy in another floating dtype.
Tensor Converted(const Tensor& tensor, DType dtype);
/// The elements' bytes: equal where every bit is.
std::vector<uint8_t> Bits(const Tensor& tensor);

/// Expects |actual - expected| <= tolerance * (|expected| + rms(expected)) elementwise.
void ExpectClose(const Tensor& actual, std::span<const double> expected, double tolerance,
                 const char* what);

struct JacobianOptions {
  double step = 0x1p-5;     ///< of the five-point stencil, whose error is O(step^4)
  double tolerance = 1e-3;  ///< relative to the derivative, plus the same of their rms
  int64_t max_probes = 64;  ///< elements of each tensor that are perturbed, spread evenly
};

/// `op` applied to inputs; weights are captured.
using TestedOp = std::function<Value(Tape&, std::span<const Value>)>;

/// Expects the gradients of sum(w * op(inputs)), w random, which the tape computes for `inputs` and
/// `weights` (fp32, cpu), to equal finite differences taken in fp64; weights with fp32 and with
/// exact gradient sums. Each weight must become complete once.
void CheckJacobian(const TestedOp& op, std::vector<Tensor> inputs, std::vector<Weight*> weights,
                   const JacobianOptions& options = {});

}  // namespace cairn::testing
