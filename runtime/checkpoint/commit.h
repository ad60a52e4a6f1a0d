#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "runtime/checkpoint/manifest.h"
#include "runtime/checkpoint/verify.h"

namespace cairn {

inline constexpr const char* kManifestFile = "MANIFEST.pb";
inline constexpr const char* kCommitFile = "COMMIT";
/// What becomes of COMMIT in a checkpoint that was found damaged.
inline constexpr const char* kDamagedFile = "DAMAGED";

/// COMMIT: a few lines of text whose presence makes a checkpoint, and that vouch for its manifest
/// and, by a checksum, for themselves.
struct CommitRecord {
  int64_t iteration = 0;
  uint64_t manifest_bytes = 0;
  std::string manifest_sha256;  ///< 64 hexadecimal digits

  std::string Render() const;
  /// Nothing unless `text` is, to the byte, what Render() gives for some record.
  static std::optional<CommitRecord> Parse(const std::string& text);
};

/// Throws where this process may no longer commit; see RunFence::Check. Empty: it always may.
using CommitGuard = std::function<void()>;
/// Whether `guard` throws no Error.
bool Allows(const CommitGuard& guard);

/// Writes MANIFEST.pb, then COMMIT; the rename of the latter is the commit. `guard` is asked right
/// before it.
void WriteCommit(const std::string& directory, const Manifest& manifest,
                 const CommitGuard& guard = {});
/// The same for the bytes of a manifest that `record` vouches for.
void WriteCommit(const std::string& directory, const std::string& manifest_bytes,
                 const CommitRecord& record, const CommitGuard& guard = {});

/// The record in the file `name` of a folder (kCommitFile, or kDamagedFile which was one); nothing
/// if it cannot be read or is none.
std::optional<CommitRecord> ReadCommitRecord(const std::string& directory, const char* name);

/// The bytes of the MANIFEST.pb that `record` vouches for. If it cannot be read or is another,
/// nothing, and what is wrong goes to `damages`.
std::optional<std::string> ReadManifestBytes(const std::string& directory,
                                             const CommitRecord& record,
                                             std::vector<Damage>& damages);

/// The manifest that COMMIT vouches for. If something is wrong with either file, nothing, and what
/// it is goes to `damages`.
std::optional<Manifest> TryLoadManifest(const std::string& directory, std::vector<Damage>& damages);

/// The same; what is wrong is an Error of kind kCheckpoint.
Manifest LoadManifest(const std::string& directory);

/// The folder of an iteration: "step-00000100".
std::string StepName(int64_t iteration);
/// The inverse; nothing for other names.
std::optional<int64_t> ParseStepName(const std::string& name);

}  // namespace cairn
