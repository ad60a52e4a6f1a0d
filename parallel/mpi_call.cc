#include "parallel/mpi_call.h"

#include <glog/logging.h>

#include <array>
#include <exception>
#include <limits>

#include "runtime/base/error.h"

namespace cairn {

void CheckMpi(int code, const char* verb, const std::string& group) {
  if (code == MPI_SUCCESS) return;
  std::array<char, MPI_MAX_ERROR_STRING> text{};
  int length = 0;
  const bool known = MPI_Error_string(code, text.data(), &length) == MPI_SUCCESS;
  Throw(ErrorKind::kCommunication, fmt::format("mpi {} on {}", verb, group), "{}",
        known ? std::string(text.data(), length) : fmt::format("error {}", code));
}

void WaitForAll(std::vector<MPI_Request>& requests, const char* verb, const std::string& group) {
  std::vector<MPI_Status> statuses(requests.size());
  const int code = MPI_Waitall(static_cast<int>(requests.size()), requests.data(), statuses.data());
  if (code == MPI_ERR_IN_STATUS) {
    for (const MPI_Status& status : statuses) CheckMpi(status.MPI_ERROR, verb, group);
  }
  CheckMpi(code, verb, group);
}

MpiGroup::~MpiGroup() {
  if (comm_ == MPI_COMM_NULL || std::uncaught_exceptions() > 0) return;
  if (MPI_Comm_free(&comm_) != MPI_SUCCESS) LOG(ERROR) << "MPI_Comm_free failed";
}

MpiBytes::MpiBytes(size_t bytes, const char* verb, const std::string& group) {
  if (bytes <= static_cast<size_t>(std::numeric_limits<int>::max())) {
    count_ = static_cast<int>(bytes);
    return;
  }
  constexpr size_t kBlock = size_t{1} << 30;
  std::array<MPI_Datatype, 2> parts{MPI_DATATYPE_NULL, MPI_BYTE};
  CheckMpi(MPI_Type_contiguous(kBlock, MPI_BYTE, &parts[0]), verb, group);
  const std::array<int, 2> lengths{static_cast<int>(bytes / kBlock),
                                   static_cast<int>(bytes % kBlock)};
  const std::array<MPI_Aint, 2> offsets{0, static_cast<MPI_Aint>(bytes / kBlock * kBlock)};
  const int code = MPI_Type_create_struct(2, lengths.data(), offsets.data(), parts.data(), &type_);
  CheckMpi(MPI_Type_free(&parts[0]), verb, group);
  CheckMpi(code, verb, group);
  CheckMpi(MPI_Type_commit(&type_), verb, group);
  count_ = 1;
}

MpiBytes::~MpiBytes() {
  if (type_ == MPI_BYTE) return;
  if (MPI_Type_free(&type_) != MPI_SUCCESS) LOG(ERROR) << "MPI_Type_free failed";
}

}  // namespace cairn
