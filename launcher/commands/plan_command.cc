#include "launcher/commands/plan_command.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "launcher/commands/arguments.h"
#include "launcher/commands/ckpt_output.h"
#include "launcher/goodput.h"

namespace cairn {
namespace {

struct PlanArguments {
  GoodputOptions goodput;
  double failures_per_day = 0;
  int64_t runs = 100;
  bool json = false;
};

// The mean of simulated runs, and the spread of their goodput.
struct Summary {
  GoodputResult mean;
  double lowest = 1;
  double highest = 0;
};

Summary Simulate(GoodputOptions options, int64_t runs) {
  Summary summary;
  for (int64_t run = 0; run < runs; ++run, ++options.seed) {
    const GoodputResult result = SimulateGoodput(options);
    summary.mean.useful += result.useful / static_cast<double>(runs);
    summary.mean.lost += result.lost / static_cast<double>(runs);
    summary.mean.stalled += result.stalled / static_cast<double>(runs);
    summary.mean.detecting += result.detecting / static_cast<double>(runs);
    summary.mean.restarting += result.restarting / static_cast<double>(runs);
    summary.mean.failures += result.failures;
    summary.lowest = std::min(summary.lowest, result.goodput());
    summary.highest = std::max(summary.highest, result.goodput());
  }
  summary.mean.failures /= runs;
  return summary;
}

// The given interval, and others around it that show whether it is well chosen.
std::vector<double> Intervals(double given) {
  return {given / 4, given / 2, given, given * 2, given * 4};
}

void PlanGoodput(PlanArguments arguments) {
  GoodputOptions& options = arguments.goodput;
  if (arguments.failures_per_day > 0) {
    options.failures_per_rank_day = arguments.failures_per_day / static_cast<double>(options.ranks);
  }
  Table table({">save every s", ">goodput", ">lowest", ">highest", ">failures", ">redone",
               ">stalled", ">detecting", ">restarting"});
  Json rows = Json::array();
  for (const double interval : Intervals(options.save_interval)) {
    GoodputOptions varied = options;
    varied.save_interval = interval;
    const Summary summary = Simulate(varied, arguments.runs);
    const GoodputResult& mean = summary.mean;
    const auto percent = [&](double seconds) {
      return fmt::format("{:.2f}%", 100 * seconds / mean.total());
    };
    table.AddRow({fmt::format("{:g}", interval), percent(mean.useful),
                  fmt::format("{:.2f}%", 100 * summary.lowest),
                  fmt::format("{:.2f}%", 100 * summary.highest), fmt::format("{}", mean.failures),
                  percent(mean.lost), percent(mean.stalled), percent(mean.detecting),
                  percent(mean.restarting)});
    rows.push_back({{"save_interval_seconds", interval},
                    {"goodput", mean.goodput()},
                    {"lowest", summary.lowest},
                    {"highest", summary.highest},
                    {"failures", mean.failures},
                    {"redone", mean.lost / mean.total()},
                    {"stalled", mean.stalled / mean.total()},
                    {"detecting", mean.detecting / mean.total()},
                    {"restarting", mean.restarting / mean.total()}});
  }
  if (arguments.json) return PrintJson(rows);
  PrintText(fmt::format("{} ranks for {:g} days, {:.2f} failures a day; mean of {} runs\n",
                        options.ranks, options.days,
                        options.failures_per_rank_day * static_cast<double>(options.ranks),
                        arguments.runs));
  PrintText(table.Render());
}

}  // namespace

void AddPlanCommand(CLI::App& app) {
  CLI::App* const plan = app.add_subcommand("plan", "what a run would cost, before it is one");
  plan->require_subcommand(1);
  CLI::App* const command = plan->add_subcommand(
      "goodput", "the share of time that trains, under the failures of a large cluster");
  auto arguments = std::make_shared<PlanArguments>();
  const auto seconds = [&](const char* name, double& value, const char* description) {
    command->add_option(name, value, description)
        ->check(InRange(0.0, 1e7))
        ->type_name("SECONDS")
        ->capture_default_str();
  };
  GoodputOptions& options = arguments->goodput;
  command->add_option("--ranks", options.ranks, "ranks of the run")
      ->check(InRange<int64_t>(1, 1 << 24))
      ->type_name("N")
      ->capture_default_str();
  command->add_option("--days", options.days, "how long it runs")
      ->check(InRange(0.01, 1e4))
      ->type_name("DAYS")
      ->capture_default_str();
  command
      ->add_option("--failures-per-day", arguments->failures_per_day,
                   "of all ranks together; unset: Llama 3's rate for so many ranks")
      ->check(InRange(1e-6, 1e5))
      ->type_name("F");
  command
      ->add_option("--save-interval", options.save_interval,
                   "training between two saves; a quarter to four times of it are shown")
      ->check(InRange(0.1, 1e7))
      ->type_name("SECONDS")
      ->capture_default_str();
  seconds("--save-stall", options.save_stall, "that a save holds the training up");
  seconds("--save-duration", options.save_duration, "from the start of a save to its commit");
  seconds("--detect-death", options.detect_death, "from a rank's death to the end of all");
  seconds("--detect-hang", options.detect_hang, "from a hang to the end of all ranks");
  seconds("--detect-silent", options.detect_silent, "between two comparisons of the replicas");
  seconds("--restart", options.restart, "from the end of all ranks to the first step");
  command->add_option("--runs", arguments->runs, "simulated runs")
      ->check(InRange<int64_t>(1, 100000))
      ->type_name("N")
      ->capture_default_str();
  command->add_option("--seed", options.seed, "the same seed gives the same runs")
      ->type_name("S")
      ->capture_default_str();
  command->add_flag("--json", arguments->json, "print JSON");
  command->callback([=] { PlanGoodput(*arguments); });
}

}  // namespace cairn
