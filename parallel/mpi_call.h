#pragma once

#include <mpi.h>

#include <cstddef>
#include <string>
#include <vector>

namespace cairn {

/// Throws Error(kCommunication, "mpi `verb` on `group`") with MPI's text unless `code` is success.
void CheckMpi(int code, const char* verb, const std::string& group);

/// Waits for all requests; throws the first failure among them.
void WaitForAll(std::vector<MPI_Request>& requests, const char* verb, const std::string& group);

/// Owns an MPI communicator. Freeing it is collective, so while an error unwinds the rank it is
/// left to the end of the job.
class MpiGroup {
 public:
  explicit MpiGroup(MPI_Comm comm) : comm_(comm) {}
  MpiGroup(MpiGroup&& other) noexcept : comm_(other.comm_) { other.comm_ = MPI_COMM_NULL; }
  MpiGroup& operator=(MpiGroup&&) = delete;
  ~MpiGroup();

  MPI_Comm get() const { return comm_; }

 private:
  MPI_Comm comm_;
};

/// A number of bytes as the (count, datatype) of MPI calls, whose counts end at 2^31 - 1: a larger
/// one is a single element of a datatype made for it. Received elements still count in bytes.
class MpiBytes {
 public:
  MpiBytes(size_t bytes, const char* verb, const std::string& group);
  ~MpiBytes();
  MpiBytes(const MpiBytes&) = delete;
  MpiBytes& operator=(const MpiBytes&) = delete;

  int count() const { return count_; }
  MPI_Datatype type() const { return type_; }

 private:
  int count_;
  MPI_Datatype type_ = MPI_BYTE;
};

}  // namespace cairn
