#include "tests/parallel/communicator_testing.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <type_traits>

namespace cairn::testing {
namespace {

// Element `i` of what `rank` brings to the verb number `verb`: all bits of integers, fractions in
// [-1, 1) whose sums round.
template <typename T>
T Element(int verb, int rank, int64_t i) {
  // splitmix64 (Steele et al. 2014): a good mix, and quick for the millions that the tests draw.
  uint64_t x = (static_cast<uint64_t>(verb) << 48) + (static_cast<uint64_t>(rank) << 40) +
               static_cast<uint64_t>(i);
  x = (x + 1) * 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  x ^= x >> 31;
  if constexpr (std::is_integral_v<T>) {
    return static_cast<T>(x);
  } else {
    const double fraction = static_cast<double>(static_cast<int64_t>(x)) * 0x1p-63;
    if constexpr (std::is_same_v<T, double>) return fraction;
    return T(static_cast<float>(fraction));
  }
}

template <typename T>
std::vector<T> Elements(int verb, int rank, int64_t n) {
  std::vector<T> elements;
  elements.reserve(n);
  for (int64_t i = 0; i < n; ++i) elements.push_back(Element<T>(verb, rank, i));
  return elements;
}

// The reduction over all ranks of element i, the obvious way.
template <typename T>
T Reduced(int verb, int size, int64_t i, ReduceOp op) {
  const T first = Element<T>(verb, 0, i);
  const auto reduce = [&](auto total, auto as) {
    for (int rank = 1; rank < size; ++rank) {
      const auto term = as(Element<T>(verb, rank, i));
      total = op == ReduceOp::kSum ? total + term : std::max(total, term);
    }
    return static_cast<T>(total);
  };
  if constexpr (std::is_integral_v<T>) {
    const auto as_unsigned = [](T x) { return static_cast<std::make_unsigned_t<T>>(x); };
    if (op == ReduceOp::kMax) return reduce(first, [](T x) { return x; });
    return reduce(uint64_t{as_unsigned(first)}, [&](T x) { return uint64_t{as_unsigned(x)}; });
  } else if constexpr (std::is_same_v<T, double>) {
    return reduce(first, [](T x) { return x; });
  } else {
    return reduce(static_cast<float>(first), [](T x) { return static_cast<float>(x); });
  }
}

template <typename T>
std::string BytesOf(const std::vector<T>& elements) {
  return {reinterpret_cast<const char*>(elements.data()), elements.size() * sizeof(T)};
}

template <typename T>
void ExpectSameBits(const Tensor& tensor, const std::vector<T>& expected, const char* verb) {
  const std::vector<T> got = tensor.ToHost<T>();
  if (BytesOf(got) == BytesOf(expected)) return;
  int64_t i = 0;
  while (BytesOf<T>({got[i]}) == BytesOf<T>({expected[i]})) ++i;
  ADD_FAILURE() << verb << " of " << DTypeName(tensor.dtype()) << ": element " << i << " of "
                << got.size() << " is " << static_cast<double>(static_cast<float>(got[i]))
                << " and should be " << static_cast<double>(static_cast<float>(expected[i]));
}

template <typename T>
class VerbChecker {
 public:
  VerbChecker(Communicator& group, Stream& stream, int64_t n)
      : group_(group), stream_(stream), n_(n), size_(group.size()), me_(group.rank()) {}

  void CheckAll() {
    CheckAllReduce(ReduceOp::kSum);
    CheckAllReduce(ReduceOp::kMax);
    CheckAllGather(/*in_place=*/false);
    CheckAllGather(/*in_place=*/true);
    CheckReduceScatter(/*in_place=*/false);
    CheckReduceScatter(/*in_place=*/true);
    CheckAllToAll();
    for (int root = 0; root < size_; ++root) CheckBroadcast(root);
    if (size_ > 1) CheckRing();
  }

 private:
  Tensor Input(int64_t n) { return Filled(Elements<T>(++verb_, me_, n)); }
  Tensor Filled(const std::vector<T>& elements) {
    return Tensor::FromHost<T>(elements, {static_cast<int64_t>(elements.size())}, *device_);
  }
  Tensor Empty(int64_t n) { return Tensor::Empty({n}, DTypeOf<T>::kValue, *device_); }

