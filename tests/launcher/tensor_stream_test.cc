#include "launcher/tensor_stream.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <malloc.h>

#include <algorithm>
#include <cstring>
#include <utility>

namespace cairn {
namespace {

constexpr int64_t kMiB = 1 << 20;

struct Order {
  std::vector<int64_t> extents;
  std::vector<int> order;
};

// All of the source's bytes, asked for in blocks that do not divide a row.
std::vector<float> Drain(const ByteSource& source) {
  std::vector<std::byte> bytes;
  source.ForEachBlock(60, [&](std::span<const std::byte> block) {
    bytes.insert(bytes.end(), block.begin(), block.end());
  });
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

// Element `index` of the array with these extents, by the row-major place that is its value.
float Place(const std::vector<int64_t>& extents, const std::vector<int64_t>& index) {
  int64_t place = 0;
  for (size_t d = 0; d < extents.size(); ++d) place = place * extents[d] + index[d];
  return static_cast<float>(place);
}

class PermutedSourceTest : public ::testing::TestWithParam<Order> {};

TEST_P(PermutedSourceTest, ReordersInSlabsOfAnySize) {
  const auto& [extents, order] = GetParam();
  const size_t rank = extents.size();
  // The result's elements in their order, one by one.
  std::vector<float> expected;
  std::vector<int64_t> index(rank, 0);  // of the result's axes
  for (size_t d = 1; d > 0;) {
    std::vector<int64_t> source(rank);
    for (size_t k = 0; k < rank; ++k) source[order[k]] = index[k];
    expected.push_back(Place(extents, source));
    d = rank;
    while (d > 0 && ++index[d - 1] == extents[order[d - 1]]) index[--d] = 0;
  }

  for (const int64_t slab_bytes : {int64_t{1}, int64_t{500}, int64_t{3000}, kMiB}) {
    const int axis = order[0];
    int64_t next = 0;
    int slabs = 0;
    const ByteSource source = PermutedSource(
        extents, order, DType::kFloat32, slab_bytes,
        [&](int64_t begin, int64_t count, std::span<float> out) {
          EXPECT_EQ(begin, next % extents[axis]) << "slabs come one after the other";
          next = begin + count;
          ++slabs;
          EXPECT_TRUE(count == 1 || static_cast<int64_t>(out.size_bytes()) <= slab_bytes);
          std::vector<int64_t> at(rank, 0);
          for (float& value : out) {
            std::vector<int64_t> whole = at;
            whole[axis] += begin;
            value = Place(extents, whole);
            size_t d = rank;
            while (d > 0 &&
                   ++at[d - 1] == (static_cast<int>(d) - 1 == axis ? count : extents[d - 1]))
              at[--d] = 0;
          }
        });
    EXPECT_EQ(Drain(source), expected);
    if (slab_bytes == 1) {
      EXPECT_EQ(slabs, extents[axis]);
    } else if (slab_bytes == kMiB) {
      EXPECT_EQ(slabs, 1);
    }
    EXPECT_EQ(Drain(source), expected) << "it can be asked again";
  }
}

INSTANTIATE_TEST_SUITE_P(Orders, PermutedSourceTest,
                         ::testing::Values(Order{{7}, {0}}, Order{{37, 41}, {0, 1}},
                                           Order{{37, 41}, {1, 0}}, Order{{1, 5}, {1, 0}},
                                           Order{{4, 3, 5, 19}, {3, 1, 0, 2}},
                                           Order{{19, 3, 4, 5}, {2, 1, 3, 0}},
                                           Order{{4, 3, 5}, {1, 0, 2}},
                                           Order{{17, 2, 18}, {2, 1, 0}}));

TEST(PermutedSourceTest, RoundsToItsType) {
  const auto ones = [](int64_t, int64_t, std::span<float> out) {
    std::ranges::fill(out, 1.0009765625F);  // 1 + 2^-10: a number of fp16, not of bf16
  };
  for (const auto& [dtype, expected] :
       {std::pair(DType::kBFloat16, 1.0F), {DType::kFloat16, 1.0009765625F}}) {
    const ByteSource source = PermutedSource({2, 3}, {1, 0}, dtype, kMiB, ones);
    EXPECT_EQ(source.size(), 12);
    source.ForEachBlock(12, [&, dtype = dtype, expected = expected](const auto& bytes) {
      std::vector<float> values(6);
      DecodeFloats(dtype, bytes, values);
      EXPECT_THAT(values, ::testing::Each(expected));
    });
  }
}

TEST(PermutedSourceTest, KeepsNothingOfATensorThatIsWritten) {
  const auto zeros = [](int64_t, int64_t, std::span<float> out) { std::ranges::fill(out, 0.0F); };
  std::vector<ByteSource> sources;
  for (int i = 0; i < 32; ++i) {
    sources.push_back(
        PermutedSource({1024, 1024}, {1, 0}, DType::kFloat32, 4 * kMiB, zeros));  // 4 MiB
  }
  const auto in_use = [] {
    const struct mallinfo2 info = mallinfo2();
    return static_cast<int64_t>(info.uordblks + info.hblkhd);
  };
  const int64_t before = in_use();
  for (const ByteSource& source : sources) source.ForEachBlock(kMiB, [](const auto&) {});
  EXPECT_LT(in_use() - before, 8 * kMiB);
}

TEST(FloatingDTypeTest, NamesOfSafetensors) {
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16, DType::kFloat16}) {
    EXPECT_EQ(FloatingDType(SafetensorsName(dtype)), dtype);
  }
  EXPECT_EQ(FloatingDType("F64"), std::nullopt);
  EXPECT_EQ(FloatingDType("BOOL"), std::nullopt);
}

}  // namespace
}  // namespace cairn
