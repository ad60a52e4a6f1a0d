#include "runtime/ops/matmul.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <omp.h>

#include <cmath>
#include <memory>
#include <tuple>
#include <vector>

#include "jacobian_testing.h"
#include "product_testing.h"
#include "runtime/base/error.h"
#include "runtime/ops/cpu_isa.h"
#include "runtime/ops/parallel_tasks.h"
#include "runtime/tensor/elementwise.h"

namespace cairn {
namespace {

using testing::Bits;
using testing::RandomTensor;
using testing::ScopedThreads;
using testing::ToDoubles;

// The product in fp64, of operands as the op takes them.
std::vector<double> Reference(const Tensor& c, const Tensor& a, const Tensor& b,
                              const MatmulOptions& options, const Tensor* bias) {
  const int64_t m = c.dim(0);
  const int64_t n = c.dim(1);
  const int64_t k = a.dim(options.transpose_a ? 0 : 1);
  const std::vector<double> av = ToDoubles(ContiguousCopy(a));
  const std::vector<double> bv = ToDoubles(ContiguousCopy(b));
  std::vector<double> cv = ToDoubles(ContiguousCopy(c));
  const std::vector<double> bias_values =
      bias != nullptr ? ToDoubles(*bias) : std::vector<double>();
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      double sum = options.accumulate ? cv[i * n + j] : 0.0;
      if (bias != nullptr) sum += bias_values[j];
      for (int64_t l = 0; l < k; ++l) {
        sum += av[options.transpose_a ? l * m + i : i * k + l] *
               bv[options.transpose_b ? j * k + l : l * n + j];
      }
      cv[i * n + j] = sum;
    }
  }
  return cv;
}

// Relative to the entry and the rms of all: an ulp of the result, and the rounding of fp32 sums.
double Tolerance(DType result) {
  switch (result) {
    case DType::kBFloat16:
      return 0x1p-8;
    case DType::kFloat16:
      return 0x1p-11;
    default:
      return 1e-5;
  }
}

struct Size {
  int64_t m, n, k;
};

void CheckProduct(Device& device, const Size& size, DType dtype, DType result,
                  const MatmulOptions& options, bool with_bias, int64_t row_gap) {
  SCOPED_TRACE(fmt::format(
      "{}x{}x{} {} to {}, transposed {} {}, accumulate {}, bias {}, row block {}, gap {}", size.m,
      size.n, size.k, DTypeName(dtype), DTypeName(result), options.transpose_a, options.transpose_b,
      options.accumulate, with_bias, options.row_block, row_gap));
  // Columns [row_gap, ...) of a wider matrix: rows are apart where row_gap > 0.
  const auto matrix = [&](int64_t rows, int64_t columns, uint32_t site, DType type) {
    return RandomTensor(device, {rows, columns + row_gap}, site, 1.0, 0.0, type)
        .Narrow(1, row_gap, columns);
  };
  const Tensor a =
      options.transpose_a ? matrix(size.k, size.m, 1, dtype) : matrix(size.m, size.k, 1, dtype);
  const Tensor b =
      options.transpose_b ? matrix(size.n, size.k, 2, dtype) : matrix(size.k, size.n, 2, dtype);
  const Tensor bias = RandomTensor(device, {size.n}, 3, 1.0, 0.0, dtype);
  const Tensor whole_c = RandomTensor(device, {size.m, size.n + row_gap}, 4, 1.0, 0.0, result);
  const Tensor c = whole_c.Narrow(1, row_gap, size.n);
  const Tensor* used_bias = with_bias ? &bias : nullptr;
  const std::vector<double> expected = Reference(c, a, b, options, used_bias);
  const std::vector<uint8_t> gap_before = Bits(whole_c.Narrow(1, 0, row_gap));
  Matmul(c, a, b, options, used_bias);
  testing::ExpectClose(ContiguousCopy(c), expected, Tolerance(result), "c");
  EXPECT_EQ(Bits(whole_c.Narrow(1, 0, row_gap)), gap_before) << "wrote between the rows";
}

class MatmulTest : public ::testing::TestWithParam<std::tuple<DType, bool, bool>> {
 protected:
  std::unique_ptr<Device> device_ = NewCpuDevice();
};

