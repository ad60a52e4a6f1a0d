#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <memory>

#include "launcher/commands/arguments.h"
#include "launcher/commands/ckpt_output.h"
#include "launcher/commands/ckpt_rewrite.h"
#include "launcher/reshard.h"

namespace cairn {
namespace {

struct LayoutFlag {
  const char* name;
  const char* description;
};

constexpr std::array<LayoutFlag, 5> kLayoutFlags = {{
    {"tensor-model-parallel-size", "ranks that share each layer's matrices"},
    {"pipeline-model-parallel-size", "stages that the stack of layers is cut into"},
    {"data-parallel-sharding-strategy", "no_shard or optim"},
    {"sequence-parallel", "true or false"},
    {"micro-batch-size", "where the layout asks for another"},
}};

struct ReshardArguments {
  std::string checkpoint;
  std::string target;
  std::array<std::string, kLayoutFlags.size()> layout;
  int data_parallel_size = 1;
  uint64_t memory_limit = uint64_t{256} << 20;
  bool as_json = false;
};

// "--a-b,--a_b": both are accepted.
std::string Spellings(const std::string& name) {
  std::string other = name;
  std::ranges::replace(other, '-', '_');
  return fmt::format("--{},--{}", name, other);
}

void Run(const ReshardArguments& arguments) {
  std::vector<std::string> words;
  for (size_t i = 0; i < kLayoutFlags.size(); ++i) {
    if (arguments.layout[i].empty()) continue;
    words.push_back(fmt::format("--{}={}", kLayoutFlags[i].name, arguments.layout[i]));
  }
  ReshardRequest request;
  request.checkpoint = ResolveAndReport(arguments.checkpoint);
  request.target = arguments.target;
  request.layout = ParseOverrides(words);
  request.data_parallel_size = arguments.data_parallel_size;
  request.memory_limit = arguments.memory_limit;
  const ReshardReport report = Reshard(request);
  if (arguments.as_json) {
    return PrintJson({{"checkpoint", request.checkpoint},
                      {"new", request.target},
                      {"tensor_model_parallel_size", report.shape.tp},
                      {"pipeline_model_parallel_size", report.shape.pp},
                      {"data_parallel_size", report.shape.dp},
                      {"files", report.files},
                      {"bytes_written", report.bytes_written},
                      {"bytes_read", report.bytes_read},
                      {"memory_limit_bytes", request.memory_limit},
                      {"peak_memory_bytes", report.peak_memory}});
  }
  PrintText(fmt::format("{}: {}, {} in {} files; read {}, at most {} of memory\n", request.target,
                        report.shape.ToString(), HumanBytes(report.bytes_written), report.files,
                        HumanBytes(report.bytes_read), HumanBytes(report.peak_memory)));
}

}  // namespace

void AddReshard(CLI::App& ckpt) {
  auto arguments = std::make_shared<ReshardArguments>();
  CLI::App* const command =
      ckpt.add_subcommand("reshard", "write a checkpoint anew as another layout would save it");
  command
      ->add_option("CHECKPOINT", arguments->checkpoint,
                   "a step folder, or a run folder (its newest good one)")
      ->required()
      ->type_name("");
  command->add_option("NEW", arguments->target, "the step folder to write; must not exist yet")
      ->required()
      ->type_name("");
  for (size_t i = 0; i < kLayoutFlags.size(); ++i) {
    command
        ->add_option(Spellings(kLayoutFlags[i].name), arguments->layout[i],
                     fmt::format("{} (default: as saved)", kLayoutFlags[i].description))
        ->type_name("VALUE");
  }
  command
      ->add_option(Spellings("data-parallel-size"), arguments->data_parallel_size,
                   "replicas, which share out the optimizer's state under optim")
      ->check(InRange(1, 1 << 20))
      ->capture_default_str()
      ->type_name("N");
  command
      ->add_option(Spellings("memory-limit"), arguments->memory_limit,
                   "memory to stay below, whatever the checkpoint's size (default: 256MiB)")
      ->transform(CLI::AsSizeValue(true).description(""))
      ->type_name("BYTES");
  command->add_flag("--json", arguments->as_json, "print JSON");
  command->callback([arguments] { Run(*arguments); });
}

}  // namespace cairn
