#include "runtime/device/allocator.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "runtime/base/error.h"
#include "runtime/device/device.h"

namespace cairn {
namespace {

// Counts what it takes from and returns to the system; has `limit` bytes.
class CountingAllocator : public Allocator {
 public:
  explicit CountingAllocator(size_t limit = SIZE_MAX) : limit_(limit) {}
  ~CountingAllocator() override { ReleaseCache(); }

  int taken = 0;
  int returned = 0;
  size_t held = 0;

 protected:
  void* RawAllocate(size_t bytes) override {
    if (bytes > limit_ - held) return nullptr;
    ++taken;
    held += bytes;
    return std::aligned_alloc(64, (bytes + 63) / 64 * 64);
  }
  void RawFree(void* pointer, size_t bytes) noexcept override {
    ++returned;
    held -= bytes;
    std::free(pointer);
  }

 private:
  size_t limit_;
};

constexpr auto kParameters = MemoryCategory::kParameters;
constexpr auto kActivations = MemoryCategory::kActivations;

TEST(AllocatorTest, FreedBlocksAreHandedOutAgain) {
  CountingAllocator allocator;
  void* first = allocator.Allocate(1000, kActivations);
  allocator.Free(first, 1000, kActivations);
  // Another size of the same class, another category.
  void* second = allocator.Allocate(990, kParameters);
  EXPECT_EQ(second, first);
  EXPECT_EQ(allocator.taken, 1);
  allocator.Free(second, 990, kParameters);
  allocator.ReleaseCache();
  EXPECT_EQ(allocator.returned, 1);
  EXPECT_EQ(allocator.held, 0U);
}

TEST(AllocatorTest, EverySizeFitsItsBlockWithLittleSlack) {
  CountingAllocator allocator;
  for (size_t bytes = 1; bytes < 100000; bytes += 1 + bytes / 7) {
    const size_t before = allocator.held;
    void* pointer = allocator.Allocate(bytes, kActivations);
    const size_t block = allocator.held - before;
    EXPECT_GE(block, bytes);
    EXPECT_LE(block, std::max<size_t>(bytes + 64, bytes * 5 / 4 + 64));
    EXPECT_EQ(reinterpret_cast<uintptr_t>(pointer) % 64, 0U);
    std::memset(pointer, 0xab, bytes);
    allocator.Free(pointer, bytes, kActivations);
    allocator.ReleaseCache();
  }
}

TEST(AllocatorTest, PeaksByCategory) {
  CountingAllocator allocator;
  void* a = allocator.Allocate(100, kActivations);
  void* b = allocator.Allocate(300, kParameters);
  allocator.Free(a, 100, kActivations);
  void* c = allocator.Allocate(50, kActivations);
  MemoryStats stats = allocator.stats();
  const auto activations = static_cast<size_t>(kActivations);
  const auto parameters = static_cast<size_t>(kParameters);
  EXPECT_EQ(stats.current[activations], 50);
  EXPECT_EQ(stats.peak[activations], 100);
  EXPECT_EQ(stats.peak[parameters], 300);
  EXPECT_EQ(stats.current_total, 350);
  EXPECT_EQ(stats.peak_total, 400);
  allocator.ResetPeaks();
  stats = allocator.stats();
  EXPECT_EQ(stats.peak[activations], 50);
  EXPECT_EQ(stats.peak_total, 350);
  allocator.Free(b, 300, kParameters);
  allocator.Free(c, 50, kActivations);
  EXPECT_EQ(allocator.stats().current_total, 0);
}

TEST(AllocatorTest, NothingIsNoMemory) {
  CountingAllocator allocator;
  EXPECT_EQ(allocator.Allocate(0, kActivations), nullptr);
  allocator.Free(nullptr, 0, kActivations);
  EXPECT_EQ(allocator.taken, 0);
}

TEST(AllocatorTest, RefusalNamesUseByCategory) {
  CountingAllocator allocator(8 << 20);
  void* held = allocator.Allocate(3 << 20, kParameters);
  try {
    allocator.Allocate(7 << 20, kActivations);
    FAIL() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kOutOfMemory);
    EXPECT_NE(error.message().find("7 MiB for activations"), std::string::npos) << error.what();
    EXPECT_NE(error.message().find("parameters 3 MiB"), std::string::npos) << error.what();
  }
  EXPECT_EQ(allocator.stats().current_total, 3 << 20) << "a refused allocation was counted";
  allocator.Free(held, 3 << 20, kParameters);
}

// What the cache holds is given back before the system's refusal becomes the user's.
TEST(AllocatorTest, CacheIsReleasedBeforeRefusing) {
  CountingAllocator allocator(8 << 20);
  void* small = allocator.Allocate(5 << 20, kActivations);
  allocator.Free(small, 5 << 20, kActivations);
  void* large = allocator.Allocate(7 << 20, kActivations);
  EXPECT_NE(large, nullptr);
  allocator.Free(large, 7 << 20, kActivations);
}

TEST(AllocatorTest, ThreadsShareIt) {
  CountingAllocator allocator;
  const auto work = [&](size_t seed) {
    for (size_t i = 0; i < 2000; ++i) {
      const size_t bytes = 1 + (i * 37 + seed * 11) % 5000;
      auto* pointer = static_cast<unsigned char*>(allocator.Allocate(bytes, kActivations));
      std::memset(pointer, static_cast<int>(seed), bytes);
      ASSERT_EQ(pointer[bytes - 1], seed);
      allocator.Free(pointer, bytes, kActivations);
    }
  };
  std::thread other(work, 1);
  work(2);
  other.join();
  EXPECT_EQ(allocator.stats().current_total, 0);
}

TEST(AllocatorTest, CategoriesHaveNames) {
  EXPECT_STREQ(MemoryCategoryName(kParameters), "parameters");
  EXPECT_STREQ(MemoryCategoryName(MemoryCategory::kCommunication), "communication");
}

TEST(BlockReserveTest, WhatIsFreedWhileItIsOpenIsItsOwnUntilItDies) {
  CountingAllocator allocator;
  {
    BlockReserve reserve(allocator);
    reserve.Open();
    void* const first = allocator.Allocate(1000, kActivations);
    allocator.Free(first, 1000, kActivations);
    EXPECT_EQ(allocator.stats().current_total, 1000);  // still held
    void* const second = allocator.Allocate(990, kParameters);
    EXPECT_EQ(second, first);
    EXPECT_EQ(allocator.stats().current_total, 990);
    EXPECT_EQ(allocator.stats().current[static_cast<size_t>(kActivations)], 0);
    allocator.Free(second, 990, kParameters);
    reserve.Close();
    void* const other = allocator.Allocate(1000, kActivations);
    EXPECT_NE(other, first);
    allocator.Free(other, 1000, kActivations);
    allocator.ReleaseCache();
    EXPECT_EQ(allocator.returned, 1);  // the other
  }
  EXPECT_EQ(allocator.stats().current_total, 0);
  EXPECT_EQ(allocator.stats().peak_total, 1990);
  allocator.ReleaseCache();
  EXPECT_EQ(allocator.returned, 2);
}

TEST(BlockReserveTest, WhatIsAllocatedWhileItIsOpenIsItsOwnWheneverItIsFreed) {
  CountingAllocator allocator;
  void* kept = nullptr;
  {
    BlockReserve reserve(allocator);
    reserve.Open();
    void* const late = allocator.Allocate(1000, kActivations);
    kept = allocator.Allocate(1000, kActivations);
    reserve.Close();
    std::thread([&] { allocator.Free(late, 1000, kActivations); }).join();
    EXPECT_EQ(allocator.stats().current_total, 2000);
    void* const other = allocator.Allocate(1000, kActivations);
    EXPECT_NE(other, late);
    allocator.Free(other, 1000, kActivations);
    EXPECT_EQ(allocator.stats().current_total, 2000);
    reserve.Open();
    EXPECT_EQ(allocator.Allocate(1000, kActivations), late);
    allocator.Free(late, 1000, kActivations);
  }
  // What outlives the reserve is like any other block.
  EXPECT_EQ(allocator.stats().current_total, 1000);
  allocator.Free(kept, 1000, kActivations);
  EXPECT_EQ(allocator.stats().current_total, 0);
  EXPECT_EQ(allocator.Allocate(1000, kActivations), kept);
  allocator.Free(kept, 1000, kActivations);
  allocator.ReleaseCache();
  EXPECT_EQ(allocator.returned, 3);
}

TEST(BlockReserveTest, OtherThreadsHaveTheCacheAsEver) {
  CountingAllocator allocator;
  void* const cached = allocator.Allocate(1000, kActivations);
  allocator.Free(cached, 1000, kActivations);
  BlockReserve reserve(allocator);
  reserve.Open();
  std::thread([&] {
    void* const block = allocator.Allocate(1000, kActivations);
    EXPECT_EQ(block, cached);
    allocator.Free(block, 1000, kActivations);
  }).join();
  void* const taken = allocator.Allocate(1000, kActivations);
  EXPECT_EQ(taken, cached);  // from the cache, while the reserve has none
  allocator.Free(taken, 1000, kActivations);
  std::thread([&] {
    void* const block = allocator.Allocate(1000, kActivations);
    EXPECT_NE(block, cached);
    allocator.Free(block, 1000, kActivations);
  }).join();
}

}  // namespace
}  // namespace cairn
