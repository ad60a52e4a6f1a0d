#include <fmt/format.h>

#include <cmath>
#include <cstring>
#include <memory>

#include "jacobian_testing.h"
#include "op_cases_testing.h"

namespace cairn::testing {

double Tolerance(Match match, DType dtype) {
  const auto of = [dtype](double fp32, double bf16, double fp16) {
    return dtype == DType::kBFloat16 ? bf16 : dtype == DType::kFloat16 ? fp16 : fp32;
  };
  switch (match) {
    case Match::kBits:
      return 0;
    case Match::kRounding:
      return of(0x1p-21, 0x1p-7, 0x1p-10);
    case Match::kSum:
      return of(1e-5, 0x1p-7, 0x1p-10);
    case Match::kDoubleSum:
      return 1e-12;
    case Match::kAttention:
      return of(2e-5, 0x1p-6, 0x1p-9);
  }
  return 0;
}

Tensor OnDevice(const Tensor& source, Device& device) {
  Tensor copy = Tensor::Empty(source.shape(), source.dtype(), device);
  Device& mover = device.kind() == DeviceKind::kCuda ? device : source.device();
  source.device().compute_stream().Synchronize();
  mover.Copy(copy.raw(), source.raw(), source.bytes(), mover.compute_stream());
  mover.compute_stream().Synchronize();
  return copy;
}

Tensor OpRun::Input(const Shape& shape, double scale, double shift) {
  return Input(shape, dtype_, scale, shift);
}

Tensor OpRun::Input(const Shape& shape, DType dtype, double scale, double shift) {
  std::vector<float> numbers(shape.numel());
  for (float& number : numbers) {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    const double uniform = static_cast<double>(state_ >> 40) * 0x1p-23 - 1;  // from [-1, 1)
    number = static_cast<float>(uniform * std::sqrt(3.0) * scale + shift);
  }
  const std::unique_ptr<Device> host = NewCpuDevice();
  return OnDevice(Converted(Tensor::FromHost<float>(numbers, shape, *host), dtype), *device_);
}

Tensor OpRun::Tokens(int64_t count, int64_t limit, int64_t ignored) {
  std::vector<int32_t> tokens(count);
  for (int64_t i = 0; i < count; ++i) {
    const bool out = ignored > 0 && i % ignored == ignored - 1;
    tokens[i] = out ? -1 : static_cast<int32_t>(i * i * 7919 % limit);
  }
  return Tensor::FromHost<int32_t>(tokens, {count}, *device_);
}

Tensor OpRun::Output(const Shape& shape, const std::string& what, Match match) {
  return Output(shape, dtype_, what, match);
}

Tensor OpRun::Output(const Shape& shape, DType dtype, const std::string& what, Match match) {
  const std::unique_ptr<Device> host = NewCpuDevice();
  const Tensor unset = Tensor::Empty(shape, dtype, *host);
  std::memset(unset.raw(), 0xff, unset.bytes());
  Tensor output = OnDevice(unset, *device_);
  Changes(output, what, match);
  return output;
}

void OpRun::Changes(const Tensor& tensor, const std::string& what, Match match) {
  outputs_.push_back({what, tensor, Tolerance(match, tensor.dtype())});
}

MainGrad OpRun::Gradient(const Shape& shape, bool exact, const std::string& what) {
  if (!exact) {
    const Tensor sum = Input(shape, DType::kFloat32);
    Changes(sum, what, Match::kSum);
    return MainGrad(sum);
  }
  const Tensor hi = Tensor::Zeros(shape, DType::kFloat64, *device_);
  const Tensor lo = Tensor::Zeros(shape, DType::kFloat64, *device_);
  Changes(hi, what + ", exact", Match::kBits);
  Changes(lo, what + ", exact, low", Match::kBits);
  return MainGrad(hi, lo);
}

std::string Difference(const OpOutput& expected, const OpOutput& actual) {
  const std::unique_ptr<Device> host = NewCpuDevice();
  const Tensor theirs = OnDevice(actual.tensor, *host);
  const Tensor ours = OnDevice(expected.tensor, *host);
  const std::vector<double> values = ToDoubles(theirs);
  const std::vector<double> wanted = ToDoubles(ours);
  if (values.size() != wanted.size()) return expected.what + ": other shapes";
  double square = 0;
  for (const double w : wanted) square += w * w;
  const double rms = std::sqrt(square / static_cast<double>(std::max<size_t>(1, wanted.size())));
  size_t wrong = 0;
  size_t worst = 0;
  double worst_ratio = -1;
  for (size_t i = 0; i < values.size(); ++i) {
    const double error = std::abs(values[i] - wanted[i]);
    // Says no to what is not a number.
    if (error <= expected.tolerance * (std::abs(wanted[i]) + rms)) continue;
    ++wrong;
    const double ratio = std::isnan(error) ? INFINITY : error / (std::abs(wanted[i]) + rms);
    if (ratio <= worst_ratio) continue;
    worst = i;
    worst_ratio = ratio;
  }
  if (wrong > 0) {
    return fmt::format(
        "{}: {} of {} elements are off, most so element {}: {} instead of {}, {:.2g} "
        "where {:.2g} is allowed",
        expected.what, wrong, values.size(), worst, values[worst], wanted[worst], worst_ratio,
        expected.tolerance);
  }
  // Tells -0 from 0.
  if (expected.tolerance == 0 && Bits(theirs) != Bits(ours)) return expected.what + ": other bits";
  return "";
}

}  // namespace cairn::testing
