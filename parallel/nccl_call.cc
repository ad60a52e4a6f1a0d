#include "parallel/nccl_call.h"

#include "runtime/base/error.h"
#include "runtime/base/shared_library.h"

namespace cairn {

Nccl::Nccl() {
  const SharedLibrary library("libnccl.so.2",
                              "install NCCL 2.18 or newer, or name its folder in LD_LIBRARY_PATH");
  library.Find("ncclGetVersion", get_version);
  library.Find("ncclGetErrorString", get_error_string);
  library.Find("ncclGetLastError", get_last_error);
  library.Find("ncclGetUniqueId", get_unique_id);
  library.Find("ncclCommInitRank", comm_init_rank);
  library.Find("ncclCommSplit", comm_split);
  library.Find("ncclCommFinalize", comm_finalize);
  library.Find("ncclCommDestroy", comm_destroy);
  library.Find("ncclCommAbort", comm_abort);
  library.Find("ncclCommGetAsyncError", comm_get_async_error);
  library.Find("ncclAllReduce", all_reduce);
  library.Find("ncclAllGather", all_gather);
  library.Find("ncclReduceScatter", reduce_scatter);
  library.Find("ncclBroadcast", broadcast);
  library.Find("ncclSend", send);
  library.Find("ncclRecv", recv);
  library.Find("ncclGroupStart", group_start);
  library.Find("ncclGroupEnd", group_end);
}

int Nccl::Version() const {
  int version = 0;
  Check(get_version(&version), "GetVersion", "this host", nullptr);
  return version;
}

void Nccl::Check(ncclResult_t code, const char* verb, const std::string& group,
                 ncclComm_t comm) const {
  if (code == ncclSuccess) return;
  const char* detail = get_last_error(comm);
  Throw(ErrorKind::kCommunication, fmt::format("nccl {} on {}", verb, group), "{}{}{}",
        get_error_string(code), detail != nullptr && *detail != '\0' ? ": " : "",
        detail != nullptr ? detail : "");
}

ncclDataType_t NcclType(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return ncclFloat32;
    case DType::kBFloat16:
      return ncclBfloat16;
    case DType::kFloat16:
      return ncclFloat16;
    case DType::kFloat64:
      return ncclFloat64;
    case DType::kInt32:
      return ncclInt32;
    case DType::kInt64:
      return ncclInt64;
    case DType::kUInt8:
      return ncclUint8;
  }
  ThrowUnsupportedDType("NCCL", dtype);
}

}  // namespace cairn
