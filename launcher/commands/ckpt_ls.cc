#include <fmt/format.h>

#include <cstdio>
#include <ctime>
#include <filesystem>
#include <system_error>

#include "launcher/commands/ckpt_output.h"
#include "launcher/commands/ckpt_subcommands.h"
#include "runtime/base/error.h"
#include "runtime/checkpoint/store.h"

namespace cairn {
namespace {

Style StateStyle(CheckpointState state) {
  switch (state) {
    case CheckpointState::kCommitted:
      return Style::kGood;
    case CheckpointState::kAborted:
      return Style::kWarning;
    case CheckpointState::kDamaged:
      return Style::kBad;
  }
  return Style::kPlain;
}

void List(const CkptOptions& options) {
  std::error_code ignored;
  if (!std::filesystem::is_directory(options.target, ignored)) {
    Throw(ErrorKind::kCheckpoint, options.target, "is no folder; a run was expected");
  }
  const std::vector<CheckpointInfo> infos = ListCheckpoints(options.target);
  const auto now = static_cast<int64_t>(std::time(nullptr));
  if (options.as_json) {
    Json json = Json::array();
    for (const CheckpointInfo& info : infos) {
      Json entry = {{"iteration", info.iteration},
                    {"state", CheckpointStateName(info.state)},
                    {"bytes", info.bytes},
                    {"files", info.files},
                    {"time", UtcTime(info.unix_time)},
                    {"age_seconds", now - info.unix_time},
                    {"path", info.path}};
      if (!info.problem.empty()) entry["problem"] = info.problem;
      json.push_back(std::move(entry));
    }
    PrintJson(json);
    return;
  }
  if (infos.empty()) {
    fmt::print(stderr, "{} has no checkpoints\n", options.target);
    return;
  }
  Table table({">iteration", "state", ">size", ">files", "written", ">age", "path"});
  for (const CheckpointInfo& info : infos) {
    table.AddRow({fmt::to_string(info.iteration),
                  {CheckpointStateName(info.state), StateStyle(info.state)},
                  HumanBytes(info.bytes),
                  fmt::to_string(info.files),
                  UtcTime(info.unix_time),
                  HumanAge(now - info.unix_time),
                  info.path});
  }
  PrintText(table.Render());
  for (const CheckpointInfo& info : infos) {
    if (!info.problem.empty()) fmt::print(stderr, "{}: {}\n", info.path, info.problem);
  }
}

}  // namespace

void AddCkptLs(CLI::App& ckpt) {
  const auto [ls, options] = AddCkptSubcommand<CkptOptions>(
      ckpt, "ls", "the checkpoints of a run, and what is wrong with them", "RUN", "a run folder");
  ls->callback([o = options] { List(*o); });
}

}  // namespace cairn
