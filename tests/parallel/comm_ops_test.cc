#include "parallel/comm_ops.h"

#include <gtest/gtest.h>

#include <numeric>

#include "parallel/local_communicator.h"
#include "parallel/meta_communicator.h"

namespace cairn {
namespace {

constexpr int64_t kColumns = 3;

// [rows, kColumns] whose row r is filled with first + r.
Tensor Rows(Device& device, int64_t rows, float first) {
  std::vector<float> elements;
  for (int64_t row = 0; row < rows; ++row) {
    elements.insert(elements.end(), kColumns, first + static_cast<float>(row));
  }
  return Tensor::FromHost<float>(elements, {rows, kColumns}, device);
}

// The first element of each row.
std::vector<float> FirstColumn(const Tensor& tensor) {
  EXPECT_EQ(tensor.dim(1), kColumns);
  const std::vector<float> all = tensor.ToHost<float>();
  std::vector<float> column;
  for (size_t i = 0; i < all.size(); i += kColumns) {
    column.push_back(all[i]);
    EXPECT_EQ(all[i + 1], all[i]);
    EXPECT_EQ(all[i + 2], all[i]);
  }
  return column;
}

using Op = Value (*)(Tape&, const Value&, Communicator&);

struct Result {
  std::vector<float> forward;
  std::vector<float> backward;
};

// Forward of Rows(rows, 10 * rank), backward of Rows(output rows, 100 * rank); expects that neither
// operand is written to.
Result RunPair(Op op, Communicator& group, int64_t rows) {
  const std::unique_ptr<Device> device = NewCpuDevice();
  Tape tape;
  const Tensor data = Rows(*device, rows, 10.0F * static_cast<float>(group.rank()));
  const std::vector<float> before = FirstColumn(data);
  const Value x = tape.Input(data);
  const Value y = op(tape, x, group);
  EXPECT_EQ(tape.num_nodes(), group.size() == 1 ? 0u : 1u);
  const Tensor gradient = Rows(*device, y.data.dim(0), 100.0F * static_cast<float>(group.rank()));
  const std::vector<float> gradient_before = FirstColumn(gradient);
  Result result{FirstColumn(y.data), {}};
  tape.BackwardInput(y, gradient);
  result.backward = FirstColumn(tape.TakeGradient(x));
  EXPECT_EQ(FirstColumn(data), before);
  EXPECT_EQ(FirstColumn(gradient), gradient_before);
  return result;
}

// Row r of the sum over ranks of Rows(_, scale * rank).
std::vector<float> SummedRows(int size, int64_t begin, int64_t end, float scale) {
  std::vector<float> rows;
  for (int64_t r = begin; r < end; ++r) {
    float sum = 0;
    for (int rank = 0; rank < size; ++rank) {
      sum += scale * static_cast<float>(rank) + static_cast<float>(r);
    }
    rows.push_back(sum);
  }
  return rows;
}

// Rows(rows, scale * rank) of all ranks, one after the other.
std::vector<float> GatheredRows(int size, int64_t rows, float scale) {
  std::vector<float> all;
  for (int rank = 0; rank < size; ++rank) {
    for (int64_t r = 0; r < rows; ++r) {
      all.push_back(scale * static_cast<float>(rank) + static_cast<float>(r));
    }
  }
  return all;
}

std::vector<float> OwnRows(int64_t begin, int64_t end, float first) {
  std::vector<float> rows(end - begin);
  std::iota(rows.begin(), rows.end(), first + static_cast<float>(begin));
  return rows;
}

class CommOpsTest : public ::testing::TestWithParam<int> {
 protected:
  // Runs on every rank; `rows` divides by the group's size.
  template <typename Check>
  void OnRanks(Check&& check) {
    RunLocalRanks(GetParam(), [&](Communicator& group) {
      const int64_t part = 2;
      check(group, part, part * group.size());
    });
  }
};

TEST_P(CommOpsTest, CopyToTensorParallel) {
  OnRanks([](Communicator& group, int64_t, int64_t rows) {
    const Result result = RunPair(CopyToTensorParallel, group, rows);
    EXPECT_EQ(result.forward, OwnRows(0, rows, 10.0F * static_cast<float>(group.rank())));
    EXPECT_EQ(result.backward, SummedRows(group.size(), 0, rows, 100));
  });
}

TEST_P(CommOpsTest, ReduceFromTensorParallel) {
  OnRanks([](Communicator& group, int64_t, int64_t rows) {
    const Result result = RunPair(ReduceFromTensorParallel, group, rows);
    EXPECT_EQ(result.forward, SummedRows(group.size(), 0, rows, 10));
    EXPECT_EQ(result.backward, OwnRows(0, rows, 100.0F * static_cast<float>(group.rank())));
  });
}

TEST_P(CommOpsTest, GatherFromSequenceParallel) {
  OnRanks([](Communicator& group, int64_t part, int64_t) {
    const Result result = RunPair(GatherFromSequenceParallel, group, part);
    EXPECT_EQ(result.forward, GatheredRows(group.size(), part, 10));
    EXPECT_EQ(result.backward,
              SummedRows(group.size(), part * group.rank(), part * (group.rank() + 1), 100));
  });
}

TEST_P(CommOpsTest, ReduceScatterToSequenceParallel) {
  OnRanks([](Communicator& group, int64_t part, int64_t rows) {
    const Result result = RunPair(ReduceScatterToSequenceParallel, group, rows);
    EXPECT_EQ(result.forward,
              SummedRows(group.size(), part * group.rank(), part * (group.rank() + 1), 10));
    EXPECT_EQ(result.backward, GatheredRows(group.size(), part, 100));
  });
}

TEST_P(CommOpsTest, ScatterToSequenceParallel) {
  OnRanks([](Communicator& group, int64_t part, int64_t rows) {
    const Result result = RunPair(ScatterToSequenceParallel, group, rows);
    EXPECT_EQ(result.forward, OwnRows(part * group.rank(), part * (group.rank() + 1),
                                      10.0F * static_cast<float>(group.rank())));
    EXPECT_EQ(result.backward, GatheredRows(group.size(), part, 100));
  });
}

TEST_P(CommOpsTest, ExchangeRows) {
  OnRanks([](Communicator& group, int64_t part, int64_t rows) {
    const Result result = RunPair(ExchangeRows, group, rows);
    const auto swapped = [&](float scale) {
      std::vector<float> expected;
      for (int from = 0; from < group.size(); ++from) {
        for (int64_t r = part * group.rank(); r < part * (group.rank() + 1); ++r) {
          expected.push_back(scale * static_cast<float>(from) + static_cast<float>(r));
        }
      }
      return expected;
    };
    EXPECT_EQ(result.forward, swapped(10));
    EXPECT_EQ(result.backward, swapped(100));
  });
}

INSTANTIATE_TEST_SUITE_P(Sizes, CommOpsTest, ::testing::Values(1, 2, 3, 5));

TEST(CommOps, StridedOperands) {
  RunLocalRanks(2, [](Communicator& group) {
    const std::unique_ptr<Device> device = NewCpuDevice();
    const Tensor wide = Tensor::FromHost<float>(std::vector<float>{1, 1, 1, -1, 2, 2, 2, -2},
                                                {2, kColumns + 1}, *device);
    const Value x{wide.Narrow(1, 0, kColumns)};
    Tape tape;
    EXPECT_EQ(FirstColumn(ReduceFromTensorParallel(tape, x, group).data),
              (std::vector<float>{2, 4}));
    EXPECT_EQ(FirstColumn(GatherFromSequenceParallel(tape, x, group).data),
              (std::vector<float>{1, 2, 1, 2}));
    EXPECT_EQ(FirstColumn(ExchangeRows(tape, x, group).data).size(), 2u);
  });
}

TEST(CommOps, ACopyIsAsCheapToHaveAgain) {
  RunLocalRanks(2, [](Communicator& group) {
    const std::unique_ptr<Device> device = NewCpuDevice();
    Tape tape;
    Value x = tape.Input(Rows(*device, 2, 0));
    x.again = [data = x.data] { return data; };
    const Value copy = CopyToTensorParallel(tape, x, group);
    ASSERT_TRUE(copy.again != nullptr);
    EXPECT_EQ(copy.again().raw(), x.data.raw());
  });
}

TEST(CommOps, AConstantIsNotRecorded) {
  RunLocalRanks(2, [](Communicator& group) {
    const std::unique_ptr<Device> device = NewCpuDevice();
    Tape tape;
    const Value constant{Rows(*device, 2, 0)};
    EXPECT_FALSE(CopyToTensorParallel(tape, constant, group).needs_gradient());
    EXPECT_FALSE(ReduceFromTensorParallel(tape, constant, group).needs_gradient());
    EXPECT_EQ(tape.num_nodes(), 0u);
  });
}

TEST(CommOps, MetaTensorsHaveTheShapesOfRealOnes) {
  std::vector<CommRecord> log;
  const std::unique_ptr<Communicator> group = NewMetaGroup(1, 4, "tp", &log);
  const std::unique_ptr<Device> device = NewMetaDevice();
  Tape tape;
  const Value x = tape.Input(Tensor::Empty({8, kColumns}, DType::kBFloat16, *device));
  const Value own = ReduceScatterToSequenceParallel(tape, x, *group);
  EXPECT_EQ(own.data.shape(), (Shape{2, kColumns}));
  const Value all = GatherFromSequenceParallel(tape, own, *group);
  EXPECT_EQ(all.data.shape(), (Shape{8, kColumns}));
  tape.BackwardInput(all, all.data.EmptyLike());
  EXPECT_EQ(tape.TakeGradient(x).shape(), x.data.shape());
  ASSERT_EQ(log.size(), 2u);
  EXPECT_EQ(log[0].calls, 2);  // ReduceScatter, once each way
  EXPECT_EQ(log[1].calls, 2);  // AllGather
}

}  // namespace
}  // namespace cairn
