#pragma once

#include <string>
#include <vector>

#include "runtime/device/device.h"
#include "runtime/tensor/tensor.h"

namespace cairn::testing {

/// Sets the calling thread's number of OpenMP threads and puts it back.
class ScopedThreads {
 public:
  explicit ScopedThreads(int threads);
  ~ScopedThreads();
  ScopedThreads(const ScopedThreads&) = delete;
  ScopedThreads& operator=(const ScopedThreads&) = delete;

 private:
  int before_;
};

/// A file of numbers that a script beside the tests wrote.
class ReferenceFile {
 public:
  explicit ReferenceFile(const std::string& name);
  int64_t Number(const std::string& field) const;
  std::vector<double> Doubles(const std::string& field) const;
  /// The field as an fp32 tensor.
  Tensor Load(const std::string& field, const Shape& shape, Device& device) const;

 private:
  std::string text_;
};

}  // namespace cairn::testing
