#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

namespace cairn {

/// What memory is held for; peaks are kept for each.
enum class MemoryCategory : uint8_t {
  kParameters,
  kGradients,
  kOptimizer,
  kActivations,
  kCommunication,
};
inline constexpr int kNumMemoryCategories = 5;

/// "parameters", "gradients", ...
const char* MemoryCategoryName(MemoryCategory category);

/// Bytes in use and their high-water marks.
struct MemoryStats {
  std::array<int64_t, kNumMemoryCategories> current{};
  std::array<int64_t, kNumMemoryCategories> peak{};
  int64_t current_total = 0;
  int64_t peak_total = 0;
};

class BlockReserve;

/// Caching allocator of one device: freed blocks are kept by size class and handed out again, since
/// the first touch of fresh pages (and cudaMalloc) is slow. Thread-safe. Pointers are 64-byte
/// aligned.
class Allocator {
 public:
  virtual ~Allocator() = default;

  /// Throws Error(kOutOfMemory) with the use by category. `bytes` may be 0 (returns nullptr).
  void* Allocate(size_t bytes, MemoryCategory category);
  /// `bytes` and `category` as given to Allocate.
  void Free(void* pointer, size_t bytes, MemoryCategory category) noexcept;

  MemoryStats stats() const;
  /// Starts the high-water marks anew from what is in use.
  void ResetPeaks();
  /// Returns the cached blocks to the system.
  void ReleaseCache();

 protected:
  /// Takes `bytes` from the system, or returns nullptr.
  virtual void* RawAllocate(size_t bytes) = 0;
  virtual void RawFree(void* pointer, size_t bytes) noexcept = 0;
  /// False where memory is only counted (meta).
  virtual bool caches() const { return true; }

 private:
  friend class BlockReserve;

  static size_t SizeClass(size_t bytes);
  void ReleaseCacheLocked();
  void Count(int64_t bytes, MemoryCategory category);
  /// The open reserve, if it is the calling thread's.
  BlockReserve* OwnReserve() const;
  /// A block of size class `block`: from the cache, or new. Throws as Allocate does.
  void* TakeLocked(size_t block, size_t bytes, MemoryCategory category);

  mutable std::mutex mutex_;
  MemoryStats stats_;
  std::map<size_t, std::vector<void*>> free_blocks_;  // by size class
  BlockReserve* reserve_ = nullptr;                   // the open one
  // Whose the blocks are that were allocated while a reserve was open, and are in use.
  std::unordered_map<void*, BlockReserve*> reserved_;
};

/// Memory of work that is recorded once and given again and again, each time to the same places.
/// While a reserve is open, what its thread allocates comes to belong to it, and what its thread
/// frees stays in it, for what that thread allocates then. Nobody else is given that memory before
/// the reserve dies, whenever it is freed; until then it counts as in use. Other threads notice
/// nothing.
class BlockReserve {
 public:
  explicit BlockReserve(Allocator& allocator) : allocator_(&allocator) {}
  ~BlockReserve();
  BlockReserve(const BlockReserve&) = delete;
  BlockReserve& operator=(const BlockReserve&) = delete;

  /// Opens it for the calling thread. Of an allocator's reserves one is open at a time.
  void Open();
  void Close();

 private:
  friend class Allocator;
  struct Block {
    void* pointer;
    size_t bytes;
    MemoryCategory category;
  };

  Allocator* allocator_;
  std::thread::id owner_;
  std::map<size_t, std::vector<Block>> blocks_;  // by size class
};

}  // namespace cairn
