#include "runtime/autograd/weight.h"

#include <glog/logging.h>

#include "runtime/tensor/elementwise.h"
#include "runtime/tensor/exact_sum.h"

namespace cairn {

void MainGrad::AddRows(int64_t row, const Tensor& gradient) {
  const Tensor& target = exact() ? hi_ : sum_;
  const int64_t row_size = target.numel() / target.dim(0);
  CHECK_EQ(gradient.numel() % row_size, 0);
  const int64_t rows = gradient.numel() / row_size;
  if (exact()) {
    ExactAddTo(hi_.Narrow(0, row, rows), lo_.Narrow(0, row, rows), gradient, factor_);
  } else {
    AddTo(sum_.Narrow(0, row, rows), gradient);
  }
}

void MainGrad::NoteContribution() {
  CHECK_GT(pending_, 0) << "more gradient contributions than uses of a weight";
  if (--pending_ == 0 && on_complete_) on_complete_();
}

}  // namespace cairn
