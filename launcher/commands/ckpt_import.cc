#include <fmt/format.h>

#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "launcher/commands/ckpt_hugging_face.h"
#include "launcher/commands/ckpt_output.h"
#include "launcher/hugging_face_import.h"

namespace cairn {
namespace {

struct ImportArguments {
  std::string folder;
  std::string checkpoint;
  bool as_json = false;
};

void Import(const ImportArguments& arguments) {
  const std::string& checkpoint = arguments.checkpoint;
  const HuggingFaceImport result = ImportHuggingFace(arguments.folder, checkpoint);
  std::vector<std::string> next = {fmt::format("cairn eval {} --data PREFIX", checkpoint)};
  if (!result.tokenizer.empty()) {
    next.push_back(fmt::format("cairn generate {} --prompt TEXT", checkpoint));
  }
  next.push_back(fmt::format("cairn train {} load={} data_path=PREFIX run_dir=RUN",
                             result.config_file, checkpoint));
  if (!result.tokenizer_note.empty()) {
    fmt::print(stderr, "no tokenizer: {}\n", result.tokenizer_note);
  }
  if (arguments.as_json) {
    Json tokenizer = nullptr;
    if (!result.tokenizer.empty()) tokenizer = result.tokenizer;
    PrintJson({{"folder", arguments.folder},
               {"checkpoint", checkpoint},
               {"iteration", 0},
               {"config", result.config_file},
               {"tokenizer", tokenizer},
               {"tensors", result.tensors},
               {"parameters", result.parameters},
               {"bytes", result.bytes},
               {"next", next}});
    return;
  }
  std::string text =
      fmt::format("{}: {} tensors, {} parameters, {}\n\nnow, for example\n", checkpoint,
                  result.tensors, result.parameters, HumanBytes(result.bytes));
  for (const std::string& command : next) text += "  " + command + "\n";
  PrintText(text);
}

}  // namespace

void AddCkptImport(CLI::App& ckpt) {
  auto arguments = std::make_shared<ImportArguments>();
  CLI::App* const command =
      ckpt.add_subcommand("import", "make a checkpoint of a Hugging Face GPT-2 folder");
  command
      ->add_option("DIR", arguments->folder, "config.json and safetensors, as transformers writes")
      ->required()
      ->type_name("");
  command
      ->add_option("CHECKPOINT", arguments->checkpoint, "a folder that does not exist, or is empty")
      ->required()
      ->type_name("");
  command->add_flag("--json", arguments->as_json, "print JSON");
  command->callback([arguments] { Import(*arguments); });
}

}  // namespace cairn
