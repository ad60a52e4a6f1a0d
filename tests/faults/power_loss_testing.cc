#include "power_loss_testing.h"

#include <glog/logging.h>

#include <algorithm>

namespace cairn::faults {
namespace {

std::string ParentOf(const std::string& path) { return path.substr(0, path.rfind('/')); }
std::string NameOf(const std::string& path) { return path.substr(path.rfind('/') + 1); }

}  // namespace

Disk::Disk(const std::string& root, const FolderImage& image) : root_(root) {
  nodes_.push_back({.is_folder = true});
  for (const auto& [path, content] : image) {  // parents come first
    const std::string full = root + "/" + path;
    const int node = static_cast<int>(nodes_.size());
    nodes_.push_back({.is_folder = !content.has_value(),
                      .bytes = content.value_or(""),
                      .durable_bytes = content.value_or("")});
    Node& folder = nodes_[FolderOf(full)];
    folder.names[NameOf(full)] = folder.durable[NameOf(full)] = node;
  }
}

int Disk::Find(const std::string& path) const {
  if (!path.starts_with(root_)) return -1;
  int node = 0;
  for (size_t begin = root_.size(); begin < path.size();) {
    const size_t end = std::min(path.find('/', begin + 1), path.size());
    const auto found = nodes_[node].names.find(path.substr(begin + 1, end - begin - 1));
    if (found == nodes_[node].names.end()) return -1;
    node = found->second;
    begin = end;
  }
  return node;
}

int Disk::FolderOf(const std::string& path) const {
  const int folder = Find(ParentOf(path));
  CHECK_GE(folder, 0) << path;
  return folder;
}

void Disk::Change(const std::string& folder_of, const NameChange& change) {
  Node& folder = nodes_[FolderOf(folder_of)];
  if (!change.erased.empty()) folder.names.erase(change.erased);
  if (!change.name.empty()) folder.names[change.name] = change.node;
  folder.changes.push_back(change);
}

void Disk::Apply(const JournalEntry& entry) {
  if (entry.mark || (entry.failed && entry.operation != Operation::kSync)) return;
  const int new_node = static_cast<int>(nodes_.size());
  switch (entry.operation) {
    case Operation::kClose:
      break;
    case Operation::kCreate:
    case Operation::kMakeFolder:
      nodes_.push_back({.is_folder = entry.operation == Operation::kMakeFolder});
      Change(entry.path,
             {.erased = "", .name = NameOf(entry.path), .node = new_node, .rank = entry.rank});
      break;
    case Operation::kWrite: {
      Node& file = nodes_[Find(entry.path)];
      file.bytes.resize(std::max(file.bytes.size(), entry.offset + entry.data.size()));
      file.bytes.replace(entry.offset, entry.data.size(), entry.data);
      file.dirty = true;
      break;
    }
    case Operation::kSync: {
      Node& node = nodes_[Find(entry.path)];
      if (entry.failed) node.lost = node.dirty;
      if (!entry.failed && !node.lost) {
        node.durable_bytes = node.bytes;
        node.dirty = false;
      }
      std::vector<NameChange> left;
      for (NameChange& change : node.changes) {
        if (change.rank == entry.rank && !change.lost && !entry.failed) {
          if (!change.erased.empty()) node.durable.erase(change.erased);
          if (!change.name.empty()) node.durable[change.name] = change.node;
          // What came to the same name before is over, lost or not.
          std::erase_if(left, [&](const NameChange& earlier) {
            return earlier.name == change.erased || earlier.name == change.name;
          });
        } else {
          change.lost = change.lost || (change.rank == entry.rank && entry.failed);
          left.push_back(change);
        }
      }
      node.changes = std::move(left);
      break;
    }
    case Operation::kRename:
      CHECK_EQ(ParentOf(entry.path), ParentOf(entry.target)) << "a rename between folders";
      Change(entry.path, {.erased = NameOf(entry.path),
                          .name = NameOf(entry.target),
                          .node = Find(entry.path),
                          .rank = entry.rank});
      break;
    case Operation::kUnlink:
    case Operation::kRemoveFolder:
      Change(entry.path, {.erased = NameOf(entry.path), .name = "", .rank = entry.rank});
      break;
  }
}

std::vector<std::string> Disk::Contents(const Node& node) const {
  if (!node.dirty) return {node.durable_bytes};
  std::vector<std::string> contents = {node.durable_bytes, node.bytes};
  contents.push_back(node.bytes.substr(0, node.bytes.size() / 2));
  contents.push_back(std::string(node.bytes.size(), '\0'));
  return contents;
}

FolderImage Disk::Materialise(const Choice& choice) const {
  FolderImage image;
  Materialise(0, "", choice, image);
  return image;
}

void Disk::Materialise(int node, const std::string& prefix, const Choice& choice,
                       FolderImage& image) const {
  std::map<std::string, int> names = nodes_[node].durable;
  const auto kept = choice.changes.find(node);
  for (size_t i = 0; i < nodes_[node].changes.size(); ++i) {
    if (kept == choice.changes.end() || (kept->second >> i & 1) == 0) continue;
    const NameChange& change = nodes_[node].changes[i];
    if (!change.erased.empty()) names.erase(change.erased);
    if (!change.name.empty()) names[change.name] = change.node;
  }
  for (const auto& [name, child] : names) {
    if (nodes_[child].is_folder) {
      image[prefix + name] = std::nullopt;
      Materialise(child, prefix + name + "/", choice, image);
    } else {
      const auto content = choice.contents.find(child);
      image[prefix + name] =
          Contents(nodes_[child])[content == choice.contents.end() ? 0 : content->second];
    }
  }
}

FolderImage Disk::Now() const {
  FolderImage image;
  ReadNames(0, "", image);
  return image;
}

void Disk::ReadNames(int node, const std::string& prefix, FolderImage& image) const {
  for (const auto& [name, child] : nodes_[node].names) {
    image[prefix + name] = std::nullopt;
    if (nodes_[child].is_folder) {
      ReadNames(child, prefix + name + "/", image);
    } else {
      image[prefix + name] = nodes_[child].bytes;
    }
  }
}

std::vector<FolderImage> Disk::AfterPowerLoss(size_t limit, std::mt19937_64& random) const {
  // The choices: digits of a number in a mixed base.
  struct Digit {
    int node;
    uint64_t bit;  // of a change; 0: contents of a file
    size_t base;
  };
  std::vector<Digit> digits;
  double count = 1;
  for (size_t node = 0; node < nodes_.size(); ++node) {
    const int number = static_cast<int>(node);
    for (size_t i = 0; i < nodes_[node].changes.size(); ++i) {
      digits.push_back({number, uint64_t{1} << i, 2});
    }
    if (nodes_[node].dirty) digits.push_back({number, 0, Contents(nodes_[node]).size()});
  }
  for (const Digit& digit : digits) count *= static_cast<double>(digit.base);

  std::vector<FolderImage> images;
  const auto take = [&](const std::vector<size_t>& values) {
    Choice choice;
    for (size_t i = 0; i < digits.size(); ++i) {
      if (digits[i].bit == 0) {
        choice.contents[digits[i].node] = values[i];
      } else if (values[i] != 0) {
        choice.changes[digits[i].node] |= digits[i].bit;
      }
    }
    images.push_back(Materialise(choice));
  };
  std::vector<size_t> values(digits.size(), 0);
  if (count <= static_cast<double>(limit)) {
    for (size_t i = 0; i < static_cast<size_t>(count); ++i) {
      take(values);
      for (size_t d = 0; d < digits.size() && ++values[d] == digits[d].base; ++d) values[d] = 0;
    }
    return images;
  }
  // Nothing, everything, and each of them but for one.
  for (const size_t all : {0, 1}) {
    std::ranges::fill(values, all);
    take(values);
    for (size_t d = 0; d < digits.size(); ++d) {
      values[d] = 1 - all;
      take(values);
      values[d] = all;
    }
  }
  while (images.size() < limit) {
    for (size_t d = 0; d < digits.size(); ++d) values[d] = random() % digits[d].base;
    take(values);
  }
  return images;
}

}  // namespace cairn::faults
