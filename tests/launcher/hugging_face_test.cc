// GPT-2 to and from Hugging Face's files, held to what transformers wrote and computed
// (data/make_hugging_face_reference.py).
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>

#include "launcher/checkpoint_fit.h"
#include "launcher/hugging_face_export.h"
#include "launcher/hugging_face_folder.h"
#include "launcher/hugging_face_import.h"
#include "launcher/inference.h"
#include "launcher/train_engine.h"
#include "parallel/local_communicator.h"
#include "runtime/base/error.h"
#include "runtime/checkpoint/file.h"
#include "runtime/tensor/elementwise.h"
#include "tests/runtime/checkpoint/checkpoint_testing.h"

namespace cairn {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;
using ::testing::AllOf;
using ::testing::HasSubstr;

std::string ReferenceFolder(const std::string& name) {
  return CAIRN_SOURCE_DIR "/tests/launcher/data/hugging_face/" + name;
}

template <typename T>
std::vector<T> ReadReference(const std::string& folder, const std::string& tensor) {
  const SafetensorsFile file(folder + "/reference.safetensors");
  const SafetensorsEntry* const entry = file.Find(tensor);
  std::vector<T> values((entry->end - entry->begin) / sizeof(T));
  file.Read(*entry, 0, std::as_writable_bytes(std::span(values)));
  return values;
}

// What a tensor of a folder is and holds, by its name without the prefix.
std::map<std::string, std::string> Contents(const std::string& folder) {
  const HuggingFaceFolder files(folder, "transformer.");
  std::map<std::string, std::string> contents;
  for (const HuggingFaceFolder::Tensor& tensor : files.tensors()) {
    const SafetensorsEntry& entry = *tensor.entry;
    std::string bytes(entry.end - entry.begin, '\0');
    tensor.file->Read(entry, 0, std::as_writable_bytes(std::span(bytes)));
    std::string name = entry.name;
    if (name.starts_with("transformer.")) name.erase(0, std::string("transformer.").size());
    contents[name] = fmt::format("{} {} ", entry.dtype, Json(entry.shape).dump()) + bytes;
  }
  return contents;
}

Json ReadJson(const std::string& path) { return Json::parse(ReadWholeFile(path, 1 << 20)); }

class ReferenceTest : public ::testing::TestWithParam<const char*> {};

TEST_P(ReferenceTest, ComputesWhatTransformersComputes) {
  const TemporaryFolder scratch;
  const std::string folder = ReferenceFolder(GetParam());
  ImportHuggingFace(folder, scratch / "checkpoint");
  LoadedModel model(scratch / "checkpoint", {});
  EXPECT_EQ(model.iteration(), 0);

  const auto tokens = ReadReference<int32_t>(folder, "tokens");
  const auto targets = ReadReference<int32_t>(folder, "targets");
  const double loss = model.SumOfLosses(tokens, targets) / static_cast<double>(tokens.size());
  EXPECT_NEAR(loss / ReadReference<double>(folder, "loss")[0], 1, 1e-5);

  const auto expected = ReadReference<float>(folder, "logits");
  const auto length = static_cast<size_t>(model.config().model().seq_length());
  const auto vocabulary = static_cast<size_t>(model.config().model().vocab_size());
  ASSERT_EQ(expected.size(), tokens.size() * vocabulary);
  double largest = 0;
  double deviation = 0;
  for (size_t i = 0; i < tokens.size(); ++i) {
    const size_t first = i / length * length;
    const std::vector<float> logits =
        model.NextLogits(std::span(tokens).subspan(first, i + 1 - first));
    ASSERT_EQ(logits.size(), vocabulary);
    for (size_t v = 0; v < vocabulary; ++v) {
      const double wanted = expected[i * vocabulary + v];
      largest = std::max(largest, std::abs(wanted));
      deviation = std::max(deviation, std::abs(logits[v] - wanted));
    }
  }
  EXPECT_GT(largest, 1);
  EXPECT_LE(deviation / largest, 1e-5);
}

TEST_P(ReferenceTest, ComesBackBitByBit) {
  const TemporaryFolder scratch;
  const std::string folder = ReferenceFolder(GetParam());
  // Slabs of a few rows, although everything would fit into one.
  constexpr int64_t kSlab = 4096;
  ImportHuggingFace(folder, scratch / "checkpoint", kSlab);
  const std::map<std::string, std::string> original = Contents(folder);
  const auto dtype =
      original.begin()->second.starts_with("BF16") ? DType::kBFloat16 : DType::kFloat32;
  for (const uint64_t max_bytes : {uint64_t{1} << 40, uint64_t{8192}, uint64_t{1}}) {
    const std::string copy = scratch / fmt::format("copy-{}", max_bytes);
    const HuggingFaceExport result =
        ExportHuggingFace(scratch / "checkpoint", copy, {dtype, max_bytes, kSlab});
    EXPECT_TRUE(Contents(copy) == original);
    EXPECT_EQ(result.tensors, original.size());
    EXPECT_EQ(result.files.back().name, "config.json");
    const bool sharded = result.files.size() > 2;
    EXPECT_EQ(sharded, max_bytes < 1 << 20);
    for (const HuggingFaceExport::File& file : result.files) {
      EXPECT_EQ(fs::file_size(fs::path(copy) / file.name), file.bytes) << file.name;
      if (!file.name.ends_with(".safetensors")) continue;
      const SafetensorsFile opened(copy + "/" + file.name);
      EXPECT_EQ(opened.header().metadata.at("format"), "pt");
      // A larger file holds one tensor.
      EXPECT_TRUE(file.bytes - opened.header().header_bytes <= max_bytes ||
                  opened.header().entries.size() == 1);
    }
  }
}

TEST_P(ReferenceTest, KeepsItsConfig) {
  const TemporaryFolder scratch;
  ImportHuggingFace(ReferenceFolder(GetParam()), scratch / "checkpoint");
  ExportHuggingFace(scratch / "checkpoint", scratch / "copy", {});
  const Json original = ReadJson(ReferenceFolder(GetParam()) + "/config.json");
  const Json copy = ReadJson(scratch / "copy/config.json");
  for (const char* field :
       {"model_type", "vocab_size", "n_positions", "n_embd", "n_layer", "n_head", "attn_pdrop",
        "resid_pdrop", "embd_pdrop", "layer_norm_epsilon", "initializer_range", "bos_token_id",
        "eos_token_id", "scale_attn_weights", "scale_attn_by_inverse_layer_idx"}) {
    EXPECT_EQ(copy.at(field), original.at(field)) << field;
  }
  const int64_t inner = original["n_inner"].is_null() ? 4 * original["n_embd"].get<int64_t>()
                                                      : original["n_inner"].get<int64_t>();
  EXPECT_EQ(copy["n_inner"], inner);
  EXPECT_EQ(copy["architectures"], Json({"GPT2LMHeadModel"}));
  EXPECT_EQ(copy["activation_function"], "gelu_new");
  EXPECT_EQ(copy["tie_word_embeddings"], true);
  EXPECT_EQ(copy["torch_dtype"], "float32");
}

INSTANTIATE_TEST_SUITE_P(HuggingFace, ReferenceTest, ::testing::Values("gpt2", "bare_bf16_sharded"),
                         [](const auto& info) { return std::string(info.param); });

TEST(HuggingFaceTest, RoundsToTheTypeAskedFor) {
  const TemporaryFolder scratch;
  ImportHuggingFace(ReferenceFolder("gpt2"), scratch / "checkpoint");
  ExportHuggingFace(scratch / "checkpoint", scratch / "half", {.dtype = DType::kFloat16});
  EXPECT_EQ(ReadJson(scratch / "half/config.json")["torch_dtype"], "float16");
  // Rounded once, it stays as it is.
  ImportHuggingFace(scratch / "half", scratch / "rounded");
  ExportHuggingFace(scratch / "rounded", scratch / "again", {.dtype = DType::kFloat16});
  const auto half = Contents(scratch / "half");
  EXPECT_TRUE(Contents(scratch / "again") == half);
  EXPECT_TRUE(half.at("wte.weight").starts_with("F16 [61,48] "));
  LoadedModel original(scratch / "checkpoint", {});
  LoadedModel rounded(scratch / "rounded", {});
  const auto tokens = ReadReference<int32_t>(ReferenceFolder("gpt2"), "tokens");
  const auto targets = ReadReference<int32_t>(ReferenceFolder("gpt2"), "targets");
  EXPECT_NEAR(rounded.SumOfLosses(tokens, targets) / original.SumOfLosses(tokens, targets), 1,
              2e-3);
}

TEST(HuggingFaceTest, NamesItsNextConfig) {
  const TemporaryFolder scratch;
  const HuggingFaceImport result = ImportHuggingFace(ReferenceFolder("gpt2"), scratch / "gpt2");
  const LoadedConfig loaded = LoadConfig(result.config_file, {}, {});
  ValidateConfig(loaded, 1);
  const CheckpointReader reader(scratch / "gpt2");
  CheckFit(reader.manifest(), loaded.config, "gpt2");
  EXPECT_EQ(ConfigText(loaded.config), reader.manifest().config_text);
  EXPECT_EQ(loaded.config.model().name(), "gpt2");
}

// Trains an import for a step, as its config and the overrides say.
double StepFrom(const std::string& checkpoint, const std::vector<std::string>& overrides,
                double* loss_scale = nullptr) {
  CheckpointReader reader(checkpoint);
  const LoadedConfig loaded =
      LoadConfig(checkpoint + "/config.textproto", ParseOverrides(overrides), {});
  const std::unique_ptr<Device> device = NewCpuDevice();
  const std::unique_ptr<Communicator> world = NewSingleCommunicator();
  const Mesh mesh(*world, {});
  TrainEngine engine(loaded.config, mesh, *device);
  for (const StatePiece& piece : engine.State()) Fill(piece.data, 7);  // what loading replaces
  engine.Load(reader);
  engine.Publish();
  const auto outcome = engine.Step([](int64_t index, std::span<int32_t> tokens) {
    for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<int32_t>((index + i) % 61);
  });
  if (loss_scale != nullptr) *loss_scale = outcome.loss_scale;
  EXPECT_EQ(engine.Describe().training_state.optimizer_steps, 1);
  float largest = 0;
  for (const StatePiece& piece : engine.State()) {
    if (piece.kind != "exp_avg_sq") continue;
    for (const float value : piece.data.ToHost<float>()) largest = std::max(largest, value);
  }
  EXPECT_LT(largest, 1);  // the moments began at zero
  return outcome.lm_loss;
}

TEST(HuggingFaceTest, TrainsFromZeroMoments) {
  const TemporaryFolder scratch;
  ImportHuggingFace(ReferenceFolder("gpt2"), scratch / "gpt2");
  EXPECT_GT(StepFrom(scratch / "gpt2", {"lr=0.001", "seq_length=8"}), 1);
  double loss_scale = 0;
  StepFrom(scratch / "gpt2", {"precision=fp16", "initial_loss_scale=1024"}, &loss_scale);
  EXPECT_EQ(loss_scale, 1024);
}

// A folder to break: its config and its tensors, in one file.
struct Broken {
  Json config;
  std::vector<SafetensorsTensor> tensors;
  std::map<std::string, std::string> bytes;
  std::function<void(const std::string& folder)> after = [](const std::string&) {};