TEST_P(MatmulTest, EqualsFp64Product) {
  const auto [dtype, transpose_a, transpose_b] = GetParam();
  for (const Size& size : {Size{1, 1, 1}, {3, 5, 7}, {65, 401, 33}, {260, 17, 129}}) {
    for (const DType result : {dtype, DType::kFloat32}) {
      for (const bool accumulate : {false, true}) {
        for (const bool with_bias : {false, true}) {
          for (const int64_t row_block : {0, 24}) {
            const MatmulOptions options{transpose_a, transpose_b, accumulate, row_block};
            CheckProduct(*device_, size, dtype, result, options, with_bias, accumulate ? 3 : 0);
          }
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, MatmulTest,
                         ::testing::Combine(::testing::Values(DType::kFloat32, DType::kBFloat16,
                                                              DType::kFloat16),
                                            ::testing::Bool(), ::testing::Bool()),
                         [](const auto& info) {
                           return fmt::format("{}_{}{}", DTypeName(std::get<0>(info.param)),
                                              std::get<1>(info.param) ? "T" : "N",
                                              std::get<2>(info.param) ? "T" : "N");
                         });

TEST(MatmulEdgeTest, EmptyDimensions) {
  const auto device = NewCpuDevice();
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16, DType::kFloat16}) {
    const auto empty = [&](int64_t m, int64_t n) { return Tensor::Empty({m, n}, dtype, *device); };
    Matmul(empty(0, 4), empty(0, 3), empty(3, 4));
    Matmul(empty(4, 0), empty(4, 3), empty(3, 0));
    // A sum of no products is zero, or what was there.
    for (const int64_t row_block : {0, 2}) {
      const Tensor c = RandomTensor(*device, {3, 2}, 1, 1.0, 0.0, dtype);
      const std::vector<uint8_t> before = Bits(c);
      Matmul(c, empty(3, 0), empty(0, 2), {.accumulate = true, .row_block = row_block});
      EXPECT_EQ(Bits(c), before);
      Matmul(c, empty(3, 0), empty(0, 2), {.row_block = row_block});
      EXPECT_EQ(ToDoubles(c), std::vector<double>(6, 0.0)) << DTypeName(dtype);
    }
  }
}

TEST(MatmulEdgeTest, MetaComputesNothingAndMisfitsAreCaught) {
  const auto meta = NewMetaDevice();
  const auto matrix = [&](int64_t m, int64_t n, DType dtype = DType::kFloat32) {
    return Tensor::Empty({m, n}, dtype, *meta);
  };
  Matmul(matrix(1 << 20, 1 << 20), matrix(1 << 20, 1 << 20), matrix(1 << 20, 1 << 20));
  EXPECT_DEATH(Matmul(matrix(2, 3), matrix(2, 4), matrix(5, 3)), "");
  EXPECT_DEATH(Matmul(matrix(2, 3), matrix(2, 4), matrix(4, 3, DType::kBFloat16)),
               "fp32 times bf16");
  EXPECT_DEATH(Matmul(matrix(2, 3, DType::kFloat16), matrix(2, 4), matrix(4, 3)), "fp16");
}

// What `row_block` promises: the bits of a block's rows are those of the block computed alone.
TEST(MatmulRowBlockTest, BlocksThreadsAndAddressesDoNotChangeBits) {
  const auto device = NewCpuDevice();
  constexpr int64_t kBlock = 37;
  constexpr int64_t kBlocks = 3;
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16, DType::kFloat16}) {
    for (const Size& size : {Size{kBlock, 200, 131}, {kBlock, 1000, 64}}) {
      for (const bool transpose_b : {false, true}) {
        SCOPED_TRACE(fmt::format("{} n {} transposed {}", DTypeName(dtype), size.n, transpose_b));
        const Tensor a = RandomTensor(*device, {kBlocks * size.m, size.k}, 1, 1.0, 0.0, dtype);
        const Tensor b = transpose_b ? RandomTensor(*device, {size.n, size.k}, 2, 1.0, 0.0, dtype)
                                     : RandomTensor(*device, {size.k, size.n}, 2, 1.0, 0.0, dtype);
        const Tensor bias = RandomTensor(*device, {size.n}, 3, 1.0, 0.0, dtype);
        const MatmulOptions options{.transpose_b = transpose_b, .row_block = kBlock};
        const Tensor all = Tensor::Empty({kBlocks * size.m, size.n}, dtype, *device);
        {
          const ScopedThreads one(1);
          Matmul(all, a, b, options, &bias);
        }
        const Tensor again = all.EmptyLike();
        {
          const ScopedThreads three(3);
          Matmul(again, a, b, options, &bias);
        }
        EXPECT_EQ(Bits(all), Bits(again)) << "threads";
        for (int64_t block = 0; block < kBlocks; ++block) {
          // One element further on than allocations start, and rows of another distance.
          const Tensor moved_a =
              RandomTensor(*device, {size.m, size.k + 5}, 9, 1.0, 0.0, dtype).Narrow(1, 1, size.k);
          CopyTo(moved_a, a.Narrow(0, block * size.m, size.m));
          const Tensor alone =
              Tensor::Empty({size.m, size.n + 1}, dtype, *device).Narrow(1, 1, size.n);
          Matmul(alone, moved_a, b, options, &bias);
          EXPECT_EQ(Bits(alone), Bits(all.Narrow(0, block * size.m, size.m))) << block;
        }
      }
    }
  }
}

TEST(ParallelTasksTest, RunsEachTaskOnceOnOneThread) {
  const ScopedThreads threads(3);
  std::vector<int> runs(100, 0);
  std::vector<int> inner_threads(100, 0);
  ParallelTasks(100, [&](int64_t task) {
    ++runs[task];
    inner_threads[task] = omp_get_max_threads();
  });
  EXPECT_EQ(runs, std::vector<int>(100, 1));
  EXPECT_EQ(inner_threads, std::vector<int>(100, 1));
  ParallelTasks(1, [&](int64_t) { EXPECT_EQ(omp_get_max_threads(), 1); });
  EXPECT_EQ(omp_get_max_threads(), 3) << "the caller's setting was changed";
}

TEST(ParallelTasksTest, RethrowsAnErrorOfATask) {
  for (const int count : {1, 2}) {
    const ScopedThreads threads(count);
    EXPECT_THROW(ParallelTasks(8,
                               [](int64_t task) {
                                 if (task == 5) Throw(ErrorKind::kOutOfMemory, "task", "no memory");
                               }),
                 Error);
  }
}

TEST(CpuIsaTest, ConfiguringIsRepeatable) {
  ConfigureCpuLibraries();
  ConfigureCpuLibraries();
  EXPECT_EQ(HasFastBFloat16Products(), HasFastBFloat16Products());
}

}  // namespace
}  // namespace cairn
