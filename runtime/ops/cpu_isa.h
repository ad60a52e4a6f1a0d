#pragma once

namespace cairn {

/// Tells the CPU libraries which instructions they may use, once per process and before their first
/// use; safe to call from any thread, any number of times. Throws Error(kDevice) if the library was
/// used before and can no longer be told.
///
/// Needed where the processor announces AMX but it cannot be used: some virtual machines end CPUID
/// before the leaf that describes the tiles (oneDNN then runs tile instructions without having
/// configured any, and the process dies with SIGILL), and Linux grants the tile registers only to a
/// process that asks.
void ConfigureCpuLibraries();

/// True where AMX works (a trial tells) but the processor does not describe its tiles, so that no
/// library uses it: bf16 products are then Cairn's own, of matmul_tiles.h.
bool HasOwnAmxProducts();

/// True where a bf16 product runs faster in bf16 than in fp32 after conversion: AMX that works, or
/// AMD's vdpbf16ps (twice the rate of fp32). Intel's vdpbf16ps has half the rate of fp32.
bool HasFastBFloat16Products();

}  // namespace cairn
