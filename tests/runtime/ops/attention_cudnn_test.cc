#include "runtime/ops/attention_cudnn.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <vector>

#include "runtime/ops/attention_kernel.h"

namespace cairn {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr int64_t kSamples = 3;
constexpr int64_t kSeq = 5;
constexpr int64_t kHeadDim = 8;

AttentionSpec Spec(int64_t heads, int64_t groups, bool deterministic = false, double dropout = 0) {
  return {.samples = kSamples,
          .seq_length = kSeq,
          .heads = heads,
          .groups = groups,
          .head_dim = kHeadDim,
          .dropout = dropout,
          .deterministic = deterministic};
}

using Place = std::function<int64_t(int64_t sample, int64_t head, int64_t token, int64_t d)>;

// Every element of `view` in every call is where `place` says, and none is left out of `seen`.
void ExpectPlaces(const CudnnAttention& attention, const AttentionView& view, int64_t step,
                  const Place& place, std::vector<int>& seen) {
  for (int64_t call = 0; call < attention.calls; ++call) {
    for (int64_t b = 0; b < view.dims[0]; ++b) {
      for (int64_t h = 0; h < view.dims[1]; ++h) {
        for (int64_t t = 0; t < view.dims[2]; ++t) {
          for (int64_t d = 0; d < view.dims[3]; ++d) {
            const bool by_sample = attention.calls > 1;
            const int64_t sample = by_sample ? call : b;
            const int64_t head = attention.batch_is_groups ? b * view.dims[1] + h : h;
            const int64_t at = call * step + view.offset + b * view.strides[0] +
                               h * view.strides[1] + t * view.strides[2] + d * view.strides[3];
            ASSERT_EQ(at, place(sample, head, t, d)) << "sample " << sample << " head " << head;
            ++seen.at(static_cast<size_t>(at));
          }
        }
      }
    }
  }
}

struct Heads {
  int64_t heads;
  int64_t groups;
  bool deterministic;
  int64_t calls;
  double dropout = 0;
};

class CudnnAttentionTest : public ::testing::TestWithParam<Heads> {};

TEST_P(CudnnAttentionTest, ViewsAreWhereTheKernelsReadAndWrite) {
  const int64_t heads = GetParam().heads;
  const AttentionSpec spec =
      Spec(heads, GetParam().groups, GetParam().deterministic, GetParam().dropout);
  const AttentionGeometry g(spec);
  const CudnnAttention attention(spec, DType::kBFloat16);
  EXPECT_EQ(attention.calls, GetParam().calls);

  std::vector<int> qkv(kSamples * kSeq * g.row_stride);
  const auto in_row = [&](auto column) {
    return [&, column](int64_t sample, int64_t head, int64_t token, int64_t d) {
      return (sample * kSeq + token) * g.row_stride + column(head) + d;
    };
  };
  ExpectPlaces(attention, attention.Query(), attention.QkvStep(),
               in_row([&](int64_t head) { return g.QueryColumn(head); }), qkv);
  ExpectPlaces(attention, attention.Key(), attention.QkvStep(),
               in_row([&](int64_t group) { return g.KeyColumn(group); }), qkv);
  ExpectPlaces(attention, attention.Value(), attention.QkvStep(),
               in_row([&](int64_t group) { return g.ValueColumn(group); }), qkv);
  EXPECT_EQ(qkv, std::vector<int>(qkv.size(), 1)) << "not each element once";

  std::vector<int> out(kSamples * kSeq * heads * kHeadDim);
  ExpectPlaces(
      attention, attention.Out(), attention.OutStep(),
      [&](int64_t sample, int64_t head, int64_t token, int64_t d) {
        return ((sample * kSeq + token) * heads + head) * kHeadDim + d;
      },
      out);
  EXPECT_EQ(out, std::vector<int>(out.size(), 1));

  std::vector<int> logsumexp(kSamples * heads * kSeq);
  ExpectPlaces(
      attention, attention.Logsumexp(), attention.LogsumexpStep(),
      [&](int64_t sample, int64_t head, int64_t token, int64_t) {
        return (sample * heads + head) * kSeq + token;
      },
      logsumexp);
  EXPECT_EQ(logsumexp, std::vector<int>(logsumexp.size(), 1));
}

INSTANTIATE_TEST_SUITE_P(Heads, CudnnAttentionTest,
                         ::testing::Values(Heads{1, 1, false, 1}, Heads{4, 4, false, 1},
                                           Heads{4, 1, false, 1}, Heads{6, 2, false, kSamples},
                                           Heads{4, 4, true, kSamples}, Heads{4, 1, true, kSamples},
                                           Heads{6, 2, true, kSamples},
                                           Heads{4, 4, false, kSamples, 0.1},
                                           Heads{6, 2, false, kSamples, 0.1}));

TEST(CudnnAttentionTest, ADeterministicPlanKnowsOneSampleOnly) {
  AttentionSpec spec = Spec(4, 4, true);
  CudnnAttention one(spec, DType::kBFloat16);
  spec.samples = 1;
  const CudnnAttention other(spec, DType::kBFloat16);
  EXPECT_EQ(other.batch, one.batch);
  one.calls = other.calls;
  EXPECT_EQ(one, other);
}

constexpr int kH100 = 90;
constexpr size_t kCudnn919 = 91900;

TEST(WhyNotCudnnTest, TakesWhatATransformerTrainsWith) {
  for (const DType dtype : {DType::kBFloat16, DType::kFloat16}) {
    for (const int64_t head_dim : {8, 64, 96, 128}) {
      AttentionSpec spec = Spec(8, 2);
      spec.head_dim = head_dim;
      spec.dropout = head_dim == 64 ? 0.1 : 0;
      for (const int capability : {80, 86, 90, 100}) {
        EXPECT_THAT(WhyNotCudnn(spec, dtype, capability, kCudnn919), IsEmpty());
      }
    }
  }
}

TEST(WhyNotCudnnTest, SaysWhatItDoesNotTake) {
  const auto why = [](auto change, DType dtype = DType::kBFloat16, int capability = kH100,
                      size_t version = kCudnn919) {
    AttentionSpec spec = Spec(8, 2);
    change(spec);
    return WhyNotCudnn(spec, dtype, capability, version);
  };
  const auto same = [](AttentionSpec&) {};
  EXPECT_THAT(why(same, DType::kFloat32), HasSubstr("fp32"));
  EXPECT_THAT(why(same, DType::kBFloat16, 75), HasSubstr("7.5"));
  EXPECT_THAT(why(same, DType::kBFloat16, kH100, 90800), HasSubstr("9.8"));
  EXPECT_THAT(why([](AttentionSpec& spec) { spec.head_dim = 20; }), HasSubstr("20"));
  EXPECT_THAT(why([](AttentionSpec& spec) { spec.head_dim = 136; }), HasSubstr("136"));
  EXPECT_THAT(why([](AttentionSpec& spec) { spec.seq_length = 1; }), HasSubstr("one token"));
  const auto is_long = [](AttentionSpec& spec) { spec.seq_length = 8200; };
  EXPECT_THAT(why(is_long), IsEmpty());
  EXPECT_THAT(why([&](AttentionSpec& spec) {
                is_long(spec);
                spec.deterministic = true;
              }),
              HasSubstr("deterministic"));
  EXPECT_THAT(why([&](AttentionSpec& spec) {
                is_long(spec);
                spec.dropout = 0.1;
              }),
              HasSubstr("mask"));
}

}  // namespace
}  // namespace cairn
