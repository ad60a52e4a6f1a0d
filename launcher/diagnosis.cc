#include "launcher/diagnosis.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "runtime/ops/reduce.h"
#include "runtime/tensor/elementwise.h"

namespace cairn {
namespace {

template <typename T>
std::string DescribeNonFinite(const std::vector<T>& values) {
  const auto bad = [](T value) { return !std::isfinite(value); };
  const auto first = std::ranges::find_if(values, bad);
  return fmt::format("{} of {} elements, the first {} at {}", std::ranges::count_if(values, bad),
                     values.size(), std::isnan(*first) ? "nan" : "inf", first - values.begin());
}

// What is not finite in `tensor`; "" if all is.
std::string FindNonFinite(const Tensor& tensor) {
  if (tensor.numel() == 0) return "";
  if (tensor.dtype() == DType::kFloat64) {  // sums of exact gradients
    const std::vector<double> values = tensor.ToHost<double>();
    return std::ranges::all_of(values, [](double v) { return std::isfinite(v); })
               ? ""
               : DescribeNonFinite(values);
  }
  // No sum in fp64 of finite fp32 numbers overflows.
  const Tensor total = Tensor::Zeros({1}, DType::kFloat64, tensor.device());
  AddSum(total, tensor.contiguous() ? tensor : ContiguousCopy(tensor));
  if (std::isfinite(total.ToHost<double>()[0])) return "";
  const Tensor single = Tensor::Empty(tensor.shape(), DType::kFloat32, tensor.device());
  CopyTo(single, tensor);
  return DescribeNonFinite(single.ToHost<float>());
}

}  // namespace

Diagnosis::Diagnosis(const Mesh& mesh, const ParameterList& parameters, int64_t first_sample,
                     int64_t samples_per_rank)
    : mesh_(&mesh),
      parameters_(&parameters),
      first_sample_(first_sample),
      samples_per_rank_(samples_per_rank) {}

template <typename Describe>
void Diagnosis::Look(const std::array<int64_t, 4>& order, const Tensor& tensor,
                     const Describe& describe) {
  if (first_ && first_->order <= order) return;
  const std::string found = FindNonFinite(tensor);
  if (!found.empty()) first_ = {order, fmt::format("{} ({})", describe(), found)};
}

int64_t Diagnosis::IndexOf(const Parameter& parameter) const {
  return std::ranges::find(*parameters_, &parameter) - parameters_->begin();
}

std::string Diagnosis::Name(const Microbatch& batch) const {
  const int64_t first = first_sample_ + batch.first_sample;
  return fmt::format("microbatch {} of data-parallel rank {}, samples {} to {}",
                     batch.first_sample % samples_per_rank_ / batch.samples, mesh_->coordinate().dp,
                     first, first + batch.samples - 1);
}

void Diagnosis::LookAtState(const std::vector<StatePiece>& state) {
  const int rank = mesh_->world().rank();
  for (const StatePiece& piece : state) {
    Look(
        {static_cast<int64_t>(Kind::kMainState), mesh_->coordinate().pp, IndexOf(*piece.parameter)},
        piece.data, [&] {
          return fmt::format("\"{}\" ({}) is not finite on rank {}", piece.parameter->name,
                             piece.kind, rank);
        });
  }
  for (const Parameter* parameter : *parameters_) {
    Look({static_cast<int64_t>(Kind::kWeight), mesh_->coordinate().pp, IndexOf(*parameter)},
         parameter->weight.Current(), [&] {
           return fmt::format("\"{}\" (the weight that is computed with) is not finite on rank {}",
                              parameter->name, rank);
         });
  }
}

void Diagnosis::LookAtForward(const Microbatch& batch, std::string_view what,
                              const Tensor& numbers) {
  Look({static_cast<int64_t>(Kind::kForward), batch.first_sample, mesh_->coordinate().pp, looks_++},
       numbers, [&] {
         return fmt::format("{} is the first that is not finite, on rank {} in {}", what,
                            mesh_->world().rank(), Name(batch));
       });
}

void Diagnosis::LookAtGradients(const Microbatch& batch, const std::vector<Bucket>& buckets) {
  for (const Bucket& bucket : buckets) {
    const Tensor& sums = bucket.exact_hi.defined() ? bucket.exact_hi : bucket.gradient;
    for (size_t i = 0; i < bucket.parameters.size(); ++i) {
      const Parameter& parameter = *bucket.parameters[i];
      // The backward pass comes from the end of the model.
      Look({static_cast<int64_t>(Kind::kGradient), batch.first_sample, -mesh_->coordinate().pp,
            -IndexOf(parameter)},
           sums.Narrow(0, bucket.offsets[i], parameter.shard.local_shape.numel()), [&] {
             return fmt::format(
                 "the gradient of \"{}\" is the first that is not finite, on rank {} in {}",
                 parameter.name, mesh_->world().rank(), Name(batch));
           });
    }
  }
}

std::optional<Culprit> Diagnosis::Conclude() {
  std::string own;
  if (first_) {
    own.assign(reinterpret_cast<const char*>(first_->order.data()), sizeof(first_->order));
    own += first_->text;
  }
  std::optional<Finding> first;
  for (const std::string& bytes : mesh_->world().AllGatherBytes(own)) {
    if (bytes.empty()) continue;
    Finding finding;
    std::memcpy(finding.order.data(), bytes.data(), sizeof(finding.order));
    finding.text = bytes.substr(sizeof(finding.order));
    if (!first || finding.order < first->order) first = std::move(finding);
  }
  if (!first) return std::nullopt;
  return Culprit{first->order[0] <= static_cast<int64_t>(Kind::kWeight), std::move(first->text)};
}

}  // namespace cairn
