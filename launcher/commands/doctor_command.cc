#include "launcher/commands/doctor_command.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "launcher/commands/doctor_checks.h"
#include "runtime/base/error.h"

namespace cairn {

void DoctorCheck::Raise(Status raised, std::string_view what_to_do) {
  status = std::max(status, raised);
  if (!advice.empty()) advice += "; ";
  advice += what_to_do;
}

namespace {

using Status = DoctorCheck::Status;

const char* StatusName(Status status) {
  switch (status) {
    case Status::kOk:
      return "ok";
    case Status::kWarn:
      return "warn";
    case Status::kFail:
      return "FAIL";
  }
  return "FAIL";
}

std::vector<DoctorCheck> RunChecks() {
  std::vector<DoctorCheck> checks = CheckMpi();  // first: while there is one thread
  const auto append = [&checks](std::vector<DoctorCheck> more) {
    std::move(more.begin(), more.end(), std::back_inserter(checks));
  };
  std::vector<DoctorCheck> host = CheckHost();
  checks.insert(checks.begin(), std::make_move_iterator(host.begin()),
                std::make_move_iterator(host.end()));
  append(CheckInstructions());
  append(CheckGpus());
  append(CheckLibraries());
  return checks;
}

void PrintText(const std::vector<DoctorCheck>& checks) {
  size_t width = 0;
  for (const DoctorCheck& check : checks) width = std::max(width, check.name.size());
  for (const DoctorCheck& check : checks) {
    fmt::print("{:<4}  {:<{}}  {}\n", StatusName(check.status), check.name, width, check.text);
    if (!check.advice.empty()) fmt::print("{:<{}}  -> {}\n", "", width + 6, check.advice);
  }
}

void PrintJson(const std::vector<DoctorCheck>& checks, bool able) {
  nlohmann::ordered_json report = {{"able_to_train", able},
                                   {"checks", nlohmann::ordered_json::array()}};
  for (const DoctorCheck& check : checks) {
    std::string status = StatusName(check.status);
    if (check.status == Status::kFail) status = "fail";
    report["checks"].push_back({{"name", check.name},
                                {"status", status},
                                {"text", check.text},
                                {"advice", check.advice},
                                {"facts", check.facts}});
  }
  fmt::print("{}\n", report.dump(1, ' ', false, nlohmann::json::error_handler_t::replace));
}

ExitStatus Doctor(bool json) {
  if (!IsFirstOnHost()) return kExitOk;
  const std::vector<DoctorCheck> checks = RunChecks();
  const bool able = std::none_of(checks.begin(), checks.end(), [](const DoctorCheck& check) {
    return check.status == Status::kFail;
  });
  if (json) {
    PrintJson(checks, able);
  } else {
    PrintText(checks);
    const auto warnings = std::count_if(checks.begin(), checks.end(), [](const DoctorCheck& check) {
      return check.status == Status::kWarn;
    });
    if (!able) {
      fmt::print("\nTraining cannot work here.\n");
    } else if (warnings > 0) {
      fmt::print("\nReady to train; {} thing{} could be better.\n", warnings,
                 warnings == 1 ? "" : "s");
    } else {
      fmt::print("\nReady to train.\n");
    }
  }
  return able ? kExitOk : kExitCheckFailed;
}

}  // namespace

void AddDoctorCommand(CLI::App& app, int& exit_status) {
  auto json = std::make_shared<bool>(false);
  CLI::App* command = app.add_subcommand("doctor", "say whether and how well this host can train");
  command->add_flag("--json", *json, "print JSON");
  command->callback([json, &exit_status] { exit_status = Doctor(*json); });
}

}  // namespace cairn
