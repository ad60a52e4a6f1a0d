#include <fmt/format.h>

#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include "runtime/checkpoint/digest.h"
#include "runtime/checkpoint/manifest.h"
#include "runtime/checkpoint/safetensors.h"
#include "runtime/checkpoint/shard_writer.h"
#include "runtime/config/config.h"
#include "tests/fuzz/fuzz_testing.h"

// Megabytes of what costs a parser most memory for its bytes, and of what real checkpoints have.
// Prints the table of docs/checkpoints.md; fails where a bound does not hold.

namespace cairn::fuzz {
namespace {

constexpr size_t kHeaderBytes = size_t{8} << 20;

// `entry(i)` again and again, joined by commas, up to about `bytes`.
std::string Repeat(size_t bytes, const std::function<std::string(size_t)>& entry) {
  std::string text;
  for (size_t i = 0; text.size() < bytes; ++i) text += (i == 0 ? "" : ",") + entry(i);
  return text;
}

// A short name for a number: letters only.
std::string Letters(size_t i) {
  std::string name;
  for (; i > 0 || name.empty(); i /= 52) {
    const size_t digit = i % 52;
    name += static_cast<char>(digit < 26 ? 'a' + digit : 'A' + digit - 26);
  }
  return name;
}

std::string Tensors(const char* description) {
  return "{" +
         Repeat(kHeaderBytes,
                [&](size_t i) { return fmt::format("\"{}\":{}", Letters(i), description); }) +
         "}";
}

std::string RealHeader(uint64_t& data_bytes) {
  const std::string entries = Repeat(kHeaderBytes, [&](size_t i) {
    data_bytes += 4096;
    return fmt::format(
        R"("layers.{}.mlp.fc1.weight@exp_avg#0,{}":{{"dtype":"F32","shape":[32,32],"data_offsets":[{},{}]}})",
        i / 4, i % 4 * 32, data_bytes - 4096, data_bytes);
  });
  return "{" + entries + "}";
}

// A manifest of `tensors` tensors with `chunks` chunks each along the first of `rank` dimensions;
// each chunk has `blocks` full blocks of checksums, or four bytes where that is 0.
std::string Manifests(size_t tensors, size_t chunks, size_t rank, size_t blocks, bool short_names) {
  Manifest manifest;
  manifest.files = {
      {short_names ? "a.safetensors" : ShardFileName(0), 0, 10, 1, std::string(32, 'a')}};
  uint64_t at = 10;
  const uint64_t bytes = std::max<uint64_t>(4, blocks * kCrcBlockBytes);
  size_t number = 0;
  for (size_t t = 0; t < tensors; ++t) {
    TensorEntry tensor;
    tensor.name = short_names ? Letters(t) : fmt::format("layers.{}.mlp.fc1.weight", t);
    tensor.kind = short_names ? "w" : "exp_avg";
    tensor.dtype = "F32";
    tensor.shape.assign(rank, 1);
    if (rank > 0) tensor.shape[0] = static_cast<int64_t>(chunks * bytes / 4);
    for (size_t c = 0; c < chunks; ++c) {
      Chunk chunk;
      chunk.file_offset = at;
      chunk.offset.assign(rank, 0);
      chunk.extent.assign(rank, 1);
      if (rank > 0) {
        chunk.offset[0] = static_cast<int64_t>(c * bytes / 4);
        chunk.extent[0] = static_cast<int64_t>(bytes / 4);
      }
      chunk.crc32c.assign(std::max<size_t>(1, blocks), 0x12345678);
      chunk.entry = short_names ? Letters(number++) : ChunkEntryName(tensor, chunk);
      at += bytes;
      tensor.chunks.push_back(std::move(chunk));
    }
    manifest.tensors.push_back(std::move(tensor));
  }
  manifest.files[0].size = at;
  return SerializeManifest(manifest);
}

std::string Again(const std::string& record, size_t bytes) {
  std::string text;
  while (text.size() < bytes) text += record;
  return text;
}

int failures = 0;

template <typename Parse>
void Measure(const char* what, size_t input_bytes, const MemoryBound& bound, Parse parse) {
  size_t peak = 0;
  std::string outcome = "read";
  {
    const MemoryMeter meter;
    try {
      const auto value = parse();
      peak = meter.Peak();
    } catch (const Error& error) {
      peak = meter.Peak();
      outcome = "refused";
    }
  }
  const bool good = peak <= bound.factor * input_bytes + bound.slack;
  failures += good ? 0 : 1;
  fmt::print("{:<44} {:>9} {:>10} {:>6.2f}  {}{}\n", what, input_bytes, peak,
             static_cast<double>(peak) / static_cast<double>(input_bytes), outcome,
             good ? "" : "  EXCEEDS THE BOUND");
}

// The bytes of the input itself count, as they do where it comes from a file.
void Header(const char* what, const std::string& json, uint64_t data_bytes = 0) {
  Measure(what, json.size(), kSafetensorsBound, [&] {
    const std::string copy = json;
    return ParseSafetensorsHeader(copy, copy.size() + 8 + data_bytes, "input");
  });
}

void ManifestBytes(const char* what, const std::string& bytes) {
  Measure(what, bytes.size(), kManifestBound, [&] {
    const std::string copy = bytes;
    return ParseManifest(copy, "input");
  });
}

void Config(const char* what, const std::string& text) {
  Measure(what, text.size(), kConfigBound, [&] { return ParseConfig({"input", text}, {}); });
}

void Run() {
  fmt::print("{:<44} {:>9} {:>10} {:>6}\n", "input", "bytes", "peak", "factor");
  uint64_t data_bytes = 0;
  const std::string real = RealHeader(data_bytes);
  Header("header: small tensors, real names", real, data_bytes);
  Header("header: empty tensors", Tensors(R"({"dtype":"U8","shape":[0],"data_offsets":[0,0]})"));
  Header(
      "header: empty tensors of 16 dimensions",
      Tensors(R"({"dtype":"U8","shape":[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0],"data_offsets":[0,0]})"));
  Header("header: braces in names", "{" + Repeat(kHeaderBytes, [](size_t i) {
                                      return fmt::format(R"("{}{}":{{"dtype":"U8","shape":[0],)"
                                                         R"("data_offsets":[0,0]}})",
                                                         Letters(i), std::string(1000, '{'));
                                    }) + "}");
  Header("header: metadata", R"({"__metadata__":{)" + Repeat(kHeaderBytes, [](size_t i) {
                               return fmt::format(R"("{}":"")", Letters(i));
                             }) + "}}");
  Header("header: one long name", "{\"" + std::string(kHeaderBytes, 'n'));
  Header("header: one long number", "{\"a\":{\"shape\":[" + std::string(kHeaderBytes, '1'));
  Header("header: deep arrays", "{\"a\":" + std::string(kHeaderBytes, '['));
  Header("header: spaces at the end", "{}" + std::string(kHeaderBytes, ' '));

  ManifestBytes("manifest: chunks of 100 MB", Manifests(8000, 8, 2, 25, false));
  ManifestBytes("manifest: chunks of 4 MB", Manifests(8000, 8, 2, 1, false));
  ManifestBytes("manifest: one tensor of many chunks", Manifests(1, 100000, 1, 0, true));
  ManifestBytes("manifest: scalars", Manifests(100000, 1, 0, 0, true));
  ManifestBytes("manifest: 16 dimensions", Manifests(50000, 1, 16, 0, true));
  ManifestBytes("manifest: empty tensors", Again(std::string("\x42\x00", 2), kHeaderBytes));
  ManifestBytes("manifest: empty chunks", "\x42\xe4\x3f" + Again(std::string("\x2a\x00", 2), 8164));
  ManifestBytes("manifest: empty layout", Again(std::string("\x3a\x00", 2), kHeaderBytes));
  ManifestBytes("manifest: unknown fields", Again("\x58\x01", kHeaderBytes));
  ManifestBytes("manifest: long shape",
                Again("\x42\xc8\x01\x22\xc5\x01" + std::string(197, '\1'), kHeaderBytes));

  const size_t config_bytes = size_t{1} << 20;
  ConfigText(ParseConfig({"first", "model { num_layers: 1 }"}, {}).config);  // makes descriptors
  Config("config: empty strings",
         "data { data_path: [" + Repeat(config_bytes, [](size_t) { return "''"; }) + "] }");
  Config("config: empty strings, as many as are read",
         "data { data_path: [" + Repeat(16000 * 3 / 2, [](size_t) { return "''"; }) + "] }");
  Config("config: one long string", "run_dir: '" + std::string(config_bytes, 'r') + "'");
  Config("config: long strings joined",
         "run_dir: " + Again("'" + std::string(100, 'r') + "' ", config_bytes));
  Config("config: comments", Again("# comment\n", config_bytes));
  Config("config: open sections", Again("model { ", config_bytes));
  Config("config: open lists", "data { data_path: " + std::string(config_bytes, '['));
  Config("config: unknown name", std::string(config_bytes, 'n') + ": 1");
}

}  // namespace
}  // namespace cairn::fuzz

int main() {
  cairn::fuzz::Run();
  return cairn::fuzz::failures == 0 ? 0 : 1;
}
