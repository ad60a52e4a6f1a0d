#include "launcher/commands/eval_command.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "launcher/commands/arguments.h"
#include "launcher/inference.h"
#include "runtime/data/gpt_dataset.h"
#include "runtime/telemetry/format.h"

namespace cairn {
namespace {

struct EvalArguments {
  std::string checkpoint;
  std::string data;
  std::string split = "valid";
  int64_t max_samples = 0;
  bool json = false;
};

int Eval(const EvalArguments& arguments, const Program& program) {
  LoadedModel model(arguments.checkpoint, program);
  const TrainConfig& config = model.config();
  GptDatasetOptions options;
  options.seq_length = config.model().seq_length();
  options.vocab_size = config.model().vocab_size();
  options.seed = static_cast<uint32_t>(config.train().seed());
  options.split_weights = arguments.split == "all" ? "1" : config.data().split();
  options.split = arguments.split == "valid"  ? DatasetSplit::kValid
                  : arguments.split == "test" ? DatasetSplit::kTest
                                              : DatasetSplit::kTrain;
  const GptDataset data(std::make_shared<const IndexedDataset>(arguments.data), options);
  int64_t samples = data.size();
  if (arguments.max_samples > 0) samples = std::min(samples, arguments.max_samples);
  const int64_t seq = options.seq_length;
  const int64_t batch = std::max<int64_t>(1, config.train().micro_batch_size());
  double sum = 0;
  std::vector<int32_t> sample(seq + 1);
  for (int64_t begin = 0; begin < samples; begin += batch) {
    std::vector<int32_t> tokens;
    std::vector<int32_t> targets;
    for (int64_t i = begin; i < std::min(begin + batch, samples); ++i) {
      data.Get(i, sample);
      tokens.insert(tokens.end(), sample.begin(), sample.end() - 1);
      targets.insert(targets.end(), sample.begin() + 1, sample.end());
    }
    sum += model.SumOfLosses(tokens, targets);
  }
  const int64_t tokens = samples * seq;
  const double loss = sum / static_cast<double>(tokens);
  if (arguments.json) {
    const nlohmann::json out = {
        {"lm_loss", loss}, {"perplexity", std::exp(loss)}, {"tokens", tokens}};
    fmt::print("{}\n", out.dump());
  } else {
    fmt::print("loss {:.4f}, perplexity {:.2f} over {} tokens\n", loss, std::exp(loss),
               FormatThousands(tokens));
  }
  return kExitOk;
}

}  // namespace

void AddEvalCommand(CLI::App& app, const Program& program, int& exit_status) {
  auto arguments = std::make_shared<EvalArguments>();
  CLI::App* command = app.add_subcommand("eval", "measure a model's loss on a dataset");
  command
      ->add_option("CHECKPOINT", arguments->checkpoint,
                   "a step folder, a run folder, or a config (its untrained weights)")
      ->required()
      ->type_name("");
  command->add_option("--data", arguments->data, "prefix of an indexed dataset")
      ->required()
      ->type_name("PREFIX");
  command
      ->add_option("--split", arguments->split,
                   "part of the data, by the checkpoint's data.split, or all of it")
      ->check(CLI::IsMember({"train", "valid", "test", "all"}).description(""))
      ->type_name("train|valid|test|all")
      ->capture_default_str();
  command->add_option("--max-samples", arguments->max_samples, "stop after so many; 0: all")
      ->check(AtLeast<int64_t>(0))
      ->type_name("N")
      ->capture_default_str();
  command->add_flag("--json", arguments->json, "print JSON");
  command->callback([=, &program, &exit_status] { exit_status = Eval(*arguments, program); });
}

}  // namespace cairn
