#include "runtime/tensor/elementwise_kernel.h"

namespace cairn {

CopyLayout MakeCopyLayout(const Tensor& destination, const Tensor& source) {
  CopyLayout layout{};
  for (int d = 0; d < destination.rank(); ++d) {
    const int64_t extent = destination.dim(d);
    if (extent == 1) continue;
    const int last = layout.rank - 1;
    if (last >= 0 && layout.to_stride[last] == extent * destination.stride(d) &&
        layout.from_stride[last] == extent * source.stride(d)) {
      layout.extent[last] *= extent;
      layout.to_stride[last] = destination.stride(d);
      layout.from_stride[last] = source.stride(d);
      continue;
    }
    layout.extent[layout.rank] = extent;
    layout.to_stride[layout.rank] = destination.stride(d);
    layout.from_stride[layout.rank] = source.stride(d);
    ++layout.rank;
  }
  return layout;
}

}  // namespace cairn
