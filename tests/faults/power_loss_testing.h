#pragma once

#include <cstdint>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "folder_image_testing.h"
#include "journal.h"

namespace cairn::faults {

/// A disk that keeps, when power is lost, what was synced, and of the rest what it likes: of the
/// names that a folder gained, lost or changed, any subset; of the bytes of a file, none, the first
/// half, zeros in their place, or all. Each rank is a host of its own with its own cache: its sync
/// of a folder makes durable what it did there, nothing that others did.
class Disk {
 public:
  /// Everything in `image` is durable. Paths of entries lie below `root`.
  Disk(const std::string& root, const FolderImage& image);

  void Apply(const JournalEntry& entry);

  /// What runs see.
  FolderImage Now() const;

  /// What may be there after a power loss now: all that can be, or if these are more than `limit`,
  /// the extremes and others drawn by `random`.
  std::vector<FolderImage> AfterPowerLoss(size_t limit, std::mt19937_64& random) const;

 private:
  // A change of a folder that is not durable.
  struct NameChange {
    std::string erased = {};  // a name that goes; empty: none
    std::string name = {};    // a name that comes; empty: none
    int node = -1;            // what it comes to be
    int rank = 0;
    bool lost = false;  // its sync failed: no later one makes it durable
  };
  struct Node {
    bool is_folder = false;
    std::map<std::string, int> names = {};    // as runs see it
    std::map<std::string, int> durable = {};  // names
    std::vector<NameChange> changes = {};
    std::string bytes = {};  // as runs see them
    std::string durable_bytes = {};
    bool dirty = false;
    bool lost = false;
  };
  // For each folder, which changes are kept; for each file, which of Contents.
  struct Choice {
    std::map<int, uint64_t> changes;
    std::map<int, size_t> contents;
  };

  int Find(const std::string& path) const;
  int FolderOf(const std::string& path) const;
  void Change(const std::string& folder_of, const NameChange& change);
  std::vector<std::string> Contents(const Node& node) const;
  FolderImage Materialise(const Choice& choice) const;
  void Materialise(int node, const std::string& prefix, const Choice& choice,
                   FolderImage& image) const;
  void ReadNames(int node, const std::string& prefix, FolderImage& image) const;

  std::string root_;
  std::vector<Node> nodes_;  // the first is the root
};

}  // namespace cairn::faults
