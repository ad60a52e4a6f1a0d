// Stands in for the driver's libcuda.so.1 where cuDNN compiles plans for a GPU that is only
// described: it has no device and takes every kernel. These are the functions that cuDNN 9.19 looks
// up; one that it misses is named on its standard error.
namespace {
int thing;
constexpr int kSuccess = 0;
constexpr int kNoDevice = 100;
}  // namespace

// NOLINTBEGIN(readability-identifier-naming, cert-dcl50-cpp)
#define CAIRN_ANSWER(name, code) \
  int name(...) { return code; }
#define CAIRN_GIVE(name)      \
  int name(void** out, ...) { \
    *out = &thing;            \
    return kSuccess;          \
  }
#define CAIRN_GIVE_ZERO(name) \
  int name(int* out, ...) {   \
    *out = 0;                 \
    return kSuccess;          \
  }

extern "C" {
CAIRN_ANSWER(cuInit, kNoDevice)
CAIRN_ANSWER(cuDeviceGetCount, kNoDevice)
CAIRN_ANSWER(cuDeviceGet, kNoDevice)
CAIRN_GIVE(cuLibraryLoadData)
CAIRN_GIVE(cuLibraryGetKernel)
CAIRN_GIVE(cuKernelGetFunction)
CAIRN_GIVE(cuCtxGetCurrent)
CAIRN_GIVE(cuCtxPopCurrent)
CAIRN_GIVE_ZERO(cuKernelGetAttribute)
CAIRN_GIVE_ZERO(cuFuncGetAttribute)
CAIRN_GIVE_ZERO(cuCtxGetLimit)
CAIRN_GIVE_ZERO(cuOccupancyMaxPotentialClusterSize)
CAIRN_ANSWER(cuCtxPushCurrent, kSuccess)
CAIRN_ANSWER(cuFuncSetAttribute, kSuccess)
CAIRN_ANSWER(cuKernelSetAttribute, kSuccess)
CAIRN_ANSWER(cuLibraryLoadFromFile, kSuccess)
CAIRN_ANSWER(cuLibraryUnload, kSuccess)
CAIRN_ANSWER(cuLinkAddData, kSuccess)
CAIRN_ANSWER(cuLinkComplete, kSuccess)
CAIRN_ANSWER(cuLinkCreate, kSuccess)
CAIRN_ANSWER(cuLinkDestroy, kSuccess)
CAIRN_ANSWER(cuLaunchCooperativeKernel, kNoDevice)
CAIRN_ANSWER(cuLaunchKernel, kNoDevice)
CAIRN_ANSWER(cuLaunchKernelEx, kNoDevice)
CAIRN_ANSWER(cuStreamGetCtx, kNoDevice)

int cuDriverGetVersion(int* version) {
  *version = 13000;
  return kSuccess;
}
int cuGetErrorName(int, const char** name) {
  *name = "of the stand-in";
  return kSuccess;
}
int cuGetErrorString(int, const char** text) {
  *text = "an error of the stand-in";
  return kSuccess;
}
}
// NOLINTEND(readability-identifier-naming, cert-dcl50-cpp)
