#pragma once

#include <omp.h>

#include <algorithm>
#include <cstdint>
#include <exception>
#include <utility>

namespace cairn {

/// Calls f(task) for each task in [0, n) on the calling thread's OpenMP team, each task on one
/// thread: a library that is itself parallel stays on that thread inside f, so that its result does
/// not depend on the number of threads. An exception of a task is rethrown after all have ended.
template <typename F>
void ParallelTasks(int64_t n, F&& f) {
  if (n <= 0) return;
  const int64_t available = omp_in_parallel() ? 1 : omp_get_max_threads();
  const int threads = static_cast<int>(std::min(n, available));
  std::exception_ptr error;
#pragma omp parallel num_threads(threads)
  {
    omp_set_num_threads(1);  // of this thread, inside this region only
#pragma omp for schedule(dynamic)
    for (int64_t task = 0; task < n; ++task) {
      try {
        f(task);
      } catch (...) {
#pragma omp critical(cairn_parallel_tasks)
        error = std::current_exception();
      }
    }
  }
  if (error) std::rethrow_exception(std::move(error));
}

}  // namespace cairn
