#include "launcher/commands/ckpt_picture.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <vector>

namespace cairn {
namespace {

constexpr size_t kWidth = 64;  // characters that the columns share
constexpr size_t kHeight = 8;  // lines that the rows share
constexpr size_t kMaxCuts = 24;

// One of the two dimensions drawn: where it is cut, and on which line or column each cut stands.
struct Axis {
  std::vector<int64_t> cuts;
  std::vector<size_t> places;

  size_t PlaceOf(int64_t cut) const {
    return places[std::ranges::lower_bound(cuts, cut) - cuts.begin()];
  }
};

// The ends of a tensor's rectangles along one dimension.
std::vector<int64_t> CutsOf(const TensorEntry& tensor, size_t dimension) {
  std::set<int64_t> cuts;
  for (const Chunk& chunk : tensor.chunks) {
    cuts.insert(chunk.offset[dimension]);
    cuts.insert(chunk.offset[dimension] + chunk.extent[dimension]);
  }
  return {cuts.begin(), cuts.end()};
}

// Spreads the cuts to scale over `room` places, each at least `least` from the one before.
Axis Spread(std::vector<int64_t> cuts, size_t room, size_t least) {
  Axis axis = {.cuts = std::move(cuts), .places = {0}};
  const auto whole = static_cast<double>(axis.cuts.back() - axis.cuts.front());
  for (size_t i = 1; i < axis.cuts.size(); ++i) {
    const auto part = static_cast<double>(axis.cuts[i] - axis.cuts[i - 1]);
    const auto share = static_cast<size_t>(part / std::max(whole, 1.0) * static_cast<double>(room));
    axis.places.push_back(axis.places.back() + std::max(share, least));
  }
  return axis;
}

// The two dimensions to draw, rows first; fewer of a tensor that has fewer.
std::vector<size_t> Drawn(const std::vector<std::vector<int64_t>>& cuts) {
  std::vector<size_t> drawn;
  for (size_t d = 0; d < cuts.size(); ++d) {
    if (cuts[d].size() > 2) drawn.push_back(d);
  }
  for (size_t d = cuts.size(); d > 0 && drawn.size() < 2; --d) {
    if (std::ranges::find(drawn, d - 1) == drawn.end()) drawn.push_back(d - 1);
  }
  std::ranges::sort(drawn);
  return drawn;
}

void Draw(std::vector<std::string>& canvas, size_t top, size_t left, size_t bottom, size_t right,
          const std::string& label) {
  for (size_t y = top; y <= bottom; ++y) {
    for (size_t x = left; x <= right; ++x) {
      const bool on_row = y == top || y == bottom;
      const bool on_column = x == left || x == right;
      char& place = canvas[y][x];
      if (on_row && on_column) {
        place = '+';
      } else if (place != '+' && (on_row || on_column)) {
        place = on_row ? '-' : '|';
      }
    }
  }
  canvas[(top + bottom) / 2].replace(left + 2, label.size(), label);
}

// Writes `number` so that it begins at `place`, unless it would touch the one before.
void Label(std::string& line, size_t place, int64_t number) {
  if (!line.empty() && line.size() >= place) return;
  line.resize(place, ' ');
  line += fmt::to_string(number);
}

}  // namespace

std::string PictureOfChunks(const TensorEntry& tensor) {
  std::vector<std::vector<int64_t>> cuts;
  size_t longest_label = 1;
  for (size_t d = 0; d < tensor.shape.size(); ++d) cuts.push_back(CutsOf(tensor, d));
  for (const Chunk& chunk : tensor.chunks) {
    longest_label = std::max(longest_label, fmt::to_string(chunk.file).size());
  }
  const std::vector<size_t> drawn = Drawn(cuts);
  if (drawn.size() > 2) return "";
  for (const size_t d : drawn) {
    if (cuts[d].size() < 2 || cuts[d].size() > kMaxCuts) return "";
  }
  // A vector lies down; a scalar is a point.
  const std::vector<int64_t> point = {0, 1};
  const Axis rows = drawn.size() < 2 ? Spread(point, 2, 2) : Spread(cuts[drawn[0]], kHeight, 2);
  const Axis columns =
      Spread(drawn.empty() ? point : cuts[drawn.back()], kWidth, longest_label + 3);

  std::vector<std::string> canvas(rows.places.back() + 1,
                                  std::string(columns.places.back() + 1, ' '));
  for (const Chunk& chunk : tensor.chunks) {
    const auto begin = [&](size_t d) { return chunk.offset[d]; };
    const auto end = [&](size_t d) { return chunk.offset[d] + chunk.extent[d]; };
    const bool has_rows = drawn.size() == 2;
    const bool has_columns = !drawn.empty();
    Draw(canvas, has_rows ? rows.PlaceOf(begin(drawn[0])) : 0,
         has_columns ? columns.PlaceOf(begin(drawn.back())) : 0,
         has_rows ? rows.PlaceOf(end(drawn[0])) : rows.places.back(),
         has_columns ? columns.PlaceOf(end(drawn.back())) : columns.places.back(),
         fmt::to_string(chunk.file));
  }

  const size_t margin = fmt::to_string(rows.cuts.back()).size();
  std::string head;
  for (size_t i = 0; i < columns.cuts.size(); ++i) {
    Label(head, columns.places[i], columns.cuts[i]);
  }
  std::string text = std::string(margin + 1, ' ') + head + "\n";
  for (size_t y = 0; y < canvas.size(); ++y) {
    const auto cut = std::ranges::find(rows.places, y);
    const std::string label = cut == rows.places.end() || drawn.size() < 2
                                  ? ""
                                  : fmt::to_string(rows.cuts[cut - rows.places.begin()]);
    text += fmt::format("{:>{}} {}\n", label, margin, canvas[y]);
  }
  return text;
}

}  // namespace cairn
