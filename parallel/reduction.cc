#include "parallel/reduction.h"

#include <glog/logging.h>

#include <algorithm>
#include <type_traits>

#include "runtime/base/cpu_kernel.h"

namespace cairn {
namespace {

// Accumulators of a block stay in the first-level cache while the sources stream past.
constexpr int64_t kBlock = 2048;

template <typename T>
using Accumulator =
    std::conditional_t<std::is_integral_v<T>, int64_t,
                       std::conditional_t<std::is_same_v<T, double>, double, float>>;

template <typename T>
CAIRN_CPU_KERNEL void LoadBlock(Accumulator<T>* sum, const T* in, int64_t n) {
  for (int64_t i = 0; i < n; ++i) sum[i] = static_cast<Accumulator<T>>(in[i]);
}

template <typename T>
CAIRN_CPU_KERNEL void AddBlock(Accumulator<T>* sum, const T* in, int64_t n) {
  if constexpr (std::is_integral_v<T>) {
    for (int64_t i = 0; i < n; ++i) {  // unsigned, where overflow wraps
      sum[i] = static_cast<int64_t>(static_cast<uint64_t>(sum[i]) + static_cast<uint64_t>(in[i]));
    }
  } else {
    for (int64_t i = 0; i < n; ++i) sum[i] += static_cast<Accumulator<T>>(in[i]);
  }
}

template <typename T>
CAIRN_CPU_KERNEL void MaxBlock(Accumulator<T>* largest, const T* in, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const auto value = static_cast<Accumulator<T>>(in[i]);
    // A value differs from itself when it is NaN.
    largest[i] = (value > largest[i] || value != value) ? value : largest[i];
  }
}

template <typename T>
CAIRN_CPU_KERNEL void StoreBlock(T* out, const Accumulator<T>* sum, int64_t n) {
  for (int64_t i = 0; i < n; ++i) out[i] = static_cast<T>(sum[i]);
}

template <typename T>
void Reduce(void* out, std::span<const void* const> sources, int64_t count, ReduceOp op) {
  alignas(64) Accumulator<T> block[kBlock];
  for (int64_t begin = 0; begin < count; begin += kBlock) {
    const int64_t n = std::min(kBlock, count - begin);
    LoadBlock(block, static_cast<const T*>(sources[0]) + begin, n);
    for (const void* source : sources.subspan(1)) {
      const T* in = static_cast<const T*>(source) + begin;
      op == ReduceOp::kSum ? AddBlock(block, in, n) : MaxBlock(block, in, n);
    }
    StoreBlock(static_cast<T*>(out) + begin, block, n);
  }
}

}  // namespace

void ReduceInOrder(void* out, std::span<const void* const> sources, int64_t count, DType dtype,
                   ReduceOp op) {
  CHECK(!sources.empty());
  switch (dtype) {
    case DType::kFloat32:
      return Reduce<float>(out, sources, count, op);
    case DType::kBFloat16:
      return Reduce<BFloat16>(out, sources, count, op);
    case DType::kFloat16:
      return Reduce<Float16>(out, sources, count, op);
    case DType::kFloat64:
      return Reduce<double>(out, sources, count, op);
    case DType::kInt32:
      return Reduce<int32_t>(out, sources, count, op);
    case DType::kInt64:
      return Reduce<int64_t>(out, sources, count, op);
    case DType::kUInt8:
      return Reduce<uint8_t>(out, sources, count, op);
  }
  ThrowUnsupportedDType("ReduceInOrder", dtype);
}

}  // namespace cairn
