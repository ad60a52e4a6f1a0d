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

/// True where vdpbf16ps is faster than fp32: AMD's has twice its rate, Intel's half.
bool HasFastBFloat16Vectors();

/// True where a bf16 product runs faster in bf16 than in fp32 after conversion: such vectors, or
/// AMX that works.
bool HasFastBFloat16Products();

}  // namespace cairn
