#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdio>
#include <span>
#include <variant>

#include "launcher/commands/ckpt_output.h"
#include "launcher/commands/ckpt_slice.h"
#include "launcher/commands/ckpt_subcommands.h"
#include "runtime/base/error.h"
#include "runtime/checkpoint/checkpoint_reader.h"
#include "runtime/checkpoint/element.h"
#include "runtime/checkpoint/safetensors.h"
#include "runtime/checkpoint/tiling.h"

namespace cairn {
namespace {

constexpr uint64_t kMaxShownValues = uint64_t{1} << 22;
constexpr int64_t kCornerInner = 8;  // of the last two dimensions
constexpr int64_t kCornerOuter = 2;  // of the others

std::string ValueText(const ElementValue& value) {
  return std::visit([](auto v) { return fmt::format("{}", v); }, value);
}

// Nested arrays of `values`, which it takes from the front.
Json NestedJson(std::span<const ElementValue>& values, std::span<const int64_t> extent) {
  if (extent.empty()) {
    Json json = ValueJson(values.front());
    values = values.subspan(1);
    return json;
  }
  Json json = Json::array();
  for (int64_t i = 0; i < extent.front(); ++i) {
    json.push_back(NestedJson(values, extent.subspan(1)));
  }
  return json;
}

// One line for each row; blocks of rows are headed by their outer indices.
std::string RowsText(std::span<const ElementValue> values, const SliceRange& range) {
  const size_t rank = range.extent.size();
  const auto columns = static_cast<size_t>(rank == 0 ? 1 : range.extent[rank - 1]);
  const int64_t rows = rank < 2 ? 1 : range.extent[rank - 2];
  if (values.empty()) return "";
  std::vector<std::string> cells;
  cells.reserve(values.size());
  size_t width = 0;
  for (const ElementValue& value : values) {
    cells.push_back(ValueText(value));
    width = std::max(width, cells.back().size());
  }
  std::string text;
  std::vector<int64_t> index(rank < 2 ? 0 : rank - 2, 0);
  for (size_t begin = 0, line = 0; begin < cells.size(); begin += columns, ++line) {
    if (!index.empty() && line % static_cast<size_t>(rows) == 0) {
      text += "[";
      for (size_t d = 0; d < index.size(); ++d) {
        text += fmt::format("{},", range.offset[d] + index[d]);
      }
      text += ":,:]\n";
      for (size_t d = index.size(); d > 0 && ++index[d - 1] == range.extent[d - 1]; --d) {
        index[d - 1] = 0;
      }
    }
    for (size_t i = 0; i < columns; ++i) {
      text += fmt::format("{}{:>{}}", i == 0 ? "" : " ", cells[begin + i], width);
    }
    text += "\n";
  }
  return text;
}

SliceRange Corner(const std::vector<int64_t>& shape) {
  SliceRange range = {.offset = std::vector<int64_t>(shape.size(), 0), .extent = shape};
  for (size_t d = 0; d < shape.size(); ++d) {
    range.extent[d] = std::min(shape[d], d + 2 < shape.size() ? kCornerOuter : kCornerInner);
  }
  return range;
}

struct ShowOptions : CkptOptions {
  std::string tensor;
  std::string kind = kWeightKind;
};

// Without a slice, the tensor's first corner.
void Show(const ShowOptions& options) {
  const TensorRequest request = ParseTensorRequest(options.tensor);
  CheckpointReader reader(ResolveAndReport(options.target));
  const TensorEntry& tensor = FindTensor(reader, request.name, options.kind);
  const SliceRange range =
      request.has_slice ? ParseSlice(request.slice, tensor.shape) : Corner(tensor.shape);
  const uint64_t count = CheckedElements(range.extent).value_or(0);
  if (count > kMaxShownValues) {
    Throw(ErrorKind::kUsage, "TENSOR",
          "{} values of \"{}\" are too many; a slice of at most {} fits", count, tensor.name,
          kMaxShownValues);
  }
  const uint64_t element = SafetensorsDTypeBytes(tensor.dtype).value_or(0);
  std::vector<std::byte> bytes(count * element);
  reader.Read(tensor.name, tensor.kind, range.offset, range.extent, bytes);
  std::vector<ElementValue> values;
  values.reserve(count);
  for (uint64_t i = 0; i < count; ++i) {
    values.push_back(DecodeElement(tensor.dtype, bytes.data() + i * element));
  }

  if (options.as_json) {
    std::span<const ElementValue> rest = values;
    PrintJson({{"checkpoint", reader.directory()},
               {"name", tensor.name},
               {"kind", tensor.kind},
               {"dtype", tensor.dtype},
               {"shape", tensor.shape},
               {"offset", range.offset},
               {"extent", range.extent},
               {"values", NestedJson(rest, range.extent)}});
    return;
  }
  fmt::print(stderr, "{} ({}) {} {}, showing {}\n", tensor.name, tensor.kind, tensor.dtype,
             ShapeText(tensor.shape), RangeText(range.offset, range.extent));
  PrintText(RowsText(values, range));
}

}  // namespace

void AddCkptShow(CLI::App& ckpt) {
  const auto [show, options] =
      AddCkptSubcommand<ShowOptions>(ckpt, "show", "values of a tensor, or of a slice of it");
  show->add_option("tensor", options->tensor, "its name, or a part of it: NAME[0:3,:8]")
      ->required()
      ->type_name("TENSOR");
  show->add_option("--kind", options->kind, "weight, exp_avg, ...")
      ->capture_default_str()
      ->type_name("KIND");
  show->callback([o = options] { Show(*o); });
}

}  // namespace cairn