  Broken() : config(ReadJson(ReferenceFolder("gpt2") + "/config.json")) {
    const SafetensorsFile file(ReferenceFolder("gpt2") + "/model.safetensors");
    for (const SafetensorsEntry& entry : file.header().entries) {
      std::string& content = bytes[entry.name];
      content.resize(entry.end - entry.begin);
      file.Read(entry, 0, std::as_writable_bytes(std::span(content)));
      Add(entry.name, entry.dtype, entry.shape);
    }
  }

  void Add(const std::string& name, const std::string& dtype, const std::vector<int64_t>& shape) {
    std::string& content = bytes[name];
    content.resize(TensorBytes(dtype, shape).value_or(0));
    tensors.push_back({name, dtype, shape, std::as_bytes(std::span(content))});
  }
  SafetensorsTensor& At(const std::string& name) {
    return *std::ranges::find(tensors, name, &SafetensorsTensor::name);
  }
  void Write(const std::string& folder) const {
    fs::create_directories(folder);
    WriteFileAtomically(folder + "/config.json", config.dump());
    WriteSafetensors(folder + "/model.safetensors", tensors);
    after(folder);
  }
};

struct BrokenCase {
  const char* name;
  std::function<void(Broken&)> break_it;
  std::vector<const char*> says;

  friend void PrintTo(const BrokenCase& wrong, std::ostream* out) { *out << wrong.name; }
};

// Sets a field of config.json.
template <typename T>
std::function<void(Broken&)> Set(const char* field, T value) {
  return [=](Broken& broken) { broken.config[field] = value; };
}

std::function<void(Broken&)> Text(const char* file, const char* text) {
  return [=](Broken& broken) {
    broken.after = [=](const std::string& folder) {
      WriteFileAtomically(folder + "/" + file, std::string_view(text));
    };
  };
}

// Moves the weights into "a.safetensors", which an index places as `map` says.
std::function<void(Broken&)> Index(const char* map) {
  return [=](Broken& broken) {
    broken.after = [=](const std::string& folder) {
      fs::rename(folder + "/model.safetensors", folder + "/a.safetensors");
      WriteFileAtomically(folder + "/model.safetensors.index.json", std::string_view(map));
    };
  };
}

class BrokenTest : public ::testing::TestWithParam<BrokenCase> {};

TEST_P(BrokenTest, IsRefusedBeforeAnythingIsWritten) {
  const TemporaryFolder scratch;
  Broken broken;
  GetParam().break_it(broken);
  broken.Write(scratch / "folder");
  try {
    ImportHuggingFace(scratch / "folder", scratch / "checkpoint");
    FAIL() << "was imported";
  } catch (const Error& error) {
    EXPECT_THAT(error.kind(), ::testing::AnyOf(ErrorKind::kCheckpoint, ErrorKind::kIo));
    EXPECT_THAT(error.what(), HasSubstr("/folder"));
    for (const char* part : GetParam().says) EXPECT_THAT(error.what(), HasSubstr(part));
  }
  EXPECT_FALSE(fs::exists(scratch / "checkpoint"));
}

std::string CaseName(const ::testing::TestParamInfo<BrokenCase>& info) { return info.param.name; }

INSTANTIATE_TEST_SUITE_P(
    Config, BrokenTest,
    ::testing::Values(
        BrokenCase{"Llama", Set("model_type", "llama"), {"config.json: model_type", "llama"}},
        BrokenCase{"NoType", [](Broken& b) { b.config.erase("model_type"); }, {"model_type: is"}},
        BrokenCase{"Relu",
                   Set("activation_function", "relu"),
                   {"config.json: activation_function: is \"relu\"", "gelu_new"}},
        BrokenCase{"ExactGelu", Set("activation_function", "gelu"), {"activation_function"}},
        BrokenCase{"InverseLayer",
                   Set("scale_attn_by_inverse_layer_idx", true),
                   {"config.json: scale_attn_by_inverse_layer_idx: is true"}},
        BrokenCase{"Unscaled", Set("scale_attn_weights", false), {"scale_attn_weights: is false"}},
        BrokenCase{"CrossAttention", Set("add_cross_attention", true), {"add_cross_attention"}},
        BrokenCase{"Quantized",
                   Set("quantization_config", Json{{"bits", 4}}),
                   {"quantization_config: is an object"}},
        BrokenCase{"Dropouts", Set("embd_pdrop", 0.3), {"config.json: embd_pdrop", "resid_pdrop"}},
        BrokenCase{"AllDropped",
                   [](Broken& b) { b.config["embd_pdrop"] = b.config["resid_pdrop"] = 1.0; },
                   {"config.json: resid_pdrop", "out of range"}},
        BrokenCase{"NoWidth", [](Broken& b) { b.config.erase("n_embd"); }, {"n_embd: is missing"}},
        BrokenCase{"NegativeLayers", Set("n_layer", -3), {"n_layer: -3 is not an integer"}},
        BrokenCase{"FractionOfALayer", Set("n_layer", 2.5), {"n_layer: 2.5 is not an integer"}},
        BrokenCase{"HugeVocabulary", Set("vocab_size", 1e18), {"vocab_size"}},
        BrokenCase{"TextForANumber", Set("n_positions", "19"), {"n_positions: \"19\" is not"}},
        BrokenCase{"ManyLayers", Set("n_layer", 1000000), {"n_layer", "12000004 tensors"}},
        BrokenCase{"Wide", Set("n_embd", int64_t{1} << 30), {"config.json: n_embd", "parameters"}},
        BrokenCase{"OddHeads", Set("n_head", 5), {"config.json: n_", "48", "5"}},
        BrokenCase{"Epsilon",
                   Set("layer_norm_epsilon", 0.0),
                   {"config.json: layer_norm_epsilon", "out of range"}},
        BrokenCase{"NoJson", Text("config.json", "{\"n_embd\": 48,"), {"config.json: byte 15"}},
        BrokenCase{"ZeroByte",
                   [](Broken& b) {
                     b.after = [](const std::string& folder) {
                       std::ofstream(folder + "/config.json", std::ios::app) << '\0';
                     };
                   },
                   {"config.json", "zero byte"}},
        BrokenCase{"NoObject", Text("config.json", "[1]"), {"config.json: is not a JSON object"}},
        BrokenCase{"TwiceTheKey",
                   Text("config.json", R"({"n_embd": 48, "n_embd": 49})"),
                   {"config.json: has the key `n_embd` twice"}},
        BrokenCase{"Deep",
                   [](Broken& b) {
                     b.after = [](const std::string& folder) {
                       WriteFileAtomically(folder + "/config.json", std::string(100000, '['));
                     };
                   },
                   {"config.json: is nested more than 64"}},
        BrokenCase{"HugeNumber", Text("config.json", R"({"n_embd": 1e999})"), {"config.json"}},
        BrokenCase{"LargeFile",
                   [](Broken& b) {
                     b.after = [](const std::string& folder) {
                       fs::resize_file(folder + "/config.json", 2 << 20);
                     };
                   },
                   {"config.json: has 2097152 bytes"}},
        BrokenCase{"NoConfig",
                   [](Broken& b) {
                     b.after = [](const std::string& f) { fs::remove(f + "/config.json"); };
                   },
                   {"config.json", "No such file"}}),
    CaseName);

INSTANTIATE_TEST_SUITE_P(
    Tensors, BrokenTest,
    ::testing::Values(
        BrokenCase{
            "OtherWidth",
            Set("n_embd", 44),
            {"model.safetensors: tensor `transformer.wte.weight` is F32 [61,48]", "[61,44]"}},
        BrokenCase{"MoreLayers", Set("n_layer", 4), {"n_layer: 4 layers are 52 tensors", "40"}},
        BrokenCase{"FewerLayers",
                   Set("n_layer", 2),
                   {"tensor `transformer.h.2.", "has no place in a GPT-2 of 2 layers"}},
        BrokenCase{"Missing",
                   [](Broken& b) {
                     std::erase_if(b.tensors, [](const auto& t) {
                       return t.name == "transformer.h.1.mlp.c_fc.bias";
                     });
                     b.Add("transformer.h.7.attn.bias", "F32", {1});
                   },
                   {"has no tensor transformer.h.1.mlp.c_fc.bias"}},
        BrokenCase{"Unknown",
                   [](Broken& b) {
                     b.Add("score.weight", "F32", {2, 48});
                   },
                   {"tensor `score.weight` has no place"}},
        BrokenCase{"Transposed",
                   [](Broken& b) {
                     std::swap(b.At("transformer.h.0.mlp.c_fc.weight").shape[0],
                               b.At("transformer.h.0.mlp.c_fc.weight").shape[1]);
                   },
                   {"`transformer.h.0.mlp.c_fc.weight` is F32 [192,48]", "[48,192]"}},
        BrokenCase{"Integers",
                   [](Broken& b) { b.At("transformer.ln_f.bias").dtype = "I32"; },
                   {"`transformer.ln_f.bias` is I32 [48]"}},
        BrokenCase{"TwoNames",
                   [](Broken& b) { b.Add("ln_f.bias", "F32", {48}); },
                   {"`transformer.ln_f.bias`", "`ln_f.bias`"}},
        BrokenCase{"OwnOutputLayer",
                   [](Broken& b) {
                     b.bytes["lm_head.weight"] = b.bytes["transformer.wte.weight"];
                     b.bytes["lm_head.weight"].back() ^= 1;
                     b.Add("lm_head.weight", "F32", {61, 48});
                   },
                   {"`lm_head.weight` differs from the token embedding"}},
        BrokenCase{"OutputLayerOfAnotherShape",
                   [](Broken& b) {
                     b.Add("lm_head.weight", "F32", {48, 61});
                   },
                   {"`lm_head.weight` is F32 [48,61]", "[61,48]"}},
        BrokenCase{"UntiedWithoutOutputLayer",
                   Set("tie_word_embeddings", false),
                   {"config.json: tie_word_embeddings", "lm_head.weight"}},
        BrokenCase{"Truncated",
                   [](Broken& b) {
                     b.after = [](const std::string& folder) {
                       fs::resize_file(folder + "/model.safetensors", 300000);
                     };
                   },
                   {"model.safetensors: has", "bytes of data"}},
        BrokenCase{"Pipe",
                   [](Broken& b) {
                     b.after = [](const std::string& folder) {
                       fs::remove(folder + "/model.safetensors");
                       ASSERT_EQ(mkfifo((folder + "/model.safetensors").c_str(), 0600), 0);
                     };
                   },
                   {"model.safetensors: is not a regular file"}},
        BrokenCase{"OnlyPickles",
                   [](Broken& b) {
                     b.after = [](const std::string& folder) {
                       fs::rename(folder + "/model.safetensors", folder + "/pytorch_model.bin");
                     };
                   },
                   {"has neither model.safetensors nor", "safe_serialization=True"}}),
    CaseName);

INSTANTIATE_TEST_SUITE_P(
    Shards, BrokenTest,
    ::testing::Values(
        BrokenCase{"Escape",
                   Index(R"({"weight_map": {"transformer.wte.weight": "../a.safetensors"}})"),
                   {"index.json: weight_map", "`../a.safetensors` is not the plain name"}},
        BrokenCase{"Absolute",
                   Index(R"({"weight_map": {"transformer.wte.weight": "/a.safetensors"}})"),
                   {"is not the plain name"}},
        BrokenCase{"Hidden",
                   Index(R"({"weight_map": {"transformer.wte.weight": ".a.safetensors"}})"),
                   {"is not the plain name"}},
        BrokenCase{"ZeroInName",
                   Index(R"({"weight_map": {"wte.weight": "a\u0000.safetensors"}})"),
                   {"is not the plain name"}},
        BrokenCase{"NoName",
                   Index(R"({"weight_map": {"transformer.wte.weight": 7}})"),
                   {"is not the plain name"}},
        BrokenCase{"NoMap", Index(R"({"metadata": {}})"), {"index.json: has no weight_map"}},
        BrokenCase{"EmptyMap", Index(R"({"weight_map": {}})"), {"index.json: has no weight_map"}},
        BrokenCase{"NotPlaced",
                   Index(R"({"weight_map": {"transformer.wte.weight": "a.safetensors"}})"),
                   {"a.safetensors: holds tensor", "does not place there"}},
        BrokenCase{"NotHeld",
                   [](Broken& b) {
                     b.tensors.resize(1);
                     Index(R"({"weight_map": {"transformer.h.0.attn.c_attn.bias": "a.safetensors",
                               "transformer.wte.weight": "a.safetensors"}})")(b);
                   },
                   {"index.json: places tensor `transformer.wte.weight`", "does not hold it"}},
        BrokenCase{"NoFile",
                   Index(R"({"weight_map": {"transformer.wte.weight": "b.safetensors"}})"),
                   {"b.safetensors", "No such file"}}),
    CaseName);

