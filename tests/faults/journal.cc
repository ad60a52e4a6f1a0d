#include "journal.h"

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>

namespace cairn::faults {
namespace {

void Append(std::string& bytes, uint64_t number) {
  bytes.append(reinterpret_cast<const char*>(&number), sizeof(number));
}

void Append(std::string& bytes, const std::string& text) {
  Append(bytes, text.size());
  bytes += text;
}

class Reader {
 public:
  explicit Reader(const std::string& bytes) : bytes_(bytes) {}

  bool AtEnd() const { return at_ == bytes_.size(); }
  uint64_t Number() {
    uint64_t number = 0;
    Need(sizeof(number));
    std::memcpy(&number, bytes_.data() + at_, sizeof(number));
    at_ += sizeof(number);
    return number;
  }
  std::string Text() {
    const uint64_t size = Number();
    Need(size);
    std::string text = bytes_.substr(at_, size);
    at_ += size;
    return text;
  }

 private:
  // An entry is written in one call: a half one is a fault of the shim.
  void Need(uint64_t bytes) const {
    if (bytes_.size() - at_ < bytes) std::abort();
  }

  const std::string& bytes_;
  size_t at_ = 0;
};

}  // namespace

std::string EncodeEntry(const JournalEntry& entry) {
  std::string bytes;
  Append(bytes, uint64_t{entry.mark});
  Append(bytes, static_cast<uint64_t>(entry.operation));
  Append(bytes, uint64_t{entry.failed});
  Append(bytes, static_cast<uint64_t>(entry.rank));
  Append(bytes, entry.path);
  Append(bytes, entry.target);
  Append(bytes, entry.offset);
  Append(bytes, entry.data);
  return bytes;
}

std::vector<JournalEntry> ReadJournal(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(in), {}};
  std::vector<JournalEntry> entries;
  for (Reader reader(bytes); !reader.AtEnd();) {
    JournalEntry& entry = entries.emplace_back();
    entry.mark = reader.Number() != 0;
    entry.operation = static_cast<Operation>(reader.Number());
    entry.failed = reader.Number() != 0;
    entry.rank = static_cast<int>(reader.Number());
    entry.path = reader.Text();
    entry.target = reader.Text();
    entry.offset = reader.Number();
    entry.data = reader.Text();
  }
  return entries;
}

}  // namespace cairn::faults
