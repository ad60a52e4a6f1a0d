#pragma once

#include <functional>
#include <string>
#include <vector>

#include "runtime/autograd/weight.h"
#include "runtime/device/device.h"
#include "runtime/tensor/tensor.h"

// Every op at many shapes, written once for any device: what a GPU computes is held against the
// CPU.
namespace cairn::testing {

/// How far a result may be from the CPU's, relative to the element and the rms of all.
enum class Match : uint8_t {
  kBits,      ///< not at all: additions, products, roots and choices of single elements, exact sums
  kRounding,  ///< elementwise functions; the last bit of each, and a tie that falls to either side
  kSum,       ///< sums in another order, in fp32, rounded once
  kDoubleSum,  ///< sums in another order, in fp64
  kAttention,  ///< as kSum; tensor cores also take probabilities and their gradients rounded
};

/// The tolerance of `match` for results of `dtype`: 0 is every bit.
double Tolerance(Match match, DType dtype);

struct OpOutput {
  std::string what;
  Tensor tensor;
  double tolerance;
};

/// One op on one device: makes operands, which are alike on every device, and keeps results.
class OpRun {
 public:
  OpRun(Device& device, DType dtype) : device_(&device), dtype_(dtype) {}

  Device& device() const { return *device_; }
  DType dtype() const { return dtype_; }
  const std::vector<OpOutput>& outputs() const { return outputs_; }

  /// Numbers of mean `shift` and standard deviation `scale`, evenly spread.
  Tensor Input(const Shape& shape, double scale = 1, double shift = 0);
  Tensor Input(const Shape& shape, DType dtype, double scale = 1, double shift = 0);
  /// int32 from [0, limit), with repetitions; every `ignored`-th is -1 (0: none).
  Tensor Tokens(int64_t count, int64_t limit, int64_t ignored = 0);
  /// Not a number in every element until the op writes it.
  Tensor Output(const Shape& shape, const std::string& what, Match match);
  Tensor Output(const Shape& shape, DType dtype, const std::string& what, Match match);
  /// `tensor`, which the op changes, is a result.
  void Changes(const Tensor& tensor, const std::string& what, Match match);
  /// A gradient sum of `shape`, in fp32 and with something in it, or exact; it is a result.
  MainGrad Gradient(const Shape& shape, bool exact, const std::string& what);

 private:
  Device* device_;
  DType dtype_;
  uint64_t state_ = 1;  // of the operands' numbers
  std::vector<OpOutput> outputs_;
};

struct OpCase {
  std::string op;
  std::string shape;
  std::function<void(OpRun&)> run;
};

std::vector<OpCase> OpCases();

/// `source` on another device, bit by bit.
Tensor OnDevice(const Tensor& source, Device& device);

/// Where `actual` is not as near to `expected` as that one's tolerance asks, and by how much; empty
/// if nowhere. An expected element that is not finite is a difference, too.
std::string Difference(const OpOutput& expected, const OpOutput& actual);

}  // namespace cairn::testing
