#include "launcher/commands/bench_measure.h"

#include <algorithm>
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
  std::vector<double> seconds;
  for (int i = 0; i < repeat; ++i) seconds.push_back(SecondsOf(work));
  return Median(std::move(seconds));
}

Tensor NoiseTensor(const Shape& shape, DType dtype, Device& device) {
  const Tensor noise = Tensor::Empty(shape, DType::kFloat32, device);
  std::minstd_rand random(1);
  std::generate_n(noise.data<float>(), noise.numel(), [&] {
    return static_cast<float>(random()) * (2.0f / static_cast<float>(std::minstd_rand::max())) -
           1.0f;
  });
  if (dtype == DType::kFloat32) return noise;
  Tensor converted = Tensor::Empty(shape, dtype, device);
  CopyTo(converted, noise);
  return converted;
}

MatmulRate::MatmulRate(DType dtype)
    : device_(NewCpuDevice()),
      a_(NoiseTensor({kSize, kSize}, dtype, *device_)),
      b_(NoiseTensor({kSize, kSize}, dtype, *device_)),
      c_(a_.EmptyLike()) {
  Measure();  // makes the library compile its kernel
}

double MatmulRate::Measure() {
  const double seconds = SecondsOf([&] { Matmul(c_, a_, b_, {.transpose_b = true}); });
  return 2.0 * kSize * kSize * kSize / seconds;
}

}  // namespace cairn
