#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "runtime/tensor/tensor.h"

namespace cairn {

double SecondsOf(const std::function<void()>& work);

/// The upper one of the two in the middle of an even number.
double Median(std::vector<double> values);

/// The median of `repeat` runs, after one that is not counted.
double MedianSeconds(int repeat, const std::function<void()>& work);

/// A tensor of numbers from [-1, 1).
Tensor NoiseTensor(const Shape& shape, DType dtype, Device& device);

/// The rate of a large product, in operations a second: what the machine can do at best, and the
/// measure of everything else. Products of other sizes are slower, not faster. Its operands are on
/// a device of their own, so that they are no part of what another one holds.
class MatmulRate {
 public:
  MatmulRate(DType dtype, DeviceKind kind, int index);
  /// Runs one product.
  double Measure();

 private:
  int64_t size_;
  std::unique_ptr<Device> device_;
  Tensor a_;
  Tensor b_;
  Tensor c_;
};

}  // namespace cairn
