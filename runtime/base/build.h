#pragma once

namespace cairn {

/// Whether this build has the GPU backend; a GPU may still be missing.
bool BuiltWithCuda();

}  // namespace cairn
