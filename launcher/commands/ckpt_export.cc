#include <fmt/format.h>

#include <cstdio>
#include <map>
#include <memory>
#include <string>

#include "launcher/commands/arguments.h"
#include "launcher/commands/ckpt_hugging_face.h"
#include "launcher/commands/ckpt_output.h"
#include "launcher/hugging_face_export.h"
#include "launcher/tensor_stream.h"

namespace cairn {
namespace {

struct ExportArguments {
  std::string checkpoint;
  std::string folder;
  std::string dtype = "F32";
  uint64_t max_shard_bytes = uint64_t{5} << 30;
  bool as_json = false;
};

void Export(const ExportArguments& arguments) {
  HuggingFaceExportOptions options;
  options.dtype = FloatingDType(arguments.dtype).value_or(DType::kFloat32);
  options.max_shard_bytes = arguments.max_shard_bytes;
  const std::string checkpoint = ResolveAndReport(arguments.checkpoint);
  const HuggingFaceExport result = ExportHuggingFace(checkpoint, arguments.folder, options);
  uint64_t bytes = 0;
  for (const HuggingFaceExport::File& file : result.files) bytes += file.bytes;
  if (!result.tokenizer_note.empty()) {
    fmt::print(stderr, "no tokenizer: {}\n", result.tokenizer_note);
  }
  if (arguments.as_json) {
    Json files = Json::array();
    for (const HuggingFaceExport::File& file : result.files) {
      files.push_back({{"name", file.name}, {"bytes", file.bytes}});
    }
    PrintJson({{"checkpoint", checkpoint},
               {"folder", arguments.folder},
               {"dtype", arguments.dtype},
               {"tensors", result.tensors},
               {"parameters", result.parameters},
               {"bytes", bytes},
               {"files", files},
               {"tokenizer", result.tokenizer_note.empty()}});
    return;
  }
  Table table({"file", ">size"});
  for (const HuggingFaceExport::File& file : result.files) {
    table.AddRow({file.name, HumanBytes(file.bytes)});
  }
  PrintText(fmt::format("{}: {} tensors, {} parameters, {}\n\n{}", arguments.folder, result.tensors,
                        result.parameters, HumanBytes(bytes), table.Render()));
}

}  // namespace

void AddCkptExport(CLI::App& ckpt) {
  auto arguments = std::make_shared<ExportArguments>();
  CLI::App* const command =
      ckpt.add_subcommand("export", "write a checkpoint as a Hugging Face folder");
  command
      ->add_option("CHECKPOINT", arguments->checkpoint,
                   "a step folder, or a run folder (its newest good one)")
      ->required()
      ->type_name("");
  command->add_option("DIR", arguments->folder, "a folder that does not exist, or is empty")
      ->required()
      ->type_name("");
  command->add_option("--dtype", arguments->dtype, "what the files hold")
      ->check(CLI::IsMember({"F32", "BF16", "F16"}).description(""))
      ->type_name("F32|BF16|F16")
      ->capture_default_str();
  command
      ->add_option("--max-shard-size", arguments->max_shard_bytes,
                   "largest file of weights, such as 500MB or 5GiB (the default)")
      ->transform(CLI::AsSizeValue(true).description(""))
      ->check(AtLeast<uint64_t>(1))
      ->type_name("SIZE");
  command->add_flag("--json", arguments->as_json, "print JSON");
  command->callback([arguments] { Export(*arguments); });
}

}  // namespace cairn
