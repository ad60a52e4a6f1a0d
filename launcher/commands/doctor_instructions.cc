#include <fmt/format.h>

#include <oneapi/dnnl/dnnl.hpp>
#include <string>
#include <string_view>

#include "launcher/commands/doctor_checks.h"
#include "runtime/ops/cpu_isa.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace cairn {
namespace {

/// What the processor's CPUID and the kernel say of instructions that matter to training.
struct Instructions {
  bool avx2 = false;
  bool avx512 = false;
  bool avx512_bf16 = false;
  bool amx_bf16 = false;  ///< listed
  bool amx_described =
      false;  ///< the tiles' shape is told (leaf 1DH), without which no library uses them
  bool amx_permitted = false;  ///< Linux lets this process use the tile registers
};

#if defined(__x86_64__)

Instructions FindInstructions() {
  Instructions found;
  __builtin_cpu_init();
  // The compiler's test, unlike the bit in CPUID, also asks whether the kernel saves the registers.
  found.avx2 = __builtin_cpu_supports("avx2") != 0;
  found.avx512 = __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512bw") != 0;
  found.avx512_bf16 = __builtin_cpu_supports("avx512bf16") != 0;
  constexpr unsigned kFeatures = 7;
  constexpr unsigned kAmxBf16 = 1U << 22;  // in EDX
  constexpr unsigned kTiles = 0x1d;
  unsigned eax = 0;
  unsigned ebx = 0;
  unsigned ecx = 0;
  unsigned edx = 0;
  if (__get_cpuid_count(kFeatures, 0, &eax, &ebx, &ecx, &edx) != 0) {
    found.amx_bf16 = (edx & kAmxBf16) != 0;
  }
  if (__get_cpuid_count(kTiles, 0, &eax, &ebx, &ecx, &edx) != 0) found.amx_described = eax > 0;
  constexpr long kArchGetXcompPerm = 0x1022;  // <asm/prctl.h> since Linux 5.16
  constexpr long kArchReqXcompPerm = 0x1023;
  constexpr uint64_t kTileData = 18;
  uint64_t permitted = 0;
  if (found.amx_bf16 && ::syscall(SYS_arch_prctl, kArchReqXcompPerm, kTileData) == 0 &&
      ::syscall(SYS_arch_prctl, kArchGetXcompPerm, &permitted) == 0) {
    found.amx_permitted = (permitted >> kTileData & 1) != 0;
  }
  return found;
}

#else

Instructions FindInstructions() { return {}; }

#endif

const char* IsaName(dnnl::cpu_isa isa) {
  switch (isa) {
    case dnnl::cpu_isa::sse41:
      return "SSE4.1";
    case dnnl::cpu_isa::avx:
      return "AVX";
    case dnnl::cpu_isa::avx2:
      return "AVX2";
    case dnnl::cpu_isa::avx2_vnni:
      return "AVX2 VNNI";
    case dnnl::cpu_isa::avx512_core:
      return "AVX-512";
    case dnnl::cpu_isa::avx512_core_vnni:
      return "AVX-512 VNNI";
    case dnnl::cpu_isa::avx512_core_bf16:
      return "AVX-512 bf16";
    case dnnl::cpu_isa::avx512_core_amx:
      return "AMX";
    default:
      return "its best";
  }
}

DoctorCheck CheckListed(const Instructions& found) {
  DoctorCheck check("instructions");
  std::string listed;
  const auto add = [&](std::string_view name, bool present) {
    if (present) listed += fmt::format("{}{}", listed.empty() ? "" : ", ", name);
  };
  add("AVX2", found.avx2);
  add("AVX-512", found.avx512);
  add("AVX-512 bf16", found.avx512_bf16);
  add("AMX bf16", found.amx_bf16);
  check.text = listed.empty() ? "none of AVX2, AVX-512, AMX" : listed;
  check.facts = {{"avx2", found.avx2},
                 {"avx512", found.avx512},
                 {"avx512_bf16", found.avx512_bf16},
                 {"amx_bf16", found.amx_bf16}};
#if defined(__x86_64__)
  if (!found.avx2) check.Warn("training is several times slower than on a processor with AVX2");
#endif
  return check;
}

DoctorCheck CheckAmx(const Instructions& found) {
  DoctorCheck check("AMX");
  check.facts = {{"listed", found.amx_bf16},
                 {"tiles_described", found.amx_described},
                 {"permitted", found.amx_permitted},
                 {"usable", found.amx_bf16 && found.amx_permitted &&
                                (found.amx_described || HasOwnAmxProducts())}};
  if (!found.amx_bf16) {
    check.text = "not in this processor";
  } else if (!found.amx_permitted) {
    check.text = "in the processor, but the kernel does not grant its registers";
    check.Warn("bf16 runs without it: Linux 5.16 or newer grants them, unless a sandbox forbids");
  } else if (HasOwnAmxProducts()) {
    check.text =
        "usable by Cairn's own products; libraries do without, for the leaf that describes its "
        "tiles (CPUID 1DH) is empty";
  } else if (!found.amx_described) {
    check.text = "listed, but the leaf that describes its tiles (CPUID 1DH) is empty";
    check.Warn("bf16 runs without it: the virtual machine's host must pass that leaf on");
  } else {
    check.text = "usable";
  }
  return check;
}

DoctorCheck CheckMatrixProducts() {
  DoctorCheck check("matrix products");
  const bool fast_bf16 = HasFastBFloat16Products();
  const char* isa = IsaName(dnnl::get_effective_cpu_isa());
  const bool own_amx = HasOwnAmxProducts();
  check.text = fmt::format("oneDNN with {}{}; bf16 is {} than fp32", isa,
                           own_amx ? ", bf16 by Cairn's own with AMX" : "",
                           fast_bf16 ? "faster" : "not faster");
  check.facts = {{"onednn_isa", isa}, {"own_amx", own_amx}, {"bf16_faster", fast_bf16}};
  return check;
}

}  // namespace

std::vector<DoctorCheck> CheckInstructions() {
  const Instructions found = FindInstructions();
  return {CheckListed(found), CheckAmx(found), CheckMatrixProducts()};
}

}  // namespace cairn
