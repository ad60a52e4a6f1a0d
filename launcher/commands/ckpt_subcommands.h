#pragma once

#include <fnmatch.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <string>
#include <utility>

#include "runtime/checkpoint/manifest.h"

// The subcommands of `cairn ckpt`: each function adds one or a few, and lives in the file that says
// what they do. They print to standard output, as text or as JSON, and touch nothing but what their
// description says.

namespace cairn {

void AddCkptLs(CLI::App& ckpt);
void AddCkptInfo(CLI::App& ckpt);
void AddCkptTensors(CLI::App& ckpt);
void AddCkptTree(CLI::App& ckpt);
void AddCkptShow(CLI::App& ckpt);
void AddCkptStats(CLI::App& ckpt);
void AddCkptLayout(CLI::App& ckpt);
void AddCkptId(CLI::App& ckpt);
void AddCkptDiff(CLI::App& ckpt, int& exit_status);
void AddCkptVerify(CLI::App& ckpt, int& exit_status);
void AddCkptWhyNot(CLI::App& ckpt, int& exit_status);
void AddCkptGc(CLI::App& ckpt);

/// What every subcommand is told; one with more options derives from it.
struct CkptOptions {
  std::string target;
  bool as_json = false;
};

/// Adds a subcommand with the two arguments that all share: its target, which is called
/// `target_name` ("RUN", "CHECKPOINT") and described by `target_help`, and --json. The options are
/// to be captured by its callback.
template <typename Options>
std::pair<CLI::App*, std::shared_ptr<Options>> AddCkptSubcommand(CLI::App& ckpt, const char* name,
                                                                 const char* description,
                                                                 const char* target_name,
                                                                 const char* target_help) {
  auto options = std::make_shared<Options>();
  CLI::App* const command = ckpt.add_subcommand(name, description);
  command->add_option("target", options->target, target_help)->required()->type_name(target_name);
  command->add_flag("--json", options->as_json, "print JSON");
  return {command, std::move(options)};
}

/// The same, for a target that is looked at whole.
template <typename Options>
std::pair<CLI::App*, std::shared_ptr<Options>> AddCkptSubcommand(CLI::App& ckpt, const char* name,
                                                                 const char* description) {
  return AddCkptSubcommand<Options>(ckpt, name, description, "CHECKPOINT",
                                    "a step folder, or a run folder (its newest good one)");
}

/// Which tensors a user means.
struct TensorFilter {
  std::string glob;  ///< of names; empty: all
  std::string kind;  ///< empty: all

  bool empty() const { return glob.empty() && kind.empty(); }
  bool Matches(const TensorEntry& tensor) const {
    return (kind.empty() || tensor.kind == kind) &&
           (glob.empty() || ::fnmatch(glob.c_str(), tensor.name.c_str(), 0) == 0);
  }
};

/// Adds --glob and --kind.
inline void AddTensorFilter(CLI::App& command, TensorFilter& filter) {
  command.add_option("--glob", filter.glob, "only names that match, as in a shell")
      ->type_name("PATTERN");
  command.add_option("--kind", filter.kind, "only this kind: weight, exp_avg, ...")
      ->type_name("KIND");
}

}  // namespace cairn
