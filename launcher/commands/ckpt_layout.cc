#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "launcher/commands/ckpt_output.h"
#include "launcher/commands/ckpt_picture.h"
#include "launcher/commands/ckpt_subcommands.h"
#include "runtime/checkpoint/manifest.h"

// `cairn ckpt layout`: what each shard, which one rank wrote, holds.

namespace cairn {
namespace {

struct LayoutOptions : CkptOptions {
  std::string tensor;
  std::string kind = kWeightKind;
};

// What one shard has parts of.
struct Holding {
  std::set<std::pair<std::string, std::string>> tensors;  // names and kinds
  std::map<std::string, uint64_t> bytes;                  // by kind
  std::set<std::string> parts;                            // of the model: "embedding", "layers.3"
};

bool IsIndex(const std::string& text) {
  return !text.empty() && text.size() < 10 &&
         text.find_first_not_of("0123456789") == std::string::npos;
}

// "layers.3" of "layers.3.mlp.fc1.weight"; "embedding" of "embedding.token.weight".
std::string PartOf(const std::string& name) {
  const size_t first = std::min(name.find('.'), name.size());
  const size_t second = std::min(name.find('.', first + 1), name.size());
  const bool numbered = first < name.size() && IsIndex(name.substr(first + 1, second - first - 1));
  return name.substr(0, numbered ? second : first);
}

// "embedding, layers.[0-3,8], final_norm": numbers of the same list in ranges.
std::string PartsText(const std::set<std::string>& parts) {
  std::vector<std::string> words;
  std::map<std::string, std::set<int64_t>> lists;
  for (const std::string& part : parts) {
    const size_t dot = part.find('.');
    if (dot == std::string::npos) {
      words.push_back(part);
    } else {
      lists[part.substr(0, dot)].insert(std::stoll(part.substr(dot + 1)));
    }
  }
  for (const auto& [name, numbers] : lists) {
    std::string ranges;
    for (auto begin = numbers.begin(); begin != numbers.end();) {
      const int64_t first = *begin;
      int64_t last = first;
      for (++begin; begin != numbers.end() && *begin == last + 1; ++begin) ++last;
      ranges += fmt::format("{}{}", ranges.empty() ? "" : ",", first);
      if (last > first) ranges += fmt::format("-{}", last);
    }
    words.push_back(fmt::format("{}.[{}]", name, ranges));
  }
  return fmt::format("{}", fmt::join(words, ", "));
}

std::vector<Holding> HoldingsByFile(const Manifest& manifest) {
  std::vector<Holding> holdings(manifest.files.size());
  for (const TensorEntry& tensor : manifest.tensors) {
    for (const Chunk& chunk : tensor.chunks) {
      Holding& holding = holdings[chunk.file];
      holding.tensors.emplace(tensor.name, tensor.kind);
      holding.bytes[tensor.kind] += ChunkBytes(tensor, chunk);
      holding.parts.insert(PartOf(tensor.name));
    }
  }
  return holdings;
}

void PrintShards(const CheckpointReader& reader, bool as_json) {
  const Manifest& manifest = reader.manifest();
  const std::vector<Holding> holdings = HoldingsByFile(manifest);
  std::set<std::string> kinds;
  for (const TensorEntry& tensor : manifest.tensors) kinds.insert(tensor.kind);
  std::vector<std::string> heads = {">shard", "file", ">size", ">tensors"};
  for (const std::string& kind : kinds) heads.push_back(">" + kind);
  heads.emplace_back("holds parts of");
  Table table(heads);
  Json shards = Json::array();
  for (size_t i = 0; i < holdings.size(); ++i) {
    const FileEntry& file = manifest.files[i];
    const Holding& holding = holdings[i];
    shards.push_back({{"file", file.name},
                      {"size", file.size},
                      {"tensors", holding.tensors.size()},
                      {"bytes", holding.bytes},
                      {"parts", holding.parts}});
    std::vector<Cell> row = {fmt::to_string(i), file.name, HumanBytes(file.size),
                             fmt::to_string(holding.tensors.size())};
    for (const std::string& kind : kinds) {
      const auto found = holding.bytes.find(kind);
      row.emplace_back(HumanBytes(found == holding.bytes.end() ? 0 : found->second));
    }
    row.emplace_back(PartsText(holding.parts));
    table.AddRow(std::move(row));
  }
  if (as_json) {
    PrintJson({{"checkpoint", reader.directory()},
               {"layout", manifest.layout},
               {"shards", std::move(shards)}});
    return;
  }
  std::string text;
  for (const auto& [key, value] : manifest.layout) {
    text += fmt::format("{}{}={}", text.empty() ? "saved by " : " ", key, value);
  }
  PrintText(text + (text.empty() ? "" : "\n") + table.Render());
}

void PrintTensor(const CheckpointReader& reader, const LayoutOptions& options) {
  const TensorEntry& tensor = FindTensor(reader, options.tensor, options.kind);
  const std::vector<FileEntry>& files = reader.manifest().files;
  Json chunks = Json::array();
  Table table({">shard", "file", "holds", ">bytes", ">from byte"});
  for (const Chunk& chunk : tensor.chunks) {
    chunks.push_back({{"file", files[chunk.file].name},
                      {"entry", chunk.entry},
                      {"offset", chunk.offset},
                      {"extent", chunk.extent},
                      {"file_offset", chunk.file_offset},
                      {"bytes", ChunkBytes(tensor, chunk)}});
    table.AddRow({fmt::to_string(chunk.file), files[chunk.file].name,
                  RangeText(chunk.offset, chunk.extent), fmt::to_string(ChunkBytes(tensor, chunk)),
                  fmt::to_string(chunk.file_offset)});
  }
  if (options.as_json) {
    Json json = {{"checkpoint", reader.directory()}};
    json.update(TensorJson(tensor));
    json["chunks"] = std::move(chunks);
    PrintJson(json);
    return;
  }
  PrintText(fmt::format("{} ({}) {} {}\n{}\n{}", tensor.name, tensor.kind, tensor.dtype,
                        ShapeText(tensor.shape), PictureOfChunks(tensor), table.Render()));
}

void PrintLayout(const LayoutOptions& options) {
  const CheckpointReader reader(ResolveAndReport(options.target));
  if (options.tensor.empty()) {
    PrintShards(reader, options.as_json);
  } else {
    PrintTensor(reader, options);
  }
}

}  // namespace

void AddCkptLayout(CLI::App& ckpt) {
  const auto [layout, options] = AddCkptSubcommand<LayoutOptions>(
      ckpt, "layout", "which shard holds what; of a tensor, a picture");
  layout->add_option("tensor", options->tensor, "without it, a summary of each shard")
      ->type_name("TENSOR");
  layout->add_option("--kind", options->kind, "weight, exp_avg, ...")
      ->capture_default_str()
      ->type_name("KIND");
  layout->callback([o = options] { PrintLayout(*o); });
}

}  // namespace cairn
