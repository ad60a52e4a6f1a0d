#include "launcher/commands/bench_measure.h"

#include <algorithm>
#include <cmath>
#include <random>

#include "runtime/ops/matmul.h"
#include "runtime/telemetry/stopwatch.h"
#include "runtime/tensor/elementwise.h"

namespace cairn {

double SecondsOf(const std::function<void()>& work) {
  const Stopwatch watch;
  work();
  return watch.ElapsedSeconds();
}

double Median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

double MedianSeconds(int repeat, const std::function<void()>& work) {
  work();
  std::vector<double> seconds(repeat);
  std::ranges::generate(seconds, [&] { return SecondsOf(work); });
  return Median(std::move(seconds));
}

Tensor NoiseTensor(const Shape& shape, DType dtype, Device& device) {
  std::vector<float> numbers(shape.numel());
  std::minstd_rand random(1);
  std::ranges::generate(numbers, [&] {
    return static_cast<float>(random()) * (2.0f / static_cast<float>(std::minstd_rand::max())) -
           1.0f;
  });
  Tensor noise = Tensor::FromHost<float>(numbers, shape, device);
  if (dtype == DType::kFloat32) return noise;
  Tensor converted = Tensor::Empty(shape, dtype, device);
  CopyTo(converted, noise);
  return converted;
}

MatmulRate::MatmulRate(DType dtype, DeviceKind kind, int index)
    : size_(kind == DeviceKind::kCuda ? 8192 : 1536),
      device_(NewDevice(kind, index)),
      a_(NoiseTensor({size_, size_}, dtype, *device_)),
      b_(NoiseTensor({size_, size_}, dtype, *device_)),
      c_(a_.EmptyLike()) {
  Measure();  // makes the library compile its kernel
}

double MatmulRate::Measure() {
  const double seconds = SecondsOf([&] {
    Matmul(c_, a_, b_, {.transpose_b = true});
    device_->compute_stream().Synchronize();
  });
  return 2.0 * std::pow(static_cast<double>(size_), 3) / seconds;
}

}  // namespace cairn
