#include <fmt/format.h>

#include <cstdio>
#include <map>
#include <set>

#include "launcher/commands/ckpt_output.h"
#include "launcher/commands/ckpt_subcommands.h"
#include "runtime/checkpoint/checkpoint_reader.h"
#include "runtime/checkpoint/tiling.h"

namespace cairn {
namespace {

// What the tensors of one kind, or all, add up to.
struct Total {
  uint64_t tensors = 0;
  uint64_t elements = 0;
  uint64_t bytes = 0;
  std::set<std::string> dtypes;
};

uint64_t TensorElements(const TensorEntry& tensor) {
  return CheckedElements(tensor.shape).value_or(0);
}

uint64_t StoredBytes(const TensorEntry& tensor) {
  uint64_t bytes = 0;
  for (const Chunk& chunk : tensor.chunks) bytes += ChunkBytes(tensor, chunk);
  return bytes;
}

std::map<std::string, Total> TotalsByKind(const Manifest& manifest) {
  std::map<std::string, Total> totals;
  for (const TensorEntry& tensor : manifest.tensors) {
    Total& total = totals[tensor.kind];
    ++total.tensors;
    total.elements += TensorElements(tensor);
    total.bytes += StoredBytes(tensor);
    total.dtypes.insert(tensor.dtype);
  }
  return totals;
}

uint64_t FileBytes(const Manifest& manifest) {
  uint64_t bytes = 0;
  for (const FileEntry& file : manifest.files) bytes += file.size;
  return bytes;
}

void PrintInfoJson(const std::string& directory, const Manifest& manifest) {
  const TrainingState& state = manifest.training_state;
  Json kinds = Json::object();
  for (const auto& [kind, total] : TotalsByKind(manifest)) {
    kinds[kind] = {{"tensors", total.tensors},
                   {"elements", total.elements},
                   {"bytes", total.bytes},
                   {"dtypes", total.dtypes}};
  }
  Json files = Json::array();
  for (const FileEntry& file : manifest.files) {
    files.push_back({{"name", file.name}, {"bytes", file.size}, {"xxh3_128", file.xxh3_128}});
  }
  PrintJson({{"checkpoint", directory},
             {"format_version", manifest.format_version},
             {"iteration", manifest.iteration},
             {"consumed_samples", manifest.consumed_samples},
             {"tokens", manifest.tokens},
             {"training_state",
              {{"loss_scale", state.loss_scale},
               {"loss_scale_growth_tracker", state.loss_scale_growth_tracker},
               {"loss_scale_hysteresis", state.loss_scale_hysteresis},
               {"optimizer_steps", state.optimizer_steps},
               {"skipped_iterations", state.skipped_iterations},
               {"seed", state.seed},
               {"skipped_samples", state.skipped_samples},
               {"loss_trend_count", state.loss_trend_count},
               {"loss_trend_mean", state.loss_trend_mean},
               {"loss_trend_variance", state.loss_trend_variance}}},
             {"layout", manifest.layout},
             {"kinds", kinds},
             {"files", files},
             {"config", manifest.config_text}});
}

// A printable copy: control characters in a config must not reach the terminal.
std::string Printable(const std::string& text) {
  std::string result = text;
  for (char& c : result) {
    if ((c >= 0 && c < ' ' && c != '\n' && c != '\t') || c == 0x7f) c = '?';
  }
  return result;
}

void PrintInfoText(const std::string& directory, const Manifest& manifest) {
  const TrainingState& state = manifest.training_state;
  std::string text = fmt::format(
      "checkpoint          {}\n"
      "iteration           {}\n"
      "consumed samples    {} ({} more skipped by rewinds)\n"
      "tokens              {}\n"
      "optimizer steps     {} ({} iterations skipped)\n"
      "loss scale          {} (growth tracker {}, hysteresis {})\n"
      "seed                {}\n"
      "files               {}, {}\n",
      directory, manifest.iteration, manifest.consumed_samples, state.skipped_samples,
      manifest.tokens, state.optimizer_steps, state.skipped_iterations, state.loss_scale,
      state.loss_scale_growth_tracker, state.loss_scale_hysteresis, state.seed,
      manifest.files.size(), HumanBytes(FileBytes(manifest)));
  if (!manifest.layout.empty()) {
    text += "saved by layout    ";
    for (const auto& [key, value] : manifest.layout) text += fmt::format(" {}={}", key, value);
    text += "\n";
  }
  Table table({"kind", ">tensors", ">elements", ">bytes", "dtypes"});
  for (const auto& [kind, total] : TotalsByKind(manifest)) {
    std::string dtypes;
    for (const std::string& dtype : total.dtypes) dtypes += (dtypes.empty() ? "" : " ") + dtype;
    table.AddRow({kind, fmt::to_string(total.tensors), fmt::to_string(total.elements),
                  fmt::to_string(total.bytes), dtypes});
  }
  text += "\n" + table.Render();
  if (!manifest.config_text.empty()) text += "\nconfig\n" + Printable(manifest.config_text);
  if (!text.ends_with('\n')) text += "\n";
  PrintText(text);
}

void PrintInfo(const CkptOptions& options) {
  const CheckpointReader reader(ResolveAndReport(options.target));
  if (options.as_json) {
    PrintInfoJson(reader.directory(), reader.manifest());
  } else {
    PrintInfoText(reader.directory(), reader.manifest());
  }
}

struct TensorsOptions : CkptOptions {
  TensorFilter filter;
};

void PrintTensors(const TensorsOptions& options) {
  const CheckpointReader reader(ResolveAndReport(options.target));
  Json json = Json::array();
  Table table({"name", "kind", "dtype", "shape", ">elements", ">bytes", ">chunks"});
  Total all;
  for (const TensorEntry& tensor : reader.manifest().tensors) {
    if (!options.filter.Matches(tensor)) continue;
    const uint64_t elements = TensorElements(tensor);
    const uint64_t bytes = StoredBytes(tensor);
    ++all.tensors;
    all.elements += elements;
    all.bytes += bytes;
    if (options.as_json) {
      json.push_back({{"name", tensor.name},
                      {"kind", tensor.kind},
                      {"dtype", tensor.dtype},
                      {"shape", tensor.shape},
                      {"elements", elements},
                      {"bytes", bytes},
                      {"chunks", tensor.chunks.size()}});
    } else {
      table.AddRow({tensor.name, tensor.kind, tensor.dtype, ShapeText(tensor.shape),
                    fmt::to_string(elements), fmt::to_string(bytes),
                    fmt::to_string(tensor.chunks.size())});
    }
  }
  if (options.as_json) {
    PrintJson(json);
    return;
  }
  PrintText(table.Render());
  fmt::print(stderr, "{} tensors, {} elements, {}\n", all.tensors, all.elements,
             HumanBytes(all.bytes));
}

}  // namespace

void AddCkptInfo(CLI::App& ckpt) {
  const auto [info, options] = AddCkptSubcommand<CkptOptions>(
      ckpt, "info", "progress, training state, sizes, layout and config");
  info->callback([o = options] { PrintInfo(*o); });
}

void AddCkptTensors(CLI::App& ckpt) {
  const auto [tensors, options] =
      AddCkptSubcommand<TensorsOptions>(ckpt, "tensors", "the logical tensors, one a line");
  AddTensorFilter(*tensors, options->filter);
  tensors->callback([o = options] { PrintTensors(*o); });
}

}  // namespace cairn
