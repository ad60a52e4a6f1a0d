#pragma once

#include <optional>
#include <string>
#include <vector>

#include "runtime/telemetry/flight_recorder.h"

namespace cairn {

/// The flight records of all ranks at the time of a stall, by world rank.
struct StallEvidence {
  std::vector<std::string> hosts;
  /// Nothing: the rank did not answer, because it is stopped or gone.
  std::vector<std::optional<FlightRecord>> records;
};

/// Whom the others wait for, and why.
struct StallVerdict {
  /// World ranks, ascending. Those that somebody waits for and that wait for nobody; where all of
  /// those wait too, in a circle, the members of the circle. Empty: nobody waits.
  std::vector<int> suspects;
  /// A line for each suspect: the operation that it never reached, who waits in it since when, and
  /// what the suspect did last.
  std::string text;
};

/// Tells from who waits in which operation, and how far the others have come in it.
StallVerdict ExplainStall(const StallEvidence& evidence);

/// "AllReduce #412 of dp [1,3] (iteration 17, microbatch 2)".
std::string DescribeOperation(const FlightRecord& record, const FlightOperation& operation);

}  // namespace cairn
