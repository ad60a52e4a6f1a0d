#include "product_testing.h"

#include <omp.h>

#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

namespace cairn::testing {

ScopedThreads::ScopedThreads(int threads) : before_(omp_get_max_threads()) {
  omp_set_num_threads(threads);
}

ScopedThreads::~ScopedThreads() { omp_set_num_threads(before_); }

ReferenceFile::ReferenceFile(const std::string& name) {
  std::ifstream file(std::string(CAIRN_SOURCE_DIR) + "/tests/runtime/ops/" + name);
  text_.assign(std::istreambuf_iterator<char>(file), {});
}

int64_t ReferenceFile::Number(const std::string& field) const {
  return nlohmann::json::parse(text_).at(field).get<int64_t>();
}

std::vector<double> ReferenceFile::Doubles(const std::string& field) const {
  return nlohmann::json::parse(text_).at(field).get<std::vector<double>>();
}

Tensor ReferenceFile::Load(const std::string& field, const Shape& shape, Device& device) const {
  const std::vector<double> doubles = Doubles(field);
  const std::vector<float> floats(doubles.begin(), doubles.end());
  return Tensor::FromHost<float>(floats, shape, device);
}

}  // namespace cairn::testing
