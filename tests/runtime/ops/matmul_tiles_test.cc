#include "runtime/ops/matmul_tiles.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <array>

#include "jacobian_testing.h"
#include "runtime/ops/amx.h"
#include "runtime/ops/cpu_isa.h"
#include "runtime/tensor/elementwise.h"

namespace cairn::cpu {
namespace {

using testing::Bits;
using testing::RandomTensor;

// The instructions as the manual describes them, on a machine that may not have them.
struct ModelTiles {
  struct Registers {
    std::array<std::array<float, kTileRows * kTileRows>, 4> sums;
    std::array<Tile, 8> tiles;
    bool configured = false;
  };
  static thread_local Registers registers;

  static void Begin() { registers.configured = true; }
  static void End() { registers.configured = false; }
  template <int t>
  static void Zero() {
    EXPECT_TRUE(registers.configured);
    registers.sums[t].fill(0.0f);
  }
  template <int t>
  static void Load(const Tile* from) {
    registers.tiles[t] = *from;
  }
  template <int sums, int a, int b>
  static void MultiplyAdd() {
    for (int64_t i = 0; i < kTileRows; ++i) {
      for (int64_t pair = 0; pair < kTileDepth / 2; ++pair) {
        for (int64_t j = 0; j < kTileRows; ++j) {
          for (int64_t k = 0; k < 2; ++k) {
            registers.sums[sums][i * kTileRows + j] +=
                static_cast<float>(registers.tiles[a].element[i * kTileDepth + pair * 2 + k]) *
                static_cast<float>(registers.tiles[b].element[pair * kTileDepth + j * 2 + k]);
          }
        }
      }
    }
  }
  template <int t>
  static void Store(float* to, int64_t stride) {
    for (int64_t i = 0; i < kTileRows; ++i) {
      for (int64_t j = 0; j < kTileRows; ++j) {
        to[i * stride + j] = registers.sums[t][i * kTileRows + j];
      }
    }
  }
};
thread_local ModelTiles::Registers ModelTiles::registers;

template <typename Tiles>
class TileMatmulTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!std::is_same_v<Tiles, ModelTiles> && !HasOwnAmxProducts()) {
      GTEST_SKIP() << "no AMX, or one that oneDNN uses";
    }
  }
  std::unique_ptr<Device> device_ = NewCpuDevice();
};

struct Names {
  template <typename Tiles>
  static std::string GetName(int) {
    return std::is_same_v<Tiles, ModelTiles> ? "Model" : "Processor";
  }
};
#if defined(__x86_64__)
using AllTiles = ::testing::Types<ModelTiles, AmxTiles>;
#else
using AllTiles = ::testing::Types<ModelTiles>;
#endif
TYPED_TEST_SUITE(TileMatmulTest, AllTiles, Names);

// Against the same product in fp32 of operands that bf16 holds exactly.
TYPED_TEST(TileMatmulTest, EqualsTheProductInFp32) {
  struct Size {
    int64_t m, n, k;
  };
  Device& device = *this->device_;
  for (const Size& size : {Size{1, 1, 1},
                           {16, 16, 32},
                           {32, 32, 64},
                           {33, 17, 31},
                           {15, 47, 65},
                           {300, 20, 33},
                           {5, 140, 2000}}) {
    const bool large = size.m * size.n * size.k > 1'000'000;  // several panels of columns
    for (int variant = 0; variant < 32; variant += large ? 11 : 1) {
      const MatmulOptions options{(variant & 1) != 0, (variant & 2) != 0, (variant & 4) != 0};
      const bool with_bias = (variant & 8) != 0;
      const DType result = (variant & 16) != 0 ? DType::kFloat32 : DType::kBFloat16;
      SCOPED_TRACE(fmt::format("{}x{}x{} variant {}", size.m, size.n, size.k, variant));
      // Rows lie apart.
      const auto matrix = [&](int64_t rows, int64_t columns, uint32_t site, DType dtype) {
        return RandomTensor(device, {rows, columns + 3}, site, 1.0, 0.0, dtype)
            .Narrow(1, 2, columns);
      };
      const Tensor a = options.transpose_a ? matrix(size.k, size.m, 1, DType::kBFloat16)
                                           : matrix(size.m, size.k, 1, DType::kBFloat16);
      const Tensor b = options.transpose_b ? matrix(size.n, size.k, 2, DType::kBFloat16)
                                           : matrix(size.k, size.n, 2, DType::kBFloat16);
      const Tensor bias = RandomTensor(device, {size.n}, 3, 1.0, 0.0, DType::kBFloat16);
      const Tensor whole = RandomTensor(device, {size.m, size.n + 3}, 4, 1.0, 0.0, result);
      const Tensor c = whole.Narrow(1, 2, size.n);
      const auto fp32 = [](const Tensor& tensor) {
        return testing::Converted(ContiguousCopy(tensor), DType::kFloat32);
      };
      const Tensor expected = fp32(c);
      const Tensor bias32 = fp32(bias);
      Matmul(expected, fp32(a), fp32(b), options, with_bias ? &bias32 : nullptr);
      const std::vector<uint8_t> left = Bits(whole.Narrow(1, 0, 2));
      const std::vector<uint8_t> right = Bits(whole.Narrow(1, size.n + 2, 1));
      TileMatmul<TypeParam>(c, a, b, options, with_bias ? &bias : nullptr);
      testing::ExpectClose(ContiguousCopy(c), testing::ToDoubles(expected),
                           result == DType::kFloat32 ? 1e-5 : 0x1p-8, "c");
      EXPECT_EQ(Bits(whole.Narrow(1, 0, 2)), left) << "wrote between the rows";
      EXPECT_EQ(Bits(whole.Narrow(1, size.n + 2, 1)), right) << "wrote between the rows";
    }
  }
}

// What deterministic training asks of MatmulOptions::row_block, and more.
TYPED_TEST(TileMatmulTest, ARowsBitsDependOnNothingElse) {
  Device& device = *this->device_;
  const Tensor a = RandomTensor(device, {100, 90}, 5, 1.0, 0.0, DType::kBFloat16);
  const Tensor b = RandomTensor(device, {90, 70}, 6, 1.0, 0.0, DType::kBFloat16);
  const Tensor whole = Tensor::Empty({100, 70}, DType::kFloat32, device);
  TileMatmul<TypeParam>(whole, a, b, {}, nullptr);
  const Tensor part = Tensor::Empty({41, 70}, DType::kFloat32, device);
  TileMatmul<TypeParam>(part, a.Narrow(0, 27, 41), b, {}, nullptr);
  EXPECT_EQ(Bits(part), Bits(whole.Narrow(0, 27, 41)));
}

// Without the instructions the trial ends in "no", not in a signal; with them, in a right product.
TEST(AmxTest, TheTrialSurvivesAnyProcessor) {
  struct sigaction before = {};
  struct sigaction after = {};
  ASSERT_EQ(sigaction(SIGILL, nullptr, &before), 0);
  const bool work = TilesWork();
  ASSERT_EQ(sigaction(SIGILL, nullptr, &after), 0);
  EXPECT_EQ(after.sa_handler, before.sa_handler);
  if (HasOwnAmxProducts()) {
    EXPECT_TRUE(work);
  }
}

}  // namespace
}  // namespace cairn::cpu
