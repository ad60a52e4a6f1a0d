#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "shim.h"

namespace cairn::faults {

/// An operation that a rank called for, or a mark.
struct JournalEntry {
  bool mark = false;  ///< `path` is its text
  Operation operation = Operation::kClose;
  bool failed = false;
  int rank = 0;
  std::string path;
  std::string target;   ///< of a rename
  uint64_t offset = 0;  ///< of a write
  std::string data;     ///< what a write wrote
};

/// One entry as bytes.
std::string EncodeEntry(const JournalEntry& entry);

/// All entries of a journal file.
std::vector<JournalEntry> ReadJournal(const std::string& path);

}  // namespace cairn::faults
