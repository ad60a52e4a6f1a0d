#pragma once

#include <string>
#include <vector>

#include "parallel/pipeline/schedule.h"

namespace cairn::testing {

/// Reads actions as `ToString` writes them, e.g. "F0 F1.1 I0.1 W0".
std::vector<Action> ParseActions(const std::string& text);

/// A schedule written by hand: one line of actions per rank, and a promise that it surely keeps.
Schedule MakeByHand(const std::string& name, std::vector<std::vector<int>> placement,
                    int microbatches, const std::vector<std::string>& ranks);

/// Interleaved 1F1B (Narayanan et al. 2021), 2 ranks of 2 chunks, 4 microbatches.
Schedule InterleavedByHand();
/// ZB-H1 (Qi et al. 2023), 2 ranks, 3 microbatches.
Schedule ZeroBubbleByHand();
/// A V: rank 0 holds the first and the last virtual stage; 2 ranks, 2 microbatches.
Schedule VShapedByHand();

/// Whether the schedule is sound, found the slow and obvious way: ranks take turns, messages sit in
/// queues, and every rule is checked as it is met.
bool SoundByBruteForce(const Schedule& schedule);

/// Whether a sound schedule finishes where each rank is a list of sends and receives, and a message
/// passes only when both its ends stand at the head of their lists.
bool RendezvousSafeByBruteForce(const Schedule& schedule);

}  // namespace cairn::testing
