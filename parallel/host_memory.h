#pragma once

#include <mpi.h>

#include <cstddef>
#include <memory>
#include <string>

namespace cairn {

/// Memory that all ranks of an MPI group see. Once it is made it has no name, so that it ends with
/// the last of its processes, however they end.
class HostMemory {
 public:
  /// `bytes` of zeros. Null, on every rank, where the ranks are not all on one host, or its shared
  /// memory is full. Collective over `group`, which is called `name` in errors.
  static std::unique_ptr<HostMemory> New(MPI_Comm group, const std::string& name, size_t bytes);
  ~HostMemory();
  HostMemory(const HostMemory&) = delete;
  HostMemory& operator=(const HostMemory&) = delete;

  std::byte* data() const { return data_; }

 private:
  HostMemory(std::byte* data, size_t bytes) : data_(data), bytes_(bytes) {}

  std::byte* data_;
  size_t bytes_;
};

}  // namespace cairn
