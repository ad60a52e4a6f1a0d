#include "runtime/device/allocator.h"

#include <glog/logging.h>

#include <algorithm>
#include <bit>
#include <utility>

#include "runtime/base/error.h"

namespace cairn {

const char* MemoryCategoryName(MemoryCategory category) {
  switch (category) {
    case MemoryCategory::kParameters:
      return "parameters";
    case MemoryCategory::kGradients:
      return "gradients";
    case MemoryCategory::kOptimizer:
      return "optimizer";
    case MemoryCategory::kActivations:
      return "activations";
    case MemoryCategory::kCommunication:
      return "communication";
  }
  return "unknown";
}

// Four classes an octave of small blocks: at most a quarter is slack. Sixteen of large ones, which
// come in few sizes.
size_t Allocator::SizeClass(size_t bytes) {
  constexpr size_t kSmallest = 64;
  if (bytes <= kSmallest) return kSmallest;
  constexpr size_t kLarge = size_t{1} << 20;
  const size_t classes = bytes > kLarge ? 16 : 4;
  const size_t step = std::max<size_t>(kSmallest, std::bit_floor(bytes - 1) / classes);
  return (bytes + step - 1) / step * step;
}

void* Allocator::Allocate(size_t bytes, MemoryCategory category) {
  if (bytes == 0) return nullptr;
  const size_t block = SizeClass(bytes);
  std::lock_guard<std::mutex> lock(mutex_);
  BlockReserve* const reserve = OwnReserve();
  void* pointer = nullptr;
  if (reserve != nullptr && !reserve->blocks_[block].empty()) {
    const BlockReserve::Block reused = reserve->blocks_[block].back();
    reserve->blocks_[block].pop_back();
    Count(-static_cast<int64_t>(reused.bytes), reused.category);
    pointer = reused.pointer;
  } else {
    pointer = TakeLocked(block, bytes, category);
  }
  if (reserve != nullptr) reserved_[pointer] = reserve;
  Count(static_cast<int64_t>(bytes), category);
  return pointer;
}

void* Allocator::TakeLocked(size_t block, size_t bytes, MemoryCategory category) {
  if (const auto cached = free_blocks_.find(block);
      cached != free_blocks_.end() && !cached->second.empty()) {
    void* const pointer = cached->second.back();
    cached->second.pop_back();
    return pointer;
  }
  void* pointer = RawAllocate(block);
  if (pointer == nullptr && !free_blocks_.empty()) {
    // Blocks of other sizes may be what is missing.
    ReleaseCacheLocked();
    pointer = RawAllocate(block);
  }
  if (pointer == nullptr && caches()) {
    std::string held;
    for (int i = 0; i < kNumMemoryCategories; ++i) {
      held +=
          fmt::format("{}{} {} MiB", i == 0 ? "" : ", ",
                      MemoryCategoryName(static_cast<MemoryCategory>(i)), stats_.current[i] >> 20);
    }
    Throw(ErrorKind::kOutOfMemory, "allocator",
          "{} MiB for {} were refused; in use: {}. Smaller micro_batch_size or seq_length, or more "
          "ranks (tensor_model_parallel_size, pipeline_model_parallel_size), need less",
          (bytes + (1 << 20) - 1) >> 20, MemoryCategoryName(category), held);
  }
  return pointer;
}

void Allocator::Count(int64_t bytes, MemoryCategory category) {
  const auto index = static_cast<size_t>(category);
  stats_.current[index] += bytes;
  stats_.current_total += bytes;
  stats_.peak[index] = std::max(stats_.peak[index], stats_.current[index]);
  stats_.peak_total = std::max(stats_.peak_total, stats_.current_total);
}

BlockReserve* Allocator::OwnReserve() const {
  return reserve_ != nullptr && reserve_->owner_ == std::this_thread::get_id() ? reserve_ : nullptr;
}

void Allocator::Free(void* pointer, size_t bytes, MemoryCategory category) noexcept {
  if (bytes == 0) return;
  std::lock_guard<std::mutex> lock(mutex_);
  BlockReserve* reserve = OwnReserve();
  if (const auto found = reserved_.find(pointer); found != reserved_.end()) {
    reserve = found->second;
    reserved_.erase(found);
  }
  if (reserve != nullptr) {
    reserve->blocks_[SizeClass(bytes)].push_back({pointer, bytes, category});
    return;
  }
  Count(-static_cast<int64_t>(bytes), category);
  if (caches()) free_blocks_[SizeClass(bytes)].push_back(pointer);
}

MemoryStats Allocator::stats() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return stats_;
}

void Allocator::ResetPeaks() {
  std::lock_guard<std::mutex> lock(mutex_);
  stats_.peak = stats_.current;
  stats_.peak_total = stats_.current_total;
}

void Allocator::ReleaseCache() {
  std::lock_guard<std::mutex> lock(mutex_);
  ReleaseCacheLocked();
}

void Allocator::ReleaseCacheLocked() {
  for (auto& [block, pointers] : free_blocks_) {
    for (void* pointer : pointers) RawFree(pointer, block);
  }
  free_blocks_.clear();
}

BlockReserve::~BlockReserve() {
  Close();
  {
    const std::lock_guard<std::mutex> lock(allocator_->mutex_);
    std::erase_if(allocator_->reserved_,
                  [this](const auto& block) { return block.second == this; });
  }
  for (const auto& [block, blocks] : blocks_) {
    for (const Block& held : blocks) allocator_->Free(held.pointer, held.bytes, held.category);
  }
}

void BlockReserve::Open() {
  const std::lock_guard<std::mutex> lock(allocator_->mutex_);
  CHECK(std::exchange(allocator_->reserve_, this) == nullptr) << "two reserves are open";
  owner_ = std::this_thread::get_id();
}

void BlockReserve::Close() {
  const std::lock_guard<std::mutex> lock(allocator_->mutex_);
  if (allocator_->reserve_ == this) allocator_->reserve_ = nullptr;
}

}  // namespace cairn
