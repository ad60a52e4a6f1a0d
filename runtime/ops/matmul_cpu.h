#pragma once

#include <cstdint>

#include "runtime/ops/matmul.h"

/// CPU products: oneDNN, for what it has at full speed; the rest by way of fp32.
namespace cairn::cpu {

/// See matmul.h; the dispatch there has checked shapes, dtypes and strides.
void Matmul(const Tensor& c, const Tensor& a, const Tensor& b, const MatmulOptions& options,
            const Tensor* bias);

/// Row-major fp32: c [m, n] = op(a) · op(b) + beta c, with the row strides lda, ldb, ldc. Runs on
/// one thread where the caller is a task of ParallelTasks.
void Sgemm(bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k, const float* a,
           int64_t lda, const float* b, int64_t ldb, float beta, float* c, int64_t ldc);

}  // namespace cairn::cpu