  void CheckAllReduce(ReduceOp op) {
    const Tensor tensor = Input(n_);
    group_.AllReduce(tensor, op, stream_);
    stream_.Synchronize();
    std::vector<T> expected;
    for (int64_t i = 0; i < n_; ++i) expected.push_back(Reduced<T>(verb_, size_, i, op));
    ExpectSameBits(tensor, expected, op == ReduceOp::kSum ? "AllReduce sum" : "AllReduce max");
  }

  void CheckAllGather(bool in_place) {
    const Tensor input = Input(n_);
    const Tensor output = Empty(n_ * size_);
    const Tensor part = output.Narrow(0, n_ * me_, n_);
    if (in_place) device_->Copy(part.raw(), input.raw(), input.bytes(), device_->compute_stream());
    group_.AllGather(output, in_place ? part : input, stream_);
    stream_.Synchronize();
    std::vector<T> expected;
    for (int rank = 0; rank < size_; ++rank) {
      std::ranges::copy(Elements<T>(verb_, rank, n_), std::back_inserter(expected));
    }
    ExpectSameBits(output, expected, "AllGather");
  }

  void CheckReduceScatter(bool in_place) {
    const Tensor input = Input(n_ * size_);
    const Tensor output = in_place ? input.Narrow(0, n_ * me_, n_) : Empty(n_);
    group_.ReduceScatter(output, input, stream_);
    stream_.Synchronize();
    std::vector<T> expected;
    for (int64_t i = 0; i < n_; ++i) {
      expected.push_back(Reduced<T>(verb_, size_, n_ * me_ + i, ReduceOp::kSum));
    }
    ExpectSameBits(output, expected, "ReduceScatter");
  }

  void CheckAllToAll() {
    const Tensor input = Input(n_ * size_);
    const Tensor output = Empty(n_ * size_);
    group_.AllToAll(output, input, stream_);
    stream_.Synchronize();
    std::vector<T> expected;
    for (int rank = 0; rank < size_; ++rank) {
      for (int64_t i = 0; i < n_; ++i) expected.push_back(Element<T>(verb_, rank, n_ * me_ + i));
    }
    ExpectSameBits(output, expected, "AllToAll");
  }

  void CheckBroadcast(int root) {
    const Tensor tensor = Input(n_);
    group_.Broadcast(tensor, root, stream_);
    stream_.Synchronize();
    ExpectSameBits(tensor, Elements<T>(verb_, root, n_), "Broadcast");
  }

  // Two messages to the right, sent by all before any receives: Send never waits.
  void CheckRing() {
    const Tensor first = Input(n_);
    const Tensor second = Input(n_ + 1);
    const int left = (me_ + size_ - 1) % size_;
    group_.Send(first, (me_ + 1) % size_, stream_);
    group_.Send(second, (me_ + 1) % size_, stream_);
    const Tensor got_first = Empty(n_);
    const Tensor got_second = Empty(n_ + 1);
    group_.Recv(got_first, left, stream_);
    group_.Recv(got_second, left, stream_);
    stream_.Synchronize();
    ExpectSameBits(got_first, Elements<T>(verb_ - 1, left, n_), "Recv");
    ExpectSameBits(got_second, Elements<T>(verb_, left, n_ + 1), "Recv");
    group_.Barrier();
  }

  Communicator& group_;
  Stream& stream_;
  std::unique_ptr<Device> device_ = NewCpuDevice();
  int64_t n_;
  int size_;
  int me_;
  int verb_ = 0;  // gives each verb data of its own
};

}  // namespace

void CheckEveryVerb(Communicator& group, Stream& stream, DType dtype, int64_t n) {
  switch (dtype) {
    case DType::kFloat32:
      return VerbChecker<float>(group, stream, n).CheckAll();
    case DType::kBFloat16:
      return VerbChecker<BFloat16>(group, stream, n).CheckAll();
    case DType::kFloat16:
      return VerbChecker<Float16>(group, stream, n).CheckAll();
    case DType::kFloat64:
      return VerbChecker<double>(group, stream, n).CheckAll();
    case DType::kInt32:
      return VerbChecker<int32_t>(group, stream, n).CheckAll();
    case DType::kInt64:
      return VerbChecker<int64_t>(group, stream, n).CheckAll();
    case DType::kUInt8:
      return VerbChecker<uint8_t>(group, stream, n).CheckAll();
  }
}

}  // namespace cairn::testing
