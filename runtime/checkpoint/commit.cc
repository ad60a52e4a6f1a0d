#include "runtime/checkpoint/commit.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <span>
#include <sstream>
#include <string_view>

#include "runtime/base/error.h"
#include "runtime/checkpoint/digest.h"
#include "runtime/checkpoint/file.h"

namespace cairn {
namespace {

constexpr uint64_t kMaxCommitBytes = 4096;
constexpr std::string_view kStepPrefix = "step-";

Damage DamageOf(const char* file, uint64_t begin, uint64_t end, std::string message) {
  return {.file = file,
          .tensor = "",
          .kind = "",
          .byte_begin = begin,
          .byte_end = end,
          .message = std::move(message)};
}

}  // namespace

bool Allows(const CommitGuard& guard) {
  try {
    if (guard) guard();
    return true;
  } catch (const Error&) {
    return false;
  }
}

std::string CommitRecord::Render() const {
  const std::string text =
      fmt::format("cairn checkpoint {}\niteration {}\nmanifest_bytes {}\nmanifest_sha256 {}\n",
                  kCheckpointFormat, iteration, manifest_bytes, manifest_sha256);
  return text + fmt::format("crc32c {:08x}\n", Crc32c(std::as_bytes(std::span(text))));
}

std::optional<CommitRecord> CommitRecord::Parse(const std::string& text) {
  CommitRecord record;
  std::istringstream stream(text);
  std::string word;
  uint32_t format = 0;
  stream >> word >> word >> format >> word >> record.iteration >> word >> record.manifest_bytes >>
      word >> record.manifest_sha256;
  const bool is_hex =
      record.manifest_sha256.size() == 64 &&
      record.manifest_sha256.find_first_not_of("0123456789abcdef") == std::string::npos;
  // Comparing the rendered text settles the checksum and every question of spelling at once.
  if (!stream || !is_hex || record.iteration < 0 || record.Render() != text) return std::nullopt;
  return record;
}

void WriteCommit(const std::string& directory, const Manifest& manifest, const CommitGuard& guard) {
  ValidateManifest(manifest, JoinPath(directory, kManifestFile));
  const std::string bytes = SerializeManifest(manifest);
  if (bytes.size() > kMaxManifestBytes) {
    Throw(ErrorKind::kCheckpoint, JoinPath(directory, kManifestFile),
          "would have {} bytes, at most {} can be read back", bytes.size(), kMaxManifestBytes);
  }
  WriteCommit(directory, bytes,
              {.iteration = manifest.iteration,
               .manifest_bytes = bytes.size(),
               .manifest_sha256 = Sha256Hex(bytes)},
              guard);
}

void WriteCommit(const std::string& directory, const std::string& manifest_bytes,
                 const CommitRecord& record, const CommitGuard& guard) {
  WriteFileAtomically(JoinPath(directory, kManifestFile), manifest_bytes);
  const std::string commit_path = JoinPath(directory, kCommitFile);
  try {
    WriteFileAtomically(commit_path, record.Render(), guard);
  } catch (const Error&) {
    // Renamed, but perhaps not durable: what is reported as failed must not be found later. It is
    // ours to undo as long as the run is.
    if (Allows(guard)) RemoveFileQuietly(commit_path);
    throw;
  }
}

std::optional<CommitRecord> ReadCommitRecord(const std::string& directory, const char* name) {
  try {
    return CommitRecord::Parse(ReadWholeFile(JoinPath(directory, name), kMaxCommitBytes));
  } catch (const Error&) {
    return std::nullopt;
  }
}

std::optional<std::string> ReadManifestBytes(const std::string& directory,
                                             const CommitRecord& record,
                                             std::vector<Damage>& damages) {
  const auto fail = [&](uint64_t begin, uint64_t end, std::string message) {
    damages.push_back(DamageOf(kManifestFile, begin, end, std::move(message)));
    return std::nullopt;
  };
  std::string bytes;
  try {
    // Compared before memory is taken for it.
    const File file = File::OpenForRead(JoinPath(directory, kManifestFile), Links::kRefuse);
    const uint64_t size = file.Size();
    if (size != record.manifest_bytes) {
      return fail(std::min(size, record.manifest_bytes), std::max(size, record.manifest_bytes),
                  fmt::format("has {} bytes, {} were committed", size, record.manifest_bytes));
    }
    if (size > kMaxManifestBytes) {
      return fail(0, size,
                  fmt::format("has {} bytes, at most {} are read", size, kMaxManifestBytes));
    }
    bytes.resize(size);
    file.ReadAt(0, std::as_writable_bytes(std::span(bytes)));
  } catch (const Error& error) {
    return fail(0, record.manifest_bytes, error.message());
  }
  if (Sha256Hex(bytes) != record.manifest_sha256) {
    return fail(0, bytes.size(), "SHA-256 differs from the committed one");
  }
  return bytes;
}

std::optional<Manifest> TryLoadManifest(const std::string& directory,
                                        std::vector<Damage>& damages) {
  const std::string commit_path = JoinPath(directory, kCommitFile);
  const auto fail = [&](const char* file, uint64_t begin, uint64_t end, std::string message) {
    damages.push_back(DamageOf(file, begin, end, std::move(message)));
    return std::nullopt;
  };

  // A link is no commit record, but something is there.
  const auto exists = [](const std::string& path) {
    std::error_code ignored;
    return std::filesystem::exists(std::filesystem::symlink_status(path, ignored));
  };
  if (!exists(commit_path)) {
    const bool quarantined = exists(JoinPath(directory, kDamagedFile));
    return fail(kCommitFile, 0, 0,
                quarantined ? "was found damaged before and set aside"
                            : "is missing: the save was never finished");
  }
  std::string text;
  try {
    text = ReadWholeFile(commit_path, kMaxCommitBytes, Links::kRefuse);
  } catch (const Error& error) {
    return fail(kCommitFile, 0, 0, error.message());
  }
  const std::optional<CommitRecord> record = CommitRecord::Parse(text);
  if (!record) {
    return fail(kCommitFile, 0, text.size(),
                fmt::format("is not a commit record of format {}", kCheckpointFormat));
  }

  const std::optional<std::string> bytes = ReadManifestBytes(directory, *record, damages);
  if (!bytes) return std::nullopt;
  Manifest manifest;
  try {
    manifest = ParseManifest(*bytes, JoinPath(directory, kManifestFile));
  } catch (const Error& error) {
    return fail(kManifestFile, 0, bytes->size(), error.message());
  }
  if (manifest.iteration != record->iteration) {
    return fail(kCommitFile, 0, text.size(),
                fmt::format("is of iteration {}, the manifest of {}", record->iteration,
                            manifest.iteration));
  }
  const std::string folder = std::filesystem::path(directory).filename();
  const std::optional<int64_t> step = ParseStepName(folder);
  if (step && *step != manifest.iteration) {
    return fail(kCommitFile, 0, text.size(),
                fmt::format("is of iteration {}, the folder is {}", manifest.iteration, folder));
  }
  return manifest;
}

Manifest LoadManifest(const std::string& directory) {
  std::vector<Damage> damages;
  std::optional<Manifest> manifest = TryLoadManifest(directory, damages);
  if (manifest) return std::move(*manifest);
  Throw(ErrorKind::kCheckpoint, directory, "{}", Describe(damages.front()));
}

std::string StepName(int64_t iteration) { return fmt::format("{}{:08}", kStepPrefix, iteration); }

std::optional<int64_t> ParseStepName(const std::string& name) {
  int64_t iteration = 0;
  if (!name.starts_with(kStepPrefix)) return std::nullopt;
  const char* const end = name.data() + name.size();
  const auto [stop, error] = std::from_chars(name.data() + kStepPrefix.size(), end, iteration);
  if (error != std::errc() || stop != end || iteration < 0 || StepName(iteration) != name) {
    return std::nullopt;
  }
  return iteration;
}

}  // namespace cairn
