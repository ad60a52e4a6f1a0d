#include "runtime/checkpoint/checkpoint_diff.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <span>

#include "runtime/checkpoint/safetensors.h"
#include "runtime/checkpoint/tensor_stream.h"

namespace cairn {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr size_t kBatch = 4096;  // elements

// The index of element number `place` of a tensor in row-major order.
std::vector<int64_t> IndexOf(uint64_t place, const std::vector<int64_t>& shape) {
  std::vector<int64_t> index(shape.size());
  for (size_t d = shape.size(); d > 0; --d) {
    const auto size = static_cast<uint64_t>(shape[d - 1]);
    index[d - 1] = static_cast<int64_t>(place % size);
    place /= size;
  }
  return index;
}

// Compares two tensors of the same dtype and shape.
class TensorComparer {
 public:
  TensorComparer(const TensorEntry& tensor, const Tolerance& tolerance)
      : tolerance_(tolerance),
        element_(SafetensorsDTypeBytes(tensor.dtype).value_or(1)),
        is_number_(IsNumber(tensor.dtype)),
        values_a_(is_number_ ? kBatch : 0),
        values_b_(values_a_.size()) {
    diff_.tensor = &tensor;
  }

  TensorDiff Run(TensorStream a, TensorStream b) {
    // The pieces of the two need not be alike.
    auto piece_a = a.Next();
    auto piece_b = b.Next();
    while (!piece_a.empty() && !piece_b.empty()) {
      const size_t bytes = std::min({piece_a.size(), piece_b.size(), kBatch * element_});
      if (std::memcmp(piece_a.data(), piece_b.data(), bytes) != 0) {
        CompareBatch(piece_a.data(), piece_b.data(), bytes / element_);
      }
      place_ += bytes / element_;
      piece_a = piece_a.subspan(bytes);
      piece_b = piece_b.subspan(bytes);
      if (piece_a.empty()) piece_a = a.Next();
      if (piece_b.empty()) piece_b = b.Next();
    }
    return std::move(diff_);
  }

 private:
  void CompareBatch(const std::byte* a, const std::byte* b, size_t count) {
    if (is_number_) {
      DecodeElements(diff_.tensor->dtype, a, std::span(values_a_).first(count));
      DecodeElements(diff_.tensor->dtype, b, std::span(values_b_).first(count));
    }
    for (size_t i = 0; i < count; ++i, a += element_, b += element_) {
      if (std::memcmp(a, b, element_) == 0) continue;
      ++diff_.differing;
      if (is_number_ && Passes(values_a_[i], values_b_[i], a, b)) continue;
      if (diff_.beyond++ > 0) continue;
      diff_.first = IndexOf(place_ + i, diff_.tensor->shape);
      if (!is_number_) continue;
      diff_.first_a = DecodeElement(diff_.tensor->dtype, a);
      diff_.first_b = DecodeElement(diff_.tensor->dtype, b);
    }
  }

  // Notes how far two numbers of different bits are from each other; whether that is let pass.
  bool Passes(double x, double y, const std::byte* a, const std::byte* b) {
    if (std::isnan(x) && std::isnan(y)) return !tolerance_.bitwise;
    if (!std::isfinite(x) || !std::isfinite(y)) {
      diff_.max_absolute = diff_.max_relative = diff_.max_ulp = kInfinity;
      return false;
    }
    const double distance = std::abs(x - y);
    const double magnitude = std::max(std::abs(x), std::abs(y));
    const uint64_t ulp = UlpDistance(diff_.tensor->dtype, a, b);
    diff_.max_absolute = std::max(diff_.max_absolute, distance);
    if (magnitude > 0) diff_.max_relative = std::max(diff_.max_relative, distance / magnitude);
    diff_.max_ulp = std::max(diff_.max_ulp, static_cast<double>(ulp));
    return !tolerance_.bitwise &&
           (distance <= tolerance_.absolute + tolerance_.relative * magnitude ||
            ulp <= tolerance_.ulp);
  }

  const Tolerance& tolerance_;
  uint64_t element_;
  bool is_number_;
  std::vector<double> values_a_;
  std::vector<double> values_b_;
  uint64_t place_ = 0;
  TensorDiff diff_;
};

}  // namespace

bool CheckpointDiff::Differs() const {
  return !state.empty() || !only_in_a.empty() || !only_in_b.empty() || !unlike.empty() ||
         std::ranges::any_of(tensors, [](const TensorDiff& diff) { return diff.beyond > 0; });
}

CheckpointDiff CompareCheckpoints(CheckpointReader& a, CheckpointReader& b,
                                  const Tolerance& tolerance, bool with_state,
                                  const std::function<bool(const TensorEntry&)>& matches) {
  CheckpointDiff result;
  if (with_state) {
    const std::vector<StateField> fields_a = StateFields(a.manifest());
    const std::vector<StateField> fields_b = StateFields(b.manifest());
    for (size_t i = 0; i < fields_a.size(); ++i) {
      if (fields_a[i].value != fields_b[i].value)
        result.state.push_back({fields_a[i], fields_b[i]});
    }
  }
  for (const TensorEntry& tensor : b.manifest().tensors) {
    if (matches(tensor) && a.Find(tensor.name, tensor.kind) == nullptr) {
      result.only_in_b.push_back(&tensor);
    }
  }
  for (const TensorEntry& tensor : a.manifest().tensors) {
    if (!matches(tensor)) continue;
    const TensorEntry* const other = b.Find(tensor.name, tensor.kind);
    if (other == nullptr) {
      result.only_in_a.push_back(&tensor);
    } else if (other->dtype != tensor.dtype || other->shape != tensor.shape) {
      result.unlike.emplace_back(&tensor, other);
    } else {
      TensorDiff diff = TensorComparer(tensor, tolerance).Run({a, tensor}, {b, *other});
      ++result.compared;
      if (diff.differing > 0) result.tensors.push_back(std::move(diff));
    }
  }
  return result;
}

}  // namespace cairn
