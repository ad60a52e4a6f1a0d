#include "launcher/mfu.h"

#include <algorithm>
#include <array>

#include "launcher/factories.h"

namespace cairn {
namespace {

struct Peak {
  std::string_view model;  // a part of the driver's name; the first that fits holds
  double flops_per_second;
};

// NVIDIA's data sheets, dense bf16 and fp16.
constexpr std::array kPeaks = {
    Peak{"H100 PCIe", 756e12}, Peak{"H100 NVL", 835e12}, Peak{"H200 NVL", 835e12},
    Peak{"H100", 989e12},      Peak{"H200", 989e12},     Peak{"GH200", 989e12},
    Peak{"A100", 312e12},      Peak{"GB200", 2500e12},   Peak{"B200", 2250e12},
};

}  // namespace

std::optional<double> PeakFlopsPerSecond(std::string_view model, std::string_view precision) {
  if (precision == "fp32") return std::nullopt;
  const auto* const found = std::ranges::find_if(
      kPeaks, [&](const Peak& peak) { return model.find(peak.model) != std::string_view::npos; });
  if (found == kPeaks.end()) return std::nullopt;
  return found->flops_per_second;
}

std::optional<double> ModelFlopsUtilization(const TrainConfig& config, double tokens_per_second,
                                            int ranks, std::string_view model) {
  const std::optional<double> peak = PeakFlopsPerSecond(model, config.train().precision());
  if (!peak) return std::nullopt;
  return tokens_per_second * ModelFlopsPerToken(config) / (*peak * ranks);
}

std::string GpuModel(const Device& device) {
  return device.kind() == DeviceKind::kCuda ? CudaModelName(device.index()) : "";
}

}  // namespace cairn
