#include "runtime/base/build.h"

namespace cairn {

bool BuiltWithCuda() { return CAIRN_WITH_CUDA != 0; }

}  // namespace cairn
