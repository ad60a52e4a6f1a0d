#pragma once

#include <nccl.h>

#include <string>

#include "runtime/tensor/dtype.h"

namespace cairn {

/// The functions of NCCL that Cairn calls, found when first needed; see SharedLibrary.
struct Nccl {
  Nccl();

  /// 10000 * major + 100 * minor + patch. Throws as Check() does.
  int Version() const;

  /// Throws Error(kCommunication, "nccl `verb` on `group`") with NCCL's text unless `code` is
  /// success. `comm` may be null.
  void Check(ncclResult_t code, const char* verb, const std::string& group, ncclComm_t comm) const;

  decltype(&::ncclGetVersion) get_version;
  decltype(&::ncclGetErrorString) get_error_string;
  decltype(&::ncclGetLastError) get_last_error;
  decltype(&::ncclGetUniqueId) get_unique_id;
  decltype(&::ncclCommInitRank) comm_init_rank;
  decltype(&::ncclCommSplit) comm_split;
  decltype(&::ncclCommFinalize) comm_finalize;
  decltype(&::ncclCommDestroy) comm_destroy;
  decltype(&::ncclCommAbort) comm_abort;
  decltype(&::ncclCommGetAsyncError) comm_get_async_error;
  decltype(&::ncclAllReduce) all_reduce;
  decltype(&::ncclAllGather) all_gather;
  decltype(&::ncclReduceScatter) reduce_scatter;
  decltype(&::ncclBroadcast) broadcast;
  decltype(&::ncclSend) send;
  decltype(&::ncclRecv) recv;
  decltype(&::ncclGroupStart) group_start;
  decltype(&::ncclGroupEnd) group_end;
};

ncclDataType_t NcclType(DType dtype);

}  // namespace cairn
