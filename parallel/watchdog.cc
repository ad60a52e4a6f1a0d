#include "parallel/watchdog.h"

#include <glog/logging.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "parallel/flight_files.h"
#include "runtime/base/error.h"

namespace cairn {
namespace {

using std::chrono::duration;
using std::chrono::duration_cast;

std::chrono::steady_clock::duration Ticks(double seconds) {
  return duration_cast<std::chrono::steady_clock::duration>(duration<double>(seconds));
}

// What is left of a slow step's weight after each further step: it is forgotten in a dozen.
constexpr double kForget = 0.8;
// Parts of the deadline: after the first a waiting rank calls the roll, after the second it
// declares a stall, and what is left is for the verdict.
constexpr double kCall = 0.25;
constexpr double kDeclare = 0.9;

}  // namespace

Watchdog::Watchdog(Communicator& world, Options options)
    : world_(world),
      options_(std::move(options)),
      slowest_step_(options_.first_step_seconds / options_.steps),
      thread_([this](const std::stop_token& stop) { Watch(stop); }) {}

Watchdog::~Watchdog() = default;

void Watchdog::StepDone(double seconds) {
  // The first measure replaces the guess that there was before.
  slowest_step_ = measured_ ? std::max(seconds, slowest_step_ * kForget) : seconds;
  measured_ = true;
}

double Watchdog::Deadline() const {
  return std::max(options_.least_seconds, options_.steps * slowest_step_);
}

void Watchdog::Watch(const std::stop_token& stop) {
  const Clock::duration tick = Ticks(std::min(0.5, options_.least_seconds / 8));
  Clock::time_point awake_since = Clock::now();
  Clock::time_point last = awake_since;
  std::unique_lock<std::mutex> lock(mutex_);
  while (!stop.stop_requested()) {
    wake_.wait_for(lock, stop, tick, [] { return false; });
    const Clock::time_point now = Clock::now();
    // This process was stopped itself (a debugger, a shell's job control): nobody else is to blame
    // for that time.
    if (now - last > 4 * tick + Ticks(1)) awake_since = now;
    last = now;
    try {
      const FlightRecorder& recorder = *world_.recorder();
      const double wait = recorder.LongestWaitSeconds("", awake_since);
      CallAndAnswer(wait, now);
      bool late =
          recorder.LongestWaitSeconds(options_.disk_group, awake_since) > kDeclare * Deadline() ||
          wait > std::max(Deadline(), options_.disk_seconds);
      for (int rank = 0; !late && rank < world_.size() && wait > kCall * Deadline(); ++rank) {
        late = Missing(rank, (kDeclare - kCall) * Deadline());
      }
      if (late) DeclareStall(options_.directory);
      if (late || StallDeclared(options_.directory)) return Judge(late);
    } catch (const Error& error) {
      // Without the files nobody can be named, but nobody shall wait for ever either.
      world_.Abort(fmt::format("the run has stalled, and cannot say where: {}", error.what()));
      return;
    }
  }
}

void Watchdog::CallAndAnswer(double wait_seconds, Clock::time_point now) {
  if (RollCalled(options_.directory, roll_call_ + 1)) {
    AnswerRoll(options_.directory, ++roll_call_, world_.rank());
    roll_call_at_ = now;
  }
  const bool lately = roll_call_ > 0 && now - roll_call_at_ < Ticks(Deadline());
  if (wait_seconds > kCall * Deadline() && !lately) CallRoll(options_.directory, roll_call_ + 1);
}

bool Watchdog::Missing(int rank, double seconds) const {
  return roll_call_ > 0 && Clock::now() - roll_call_at_ > Ticks(seconds) &&
         !RollAnswered(options_.directory, roll_call_, rank);
}

void Watchdog::Judge(bool declared_here) {
  // A rank that wakes when it is all over is no witness.
  if (VerdictGiven(options_.directory)) return;
  WriteFlightRecord(options_.directory, world_.recorder()->Record());
  // Who declared comes first; the others stand in for it.
  const Clock::time_point until =
      Clock::now() + Ticks(options_.grace_seconds * (declared_here ? 1 : 2));
  StallEvidence evidence;
  while (true) {
    evidence = ReadEvidence(options_.directory);
    bool complete = true;
    for (size_t rank = 0; rank < evidence.records.size(); ++rank) {
      complete = complete && (evidence.records[rank].has_value() ||
                              Missing(static_cast<int>(rank), options_.grace_seconds));
    }
    if (Clock::now() >= until || (complete && declared_here)) break;
    std::this_thread::sleep_for(Ticks(options_.grace_seconds / 20));
  }
  const StallVerdict verdict = ExplainStall(evidence);
  if (!WriteVerdict(options_.directory, verdict)) return;  // the rank that did ends the world
  world_.Abort(verdict.text.empty() ? "the run has stalled, but no rank waits any more"
                                    : "the run has stalled: " + verdict.text);
}

}  // namespace cairn