TEST(HuggingFaceTest, TakesWhatOlderVersionsStoreBeside) {
  const TemporaryFolder scratch;
  Broken folder;
  for (int layer = 0; layer < 3; ++layer) {
    folder.Add(fmt::format("transformer.h.{}.attn.bias", layer), "BOOL", {1, 1, 19, 19});
    folder.Add(fmt::format("transformer.h.{}.attn.masked_bias", layer), "F32", {});
  }
  folder.bytes["lm_head.weight"] = folder.bytes["transformer.wte.weight"];
  folder.Add("lm_head.weight", "F32", {61, 48});
  // A tied matrix may be said to be apart where it is not.
  folder.config["tie_word_embeddings"] = false;
  folder.Write(scratch / "folder");
  ImportHuggingFace(scratch / "folder", scratch / "checkpoint");
  ExportHuggingFace(scratch / "checkpoint", scratch / "copy", {});
  EXPECT_TRUE(Contents(scratch / "copy") == Contents(ReferenceFolder("gpt2")));
}

TEST(HuggingFaceTest, WritesToNewFoldersOnly) {
  const TemporaryFolder scratch;
  const std::string reference = ReferenceFolder("gpt2");
  fs::create_directories(scratch / "empty");
  ImportHuggingFace(reference, scratch / "empty");
  for (const auto& attempt :
       {std::function<void()>([&] { ImportHuggingFace(reference, scratch / "empty"); }),
        std::function<void()>([&] { ExportHuggingFace(scratch / "empty", scratch / "empty", {}); }),
        std::function<void()>([&] { ImportHuggingFace(reference, scratch / "step-00000003"); })}) {
    try {
      attempt();
      ADD_FAILURE() << "was written to";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kUsage) << error.what();
    }
  }
  EXPECT_TRUE(VerifyCheckpoint(scratch / "empty", VerifyLevel::kFull).empty());
  // A step folder of iteration 0 is what it is called.
  ImportHuggingFace(reference, scratch / "run/checkpoints/step-00000000/");
  EXPECT_EQ(LoadedModel(scratch / "run", {}).iteration(), 0);
}

}  // namespace
}  // namespace cairn
