#include "runtime/ops/cpu_isa.h"

#include <oneapi/dnnl/dnnl.hpp>

#include "runtime/base/error.h"
#include "runtime/ops/amx.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace cairn {
namespace {

#if defined(__x86_64__)

constexpr unsigned kFeatureLeaf = 7;
constexpr unsigned kAmxTileBit = 1u << 24;  // EDX of leaf 7
constexpr unsigned kTileLeaf = 0x1d;
constexpr long kArchReqXcompPerm = 0x1023;  // <asm/prctl.h> since Linux 5.16
constexpr long kXfeatureTileData = 18;

bool AnnouncesAmx() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(kFeatureLeaf, 0, &a, &b, &c, &d) != 0 && (d & kAmxTileBit) != 0;
}

bool DescribesTiles() {
  unsigned max_palette = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(kTileLeaf, 0, &max_palette, &b, &c, &d) != 0 && max_palette != 0;
}

// Linux lets this process, and threads that it starts later, use the tile registers.
bool MayUseTiles() { return syscall(SYS_arch_prctl, kArchReqXcompPerm, kXfeatureTileData) == 0; }

bool IsIntel() {
  unsigned max_leaf = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(0, &max_leaf, &b, &c, &d) != 0 && b == signature_INTEL_ebx &&
         d == signature_INTEL_edx && c == signature_INTEL_ecx;
}

#else

bool AnnouncesAmx() { return false; }
bool DescribesTiles() { return false; }
bool MayUseTiles() { return false; }
bool IsIntel() { return false; }

#endif

// True if products of Cairn's own are to use AMX.
bool Configure() {
  if (!AnnouncesAmx()) return false;
  const bool granted = MayUseTiles();
  if (granted && DescribesTiles()) return false;
  if (dnnl_set_max_cpu_isa(dnnl_cpu_isa_avx512_core_bf16) != dnnl_success) {
    Throw(ErrorKind::kDevice, "oneDNN",
          "oneDNN cannot use this machine's AMX, and was used before it could be told so; set "
          "ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16 in the environment");
  }
  return granted && cpu::TilesWork();
}

}  // namespace

void ConfigureCpuLibraries() { (void)HasOwnAmxProducts(); }

bool HasOwnAmxProducts() {
  static const bool own = Configure();
  return own;
}

bool HasFastBFloat16Vectors() {
  ConfigureCpuLibraries();  // a library that was asked can no longer be told
  return dnnl::get_effective_cpu_isa() == dnnl::cpu_isa::avx512_core_bf16 && !IsIntel();
}

bool HasFastBFloat16Products() {
  return HasOwnAmxProducts() || HasFastBFloat16Vectors() ||
         dnnl::get_effective_cpu_isa() == dnnl::cpu_isa::avx512_core_amx;
}

}  // namespace cairn
