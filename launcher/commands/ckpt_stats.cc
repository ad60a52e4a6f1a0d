#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

#include "launcher/commands/ckpt_output.h"
#include "launcher/commands/ckpt_subcommands.h"
#include "runtime/checkpoint/element.h"
#include "runtime/checkpoint/tensor_stats.h"

namespace cairn {
namespace {

constexpr size_t kMaxBars = 12;  // on each side of zero; in all with equal bins
constexpr size_t kBarWidth = 40;

struct StatsOptions : CkptOptions {
  TensorFilter filter;
  std::string histogram;  ///< the scale; empty: log2, and bars only for a single tensor

  HistogramScale Scale() const {
    return histogram == "linear" ? HistogramScale::kLinear : HistogramScale::kLog2;
  }
};

Json StatsJson(const TensorStats& stats, const StatsOptions& options) {
  const auto known = [&](double value) {
    return stats.finite() > 0 ? ValueJson(value) : Json(nullptr);
  };
  return {{"elements", stats.elements},
          {"nans", stats.nans},
          {"infinities", stats.infinities},
          {"zeros", stats.zeros},
          {"min", known(stats.min)},
          {"max", known(stats.max)},
          {"mean", known(stats.mean)},
          {"deviation", known(stats.deviation)},
          {"norm", known(stats.norm)},
          {"histogram",
           {{"scale", options.Scale() == HistogramScale::kLog2 ? "log2" : "linear"},
            {"edges", stats.histogram.edges},
            {"counts", stats.histogram.counts}}}};
}

// The edges between which bars are drawn, as indices: at most kMaxBars of equal bins; of powers of
// two, as many on each side, and one in the middle for the smallest hundredth of all values.
std::vector<size_t> BarEdges(const Histogram& histogram, HistogramScale scale) {
  const size_t bins = histogram.counts.size();
  std::vector<size_t> edges;
  if (scale == HistogramScale::kLinear) {
    const size_t step = (bins + kMaxBars - 1) / kMaxBars;
    for (size_t i = 0; i < bins; i += step) edges.push_back(i);
    edges.push_back(bins);
    return edges;
  }
  uint64_t all = 0;
  for (const uint64_t count : histogram.counts) all += count;
  const size_t middle = bins / 2;
  size_t inner = 0;  // bins on each side that join the middle
  uint64_t joined = 0;
  while (inner < middle) {
    joined += histogram.counts[middle - inner - 1] + histogram.counts[middle + inner + 1];
    if (joined > all / 100) break;
    ++inner;
  }
  const size_t step = std::max<size_t>((middle - inner + kMaxBars - 1) / kMaxBars, 1);
  for (size_t place = middle + inner + 1; place < bins; place += step) edges.push_back(place);
  edges.push_back(bins);
  const std::vector<size_t> upper = edges;
  for (const size_t edge : upper) edges.push_back(bins - edge);
  std::ranges::sort(edges);
  return edges;
}

std::string BarsText(const Histogram& histogram, HistogramScale scale) {
  if (histogram.counts.empty()) return "";
  const std::vector<size_t> edges = BarEdges(histogram, scale);
  std::vector<uint64_t> counts;
  for (size_t i = 0; i + 1 < edges.size(); ++i) {
    uint64_t count = 0;
    for (size_t bin = edges[i]; bin < edges[i + 1]; ++bin) count += histogram.counts[bin];
    counts.push_back(count);
  }
  const uint64_t highest = std::max<uint64_t>(std::ranges::max(counts), 1);
  Table table({">from", ">to", ">count", ""});
  for (size_t i = 0; i < counts.size(); ++i) {
    const double share = static_cast<double>(counts[i]) / static_cast<double>(highest);
    table.AddRow({fmt::format("{:.4g}", histogram.edges[edges[i]]),
                  fmt::format("{:.4g}", histogram.edges[edges[i + 1]]), fmt::to_string(counts[i]),
                  std::string(static_cast<size_t>(std::lround(share * kBarWidth)), '#')});
  }
  return table.Render();
}

std::vector<Cell> StatsRow(const TensorEntry& tensor, const TensorStats& stats) {
  const auto known = [&](double value) {
    return stats.finite() > 0 ? fmt::format("{:.4g}", value) : "-";
  };
  const auto alarming = [](uint64_t count) {
    return Cell(fmt::to_string(count), count > 0 ? Style::kBad : Style::kPlain);
  };
  return {tensor.name,
          tensor.kind,
          tensor.dtype,
          fmt::to_string(stats.elements),
          known(stats.min),
          known(stats.max),
          known(stats.mean),
          known(stats.deviation),
          known(stats.norm),
          alarming(stats.nans),
          alarming(stats.infinities)};
}

void PrintStats(const StatsOptions& options) {
  CheckpointReader reader(ResolveAndReport(options.target));
  std::vector<const TensorEntry*> tensors;
  for (const TensorEntry& tensor : reader.manifest().tensors) {
    if (!options.filter.Matches(tensor)) continue;
    if (IsNumber(tensor.dtype)) {
      tensors.push_back(&tensor);
    } else {
      fmt::print(stderr, "passed over {} ({}): {} has no plain numbers\n", tensor.name, tensor.kind,
                 tensor.dtype);
    }
  }
  const bool with_bars = !options.histogram.empty() || tensors.size() == 1;
  Json json = Json::array();
  Table table({"tensor", "kind", "dtype", ">elements", ">min", ">max", ">mean", ">deviation",
               ">norm", ">nan", ">inf"});
  std::string bars;
  for (const TensorEntry* tensor : tensors) {
    const TensorStats stats = ComputeStats(reader, *tensor, options.Scale());
    if (options.as_json) {
      Json entry = TensorJson(*tensor);
      entry.update(StatsJson(stats, options));
      json.push_back(std::move(entry));
      continue;
    }
    table.AddRow(StatsRow(*tensor, stats));
    if (!with_bars) continue;
    bars += fmt::format("\n{} ({})\n", tensor->name, tensor->kind) +
            BarsText(stats.histogram, options.Scale());
  }
  if (options.as_json) {
    PrintJson(json);
  } else {
    PrintText(table.Render() + bars);
  }
}

}  // namespace

void AddCkptStats(CLI::App& ckpt) {
  const auto [stats, options] =
      AddCkptSubcommand<StatsOptions>(ckpt, "stats", "least, largest, mean, norm, NaNs, histogram");
  AddTensorFilter(*stats, options->filter);
  stats
      ->add_option("--histogram", options->histogram,
                   "show one for each tensor, not only for a single one; linear reads twice")
      ->check(CLI::IsMember({"log2", "linear"}))
      ->type_name("SCALE");
  stats->callback([o = options] { PrintStats(*o); });
}

}  // namespace cairn
