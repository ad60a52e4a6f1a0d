#include "parallel/pipeline/timeline.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

namespace cairn {
namespace {

/// What a reader sees of a kind of action.
struct Look {
  const char* name;
  const char* colour;
};

Look LookOf(ActionKind kind) {
  constexpr Look kLooks[] = {{"forward", "#7aa6da"},
                             {"backward", "#8cc084"},
                             {"backward_input", "#6fc3b8"},
                             {"backward_weight", "#e3b866"}};
  return kLooks[static_cast<int>(kind)];
}

int CountRanks(const std::vector<Timed>& timeline) {
  int ranks = 0;
  for (const Timed& timed : timeline) ranks = std::max(ranks, timed.rank + 1);
  return ranks;
}

}  // namespace

std::string TimelineJson(const std::vector<Timed>& timeline) {
  std::string json = "{\"traceEvents\":[";
  const auto out = std::back_inserter(json);
  for (int rank = 0; rank < CountRanks(timeline); ++rank) {
    fmt::format_to(out,
                   "{}\n{{\"name\":\"thread_name\",\"ph\":\"M\",\"pid\":0,\"tid\":{},"
                   "\"args\":{{\"name\":\"rank {}\"}}}}",
                   rank == 0 ? "" : ",", rank, rank);
  }
  for (const Timed& timed : timeline) {
    fmt::format_to(out,
                   ",\n{{\"name\":\"{}\",\"cat\":\"{}\",\"ph\":\"X\",\"pid\":0,\"tid\":{},"
                   "\"ts\":{},\"dur\":{},\"args\":{{\"microbatch\":{},\"chunk\":{}}}}}",
                   ToString(timed.action), LookOf(timed.action.kind).name, timed.rank, timed.start,
                   timed.end - timed.start, timed.action.microbatch, timed.action.chunk);
  }
  json += "\n]}\n";
  return json;
}

std::string TimelineSvg(const std::vector<Timed>& timeline) {
  // In pixels, for a picture of the width of a screen.
  constexpr double kLabels = 60;
  constexpr double kChart = 1500;
  constexpr double kRow = 22;
  constexpr double kWidthOfDigit = 7;
  constexpr double kPaler = 0.55;

  double makespan = 0;
  for (const Timed& timed : timeline) makespan = std::max(makespan, timed.end);
  const double scale = makespan > 0 ? kChart / makespan : 0;
  const int ranks = CountRanks(timeline);

  std::string svg = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" "
      "font-family=\"sans-serif\" font-size=\"11\">\n",
      kLabels + kChart, kRow * ranks);
  const auto out = std::back_inserter(svg);
  for (int rank = 0; rank < ranks; ++rank) {
    fmt::format_to(out, "<text x=\"4\" y=\"{}\">rank {}</text>\n", kRow * (rank + 0.7), rank);
  }
  for (const Timed& timed : timeline) {
    const double x = kLabels + timed.start * scale;
    const double width = (timed.end - timed.start) * scale;
    const Look look = LookOf(timed.action.kind);
    fmt::format_to(out,
                   "<rect x=\"{:.2f}\" y=\"{}\" width=\"{:.2f}\" height=\"{}\" fill=\"{}\" "
                   "fill-opacity=\"{}\" stroke=\"#fff\" stroke-width=\"0.5\">"
                   "<title>rank {}: {}, {} to {}</title></rect>\n",
                   x, kRow * timed.rank + 1, width, kRow - 2, look.colour,
                   timed.action.chunk == 0 ? 1 : kPaler, timed.rank, ToString(timed.action),
                   timed.start, timed.end);
    const std::string label = fmt::format("{}", timed.action.microbatch);
    if (width < kWidthOfDigit * static_cast<double>(label.size() + 1)) continue;
    fmt::format_to(out, "<text x=\"{:.2f}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n",
                   x + width / 2, kRow * (timed.rank + 0.7), label);
  }
  svg += "</svg>\n";
  return svg;
}

}  // namespace cairn
