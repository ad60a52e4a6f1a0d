#include <fmt/format.h>

#include <memory>

#include "launcher/commands/ckpt_output.h"
#include "launcher/commands/launch_actions.h"
#include "parallel/flight_files.h"

namespace cairn {
namespace {

// What a rank does, or did last.
std::string Whereabouts(const FlightRecord& record) {
  if (const FlightOperation* running = record.LongestRunning()) {
    return fmt::format("waits {:.1f} s in {}", running->seconds,
                       DescribeOperation(record, *running));
  }
  if (record.operations.empty()) return "has not communicated";
  return "last did " + DescribeOperation(record, record.operations.back());
}

void Explain(const std::string& run_dir, bool as_json) {
  const std::optional<std::string> stall = NewestStall(run_dir);
  if (!stall) {
    Throw(ErrorKind::kUsage, run_dir,
          "no start of this run has stalled (its flight/ tells of none)");
  }
  const StallEvidence evidence = ReadEvidence(*stall);
  const StallVerdict verdict = ExplainStall(evidence);
  Json ranks = Json::array();
  Table table({">rank", "host", "whereabouts"});
  for (size_t rank = 0; rank < evidence.records.size(); ++rank) {
    const auto& record = evidence.records[rank];
    const std::string where = record ? Whereabouts(*record) : "did not answer";
    table.AddRow({fmt::to_string(rank), evidence.hosts[rank], where});
    ranks.push_back({{"rank", rank},
                     {"host", evidence.hosts[rank]},
                     {"answered", record.has_value()},
                     {"whereabouts", where}});
  }
  if (as_json) {
    return PrintJson({{"flight", *stall},
                      {"suspects", verdict.suspects},
                      {"verdict", verdict.text},
                      {"ranks", ranks}});
  }
  PrintText(fmt::format("{}\n{}\n\n{}", *stall,
                        verdict.text.empty() ? "no rank waits for another" : verdict.text,
                        table.Render()));
}

}  // namespace

void AddLaunchExplain(CLI::App& launch) {
  struct Arguments {
    std::string run_dir;
    bool json = false;
  };
  auto arguments = std::make_shared<Arguments>();
  CLI::App* command =
      launch.add_subcommand("explain", "say which rank a run that stalled was waiting for");
  command->add_option("RUN_DIR", arguments->run_dir, "the run's folder")->required()->type_name("");
  command->add_flag("--json", arguments->json, "print JSON");
  command->callback([=] { Explain(arguments->run_dir, arguments->json); });
}

}  // namespace cairn
