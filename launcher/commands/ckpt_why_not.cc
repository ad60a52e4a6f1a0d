#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "launcher/checkpoint_fit.h"
#include "launcher/commands/ckpt_output.h"
#include "launcher/commands/ckpt_subcommands.h"
#include "runtime/base/error.h"
#include "runtime/checkpoint/commit.h"
#include "runtime/checkpoint/store.h"

namespace cairn {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxDamages = 10;

struct WhyNotOptions : CkptOptions {
  bool quick = false;
};

// What is said about a step folder, in sentences.
struct Answer {
  std::string directory;
  std::optional<std::string> newest_good;  ///< of the same run
  std::vector<std::string> reasons;        ///< why not; none if it is good
  std::vector<std::string> advice;
};

bool Has(const std::string& directory, const char* name) {
  std::error_code ignored;
  return fs::exists(fs::path(directory) / name, ignored);
}

// The step folder itself; of a run or checkpoints folder the newest, whatever its state.
std::string StepFolder(const std::string& path) {
  const std::vector<CheckpointInfo> infos = ListCheckpoints(path);
  return infos.empty() ? ResolveAndReport(path) : infos.back().path;
}

// The newest good checkpoint beside `directory`, which must be called as a step folder is.
std::optional<std::string> NewestGoodBeside(const std::string& directory) {
  std::error_code ignored;
  const fs::path step = fs::absolute(directory + "/", ignored).lexically_normal().parent_path();
  if (!ParseStepName(step.filename())) return std::nullopt;
  try {
    return ResolveCheckpoint(step.parent_path());
  } catch (const Error&) {
    return std::nullopt;
  }
}

void ExplainUnfinished(Answer& answer) {
  size_t files = 0;
  size_t parts = 0;
  for (const auto& entry : fs::directory_iterator(answer.directory)) {
    ++files;
    if (entry.path().extension() == ".part") ++parts;
  }
  answer.reasons.push_back(fmt::format(
      "The save was never finished: there is no {}, whose coming is the last step of a save. It is "
      "still under way, or was aborted. The folder has {} files, {} of them written in part.",
      kCommitFile, files, parts));
  answer.advice.emplace_back(
      "If no run is writing to it, the next save of this iteration replaces it, and `cairn ckpt gc "
      "RUN` removes it once a newer checkpoint is committed.");
}

void ExplainQuarantined(Answer& answer) {
  answer.reasons.push_back(
      fmt::format("It was found damaged and set aside: its {} was renamed to {}, so that no run "
                  "resumes from it.",
                  kCommitFile, kDamagedFile));
  answer.advice.push_back(
      fmt::format("With a good copy of its files, put them in place, rename {} to {} and ask "
                  "`cairn ckpt verify`. Without, remove the folder.",
                  kDamagedFile, kCommitFile));
}

void ExplainDamaged(Answer& answer, const std::vector<Damage>& damages) {
  for (size_t i = 0; i < std::min(damages.size(), kMaxDamages); ++i) {
    answer.reasons.push_back(fmt::format("It is damaged: {}.", Describe(damages[i])));
  }
  if (damages.size() > kMaxDamages) {
    answer.reasons.push_back(fmt::format("And {} more places; `cairn ckpt verify` lists them.",
                                         damages.size() - kMaxDamages));
  }
  answer.advice.emplace_back(
      "Copy the damaged files anew from where they are good, and ask `cairn ckpt verify`. A run "
      "with checkpoint.load=auto sets this checkpoint aside and takes an older one.");
}

// Of a sound checkpoint: what else a run needs.
void ExplainContent(Answer& answer) {
  const Manifest manifest = LoadManifest(answer.directory);
  const bool has_state = std::ranges::any_of(
      manifest.tensors, [](const TensorEntry& tensor) { return tensor.kind != kWeightKind; });
  if (!has_state && manifest.training_state.optimizer_steps > 0) {
    answer.reasons.push_back(
        fmt::format("It holds weights only, after {} steps of an optimizer whose state is missing.",
                    manifest.training_state.optimizer_steps));
    answer.advice.emplace_back("`cairn eval` and `cairn generate` can use it.");
  }
  try {
    ConfigOf(manifest, answer.directory);
  } catch (const Error& error) {
    answer.reasons.push_back(fmt::format("This program cannot read its config: {}.", error.what()));
    answer.advice.emplace_back("Use the version of the program that saved it.");
  }
}

Answer Explain(const WhyNotOptions& options) {
  Answer answer;
  answer.directory = StepFolder(options.target);
  std::vector<Damage> damages = VerifyCheckpoint(answer.directory, VerifyLevel::kQuick);
  if (damages.empty() && !options.quick) {
    damages = VerifyCheckpoint(answer.directory, VerifyLevel::kFull);
  }
  if (damages.empty()) {
    ExplainContent(answer);
  } else if (Has(answer.directory, kCommitFile)) {
    ExplainDamaged(answer, damages);
  } else if (Has(answer.directory, kDamagedFile)) {
    ExplainQuarantined(answer);
  } else {
    ExplainUnfinished(answer);
  }
  answer.newest_good = NewestGoodBeside(answer.directory);
  return answer;
}

bool WhyNot(const WhyNotOptions& options) {
  const Answer answer = Explain(options);
  const bool good = answer.reasons.empty();
  if (options.as_json) {
    PrintJson({{"checkpoint", answer.directory},
               {"resumable", good},
               {"reasons", answer.reasons},
               {"advice", answer.advice},
               {"newest_good", answer.newest_good ? Json(*answer.newest_good) : Json(nullptr)}});
    return good;
  }
  std::string text = fmt::format("{}: {}\n", answer.directory,
                                 good ? Styled("a run can resume from it", Style::kGood)
                                      : Styled("no run can resume from it", Style::kBad));
  for (const std::string& reason : answer.reasons) text += reason + "\n";
  for (const std::string& advice : answer.advice) text += advice + "\n";
  std::error_code ignored;
  if (answer.newest_good && !fs::equivalent(*answer.newest_good, answer.directory, ignored)) {
    text += fmt::format("checkpoint.load=auto takes {}, the newest good one at a quick look{}.\n",
                        *answer.newest_good, good ? "; name this folder to take it" : "");
  } else if (!good && !answer.newest_good) {
    text += "There is no good checkpoint beside it.\n";
  }
  PrintText(text);
  return good;
}

}  // namespace

void AddCkptWhyNot(CLI::App& ckpt, int& exit_status) {
  const auto [why_not, options] = AddCkptSubcommand<WhyNotOptions>(
      ckpt, "why-not", "why no run can resume from it, and what to do", "STEP",
      "a step folder, or a run folder (its newest, whatever its state)");
  why_not->add_flag("--quick", options->quick, "do not read the tensors' bytes");
  why_not->footer("Exit status 0 where a run can resume from it, 1 where not.");
  why_not->callback([o = options, &exit_status] {
    if (!WhyNot(*o)) exit_status = kExitCheckFailed;
  });
}

}  // namespace cairn
