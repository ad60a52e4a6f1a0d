#include "launcher/commands/generate_command.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "launcher/commands/arguments.h"
#include "launcher/inference.h"
#include "launcher/sampling.h"
#include "runtime/tensor/random.h"

namespace cairn {
namespace {

struct GenerateArguments {
  std::string checkpoint;
  std::string prompt;
  int64_t max_new_tokens = 100;
  SamplingOptions sampling;
  int64_t seed = 1234;
  bool json = false;
};

int Generate(const GenerateArguments& arguments, const Program& program) {
  LoadedModel model(arguments.checkpoint, program);
  if (!model.config().data().has_tokenizer()) {
    Throw(ErrorKind::kConfig, arguments.checkpoint, "its config names no data.tokenizer");
  }
  const auto tokenizer = LoadTokenizer(model.config().data().tokenizer());
  std::vector<int32_t> tokens = tokenizer->Encode(arguments.prompt);
  if (tokens.empty()) {
    // An empty prompt is the start of a document.
    tokens.push_back(std::max(0, tokenizer->end_of_text()));
  }
  const auto window = static_cast<size_t>(model.config().model().seq_length());
  const size_t prompt_tokens = tokens.size();
  const RandomKey key{static_cast<uint64_t>(arguments.seed), 0, 0};
  for (int64_t i = 0; i < arguments.max_new_tokens; ++i) {
    const std::span<const int32_t> all(tokens);
    const std::vector<float> logits = model.NextLogits(all.last(std::min(window, tokens.size())));
    const double uniform = RandomWord(key, static_cast<uint64_t>(i)) * 0x1p-32;
    const int32_t next = SampleToken(logits, arguments.sampling, uniform);
    if (next == tokenizer->end_of_text() || next >= tokenizer->vocab_size()) break;
    tokens.push_back(next);
  }
  const std::span<const int32_t> generated = std::span(tokens).subspan(prompt_tokens);
  const std::string text = tokenizer->Decode(generated);
  if (arguments.json) {
    nlohmann::json out = {{"prompt", arguments.prompt},
                          {"text", text},
                          {"tokens", generated.size()},
                          {"iteration", model.iteration()}};
    fmt::print("{}\n", out.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
  } else {
    fmt::print("{}{}\n", arguments.prompt, text);
  }
  return kExitOk;
}

}  // namespace

void AddGenerateCommand(CLI::App& app, const Program& program, int& exit_status) {
  auto arguments = std::make_shared<GenerateArguments>();
  CLI::App* command = app.add_subcommand("generate", "continue a text with a trained model");
  command
      ->add_option("CHECKPOINT", arguments->checkpoint,
                   "a step folder, a run folder, or a config (its untrained weights)")
      ->required()
      ->type_name("");
  command->add_option("--prompt", arguments->prompt, "text to continue")->type_name("TEXT");
  command->add_option("--max-new-tokens", arguments->max_new_tokens, "length of the continuation")
      ->check(InRange<int64_t>(1, 1 << 20))
      ->type_name("N")
      ->capture_default_str();
  command->add_option("--top-k", arguments->sampling.top_k, "sample from the k likeliest; 0: all")
      ->check(AtLeast<int64_t>(0))
      ->type_name("K")
      ->capture_default_str();
  command->add_option("--top-p", arguments->sampling.top_p, "sample from the likeliest p")
      ->check(InRange(0.0, 1.0))
      ->type_name("P")
      ->capture_default_str();
  command->add_option("--temperature", arguments->sampling.temperature, "0: the likeliest token")
      ->check(AtLeast(0.0))
      ->type_name("T")
      ->capture_default_str();
  command->add_option("--seed", arguments->seed, "the same seed gives the same text")
      ->check(AtLeast<int64_t>(0))
      ->type_name("S")
      ->capture_default_str();
  command->add_flag("--json", arguments->json, "print JSON");
  command->callback([=, &program, &exit_status] { exit_status = Generate(*arguments, program); });
}

}  // namespace cairn
