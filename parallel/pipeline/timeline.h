#pragma once

#include <string>
#include <vector>

#include "parallel/pipeline/verify.h"

namespace cairn {

/// A simulated step as a Chrome/Perfetto trace: one track per rank, one slice per action. A unit of
/// cost is shown as a microsecond.
std::string TimelineJson(const std::vector<Timed>& timeline);

/// The same as a picture: a row of boxes per rank, coloured by the kind of action, labelled with
/// the microbatch where there is room, paler for later chunks; what is left white is the bubble.
std::string TimelineSvg(const std::vector<Timed>& timeline);

}  // namespace cairn
