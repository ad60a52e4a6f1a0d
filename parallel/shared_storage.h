#pragma once

#include <string>

#include "parallel/communicator.h"

namespace cairn {

/// Makes `directory` and finds out whether every rank sees the same one: rank 0 leaves a file
/// there, all look for it, and it is removed. Where a rank does not see it, every rank throws a
/// CollectiveError that names rank and host. Collective.
void CheckSharedStorage(Communicator& world, const std::string& directory);

}  // namespace cairn
