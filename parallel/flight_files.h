#pragma once

#include <optional>
#include <string>
#include <vector>

#include "runtime/telemetry/stall.h"

// RUN_DIR/flight/start-00007/: what the ranks of one start of a run left when it stalled.
//   hosts.json        host of each rank, from the start on
//   STALL             a rank waited too long; seen by the others, which then write
//   rank-00003.json   the FlightRecord of a rank
//   VERDICT           StallVerdict::text
//   FAILED            a rank ends the run with an error
//   roll-call-00002, here-00002-00003
//                     a rank that waits long asks whether all are alive; rank 3 is

namespace cairn {

/// Makes the folder of a new start, notes the ranks' hosts in it, and removes all but the last few
/// folders.
std::string BeginFlight(const std::string& run_dir, const std::vector<std::string>& hosts);

/// Declares a stall; does nothing where one is declared already.
void DeclareStall(const std::string& directory);
bool StallDeclared(const std::string& directory);

void WriteFlightRecord(const std::string& directory, const FlightRecord& record);
/// The records that are there now. An Error of kind kIo where the folder is none of a start.
StallEvidence ReadEvidence(const std::string& directory);

/// Writes the verdict; false where another rank has.
bool WriteVerdict(const std::string& directory, const StallVerdict& verdict);
bool VerdictGiven(const std::string& directory);

/// Asks all ranks whether they are alive, for the `number`th time, from 1; any rank may, again too.
void CallRoll(const std::string& directory, int number);
bool RollCalled(const std::string& directory, int number);
/// This rank is alive. Its answer to the call before the last goes.
void AnswerRoll(const std::string& directory, int number, int rank);
bool RollAnswered(const std::string& directory, int number, int rank);

/// Notes that a rank ends the run; false where another rank has before.
bool AnnounceFailure(const std::string& directory) noexcept;

/// The newest start of a run that stalled; nothing if none did.
std::optional<std::string> NewestStall(const std::string& run_dir);

}  // namespace cairn
