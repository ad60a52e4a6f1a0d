#include "parallel/shared_collectives.h"

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <new>
#include <random>
#include <thread>
#include <vector>

#include "parallel/reduction.h"

namespace cairn {
namespace {

constexpr size_t kPage = 4096;

// What the ranks share, zero at first.
class SharedMemory {
 public:
  explicit SharedMemory(int ranks)
      : bytes_(SharedCollectives::MemoryBytes(ranks)),
        data_(static_cast<std::byte*>(::operator new(bytes_, std::align_val_t(kPage)))) {
    std::memset(data_, 0, bytes_);
  }
  ~SharedMemory() { ::operator delete(data_, std::align_val_t(kPage)); }
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;

  std::byte* data() const { return data_; }

 private:
  size_t bytes_;
  std::byte* data_;
};

std::vector<float> Noise(int64_t count, int rank, int round) {
  std::minstd_rand random(100 * round + rank + 1);
  std::vector<float> values(count);
  for (float& value : values) value = std::uniform_real_distribution<float>(-1, 1)(random);
  return values;
}

std::vector<float> Sum(int ranks, int64_t count, int round) {
  std::vector<std::vector<float>> all;
  std::vector<const void*> sources;
  for (int r = 0; r < ranks; ++r)
    sources.push_back(all.emplace_back(Noise(count, r, round)).data());
  std::vector<float> sum(count);
  ReduceInOrder(sum.data(), sources, count, DType::kFloat32, ReduceOp::kSum);
  return sum;
}

std::byte* Bytes(std::vector<float>& values) { return reinterpret_cast<std::byte*>(values.data()); }

class SharedCollectivesTest : public ::testing::TestWithParam<int> {};

// Sizes of less than a chunk, of several and of parts of one, in turns, without a pause in between:
// whoever overwrote what others have not read yet would be seen.
TEST_P(SharedCollectivesTest, EveryRoundIsThatOfTheReference) {
  const int ranks = GetParam();
  const SharedMemory memory(ranks);
  const std::vector<int64_t> counts = {1, 3, 70'000, 5, 65'536, 65'537, 200'003, 2};
  const auto run = [&](int rank) {
    FlightRecorder recorder(rank);
    SharedCollectives group(memory.data(), rank, ranks, recorder, [] {});
    for (int round = 0; round < 24; ++round) {
      const int64_t count = counts[round % counts.size()];
      std::vector<float> reduced = Noise(count, rank, round);
      group.AllReduce(Bytes(reduced), count, DType::kFloat32, ReduceOp::kSum);
      EXPECT_EQ(reduced, Sum(ranks, count, round)) << round;

      std::vector<float> whole = Noise(count * ranks, rank, round);
      group.ReduceScatter(Bytes(whole) + rank * count * sizeof(float), Bytes(whole), count,
                          DType::kFloat32);
      const std::vector<float> sum = Sum(ranks, count * ranks, round);
      EXPECT_TRUE(std::equal(sum.begin() + rank * count, sum.begin() + (rank + 1) * count,
                             whole.begin() + rank * count))
          << round;

      std::vector<float> gathered(count * ranks);
      std::vector<float> own = Noise(count, rank, round);
      group.AllGather(Bytes(gathered), Bytes(own), count * sizeof(float));
      for (int r = 0; r < ranks; ++r) {
        const std::vector<float> part = Noise(count, r, round);
        EXPECT_TRUE(std::equal(part.begin(), part.end(), gathered.begin() + r * count)) << round;
      }
    }
  };
  std::vector<std::jthread> threads;
  threads.reserve(ranks);
  for (int rank = 0; rank < ranks; ++rank) threads.emplace_back(run, rank);
}

INSTANTIATE_TEST_SUITE_P(Ranks, SharedCollectivesTest, ::testing::Values(1, 2, 3, 4, 7));

}  // namespace
}  // namespace cairn
