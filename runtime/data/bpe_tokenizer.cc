#include "runtime/data/bpe_tokenizer.h"

#include <algorithm>
#include <limits>

#include "runtime/base/error.h"
#include "runtime/data/pieces.h"

namespace cairn {
namespace {

// A cache of the words seen makes merging rare; these bounds keep it to some tens of megabytes.
constexpr size_t kMaxCachedWords = 1 << 18;
constexpr size_t kMaxCachedWordBytes = 64;

}  // namespace

BpeTokenizer::BpeTokenizer(BpeModel model) : model_(std::move(model)) {
  std::sort(model_.added_tokens.begin(), model_.added_tokens.end(),
            [](const auto& a, const auto& b) { return a.content.size() > b.content.size(); });
  for (size_t i = 0; i < model_.added_tokens.size(); ++i) {
    const auto first = static_cast<unsigned char>(model_.added_tokens[i].content.front());
    added_by_first_byte_[first].push_back(static_cast<int32_t>(i));
  }
}

std::string BpeTokenizer::Decode(std::span<const int32_t> ids) const {
  return JoinPieces(model_.pieces, ids);
}

std::vector<int32_t> BpeTokenizer::Encode(std::string_view text) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::vector<int32_t> ids;
  ids.reserve(text.size() / 3);
  size_t plain = 0;  // begin of the text since the last added token
  for (size_t i = 0; i < text.size();) {
    const auto* const token = FindAddedToken(text.substr(i));
    if (token == nullptr) {
      ++i;
      continue;
    }
    EncodePlain(text.substr(plain, i - plain), 0, ids);
    ids.push_back(token->id);
    i += token->content.size();
    plain = i;
  }
  EncodePlain(text.substr(plain), 0, ids);
  return ids;
}

const BpeModel::AddedToken* BpeTokenizer::FindAddedToken(std::string_view text) const {
  for (const int32_t i : added_by_first_byte_[static_cast<unsigned char>(text.front())]) {
    if (text.starts_with(model_.added_tokens[i].content)) return &model_.added_tokens[i];
  }
  return nullptr;
}

void BpeTokenizer::EncodePlain(std::string_view text, size_t level,
                               std::vector<int32_t>& ids) const {
  if (text.empty()) return;
  if (level == model_.pretokenizers.size()) {
    EncodeWord(text, ids);
    return;
  }
  model_.pretokenizers[level].Split(
      text, [&](std::string_view word) { EncodePlain(word, level + 1, ids); });
}

void BpeTokenizer::EncodeWord(std::string_view word, std::vector<int32_t>& ids) const {
  if (word.size() > kMaxCachedWordBytes) {
    MergeWord(word, ids);
    return;
  }
  key_.assign(word);
  const auto known = cache_.find(key_);
  if (known != cache_.end()) {
    ids.insert(ids.end(), known->second.begin(), known->second.end());
    return;
  }
  const size_t begin = ids.size();
  MergeWord(word, ids);
  if (cache_.size() >= kMaxCachedWords) cache_.clear();
  cache_.emplace(key_, std::vector<int32_t>(ids.begin() + begin, ids.end()));
}

void BpeTokenizer::PushCandidate(int32_t left) const {
  const int32_t right = symbols_[left].next;
  if (right < 0) return;
  const auto merge = model_.merges.find(BpeModel::MergeKey(symbols_[left].id, symbols_[right].id));
  if (merge != model_.merges.end()) {
    candidates_.push({merge->second.rank, left, merge->second.merged});
  }
}

void BpeTokenizer::MergeWord(std::string_view word, std::vector<int32_t>& ids) const {
  if (!model_.whole_words.empty()) {
    const auto whole = model_.whole_words.find(std::string(word));
    if (whole != model_.whole_words.end()) {
      ids.push_back(whole->second);
      return;
    }
  }
  if (word.size() >= static_cast<size_t>(std::numeric_limits<int32_t>::max())) {
    Throw(ErrorKind::kData, "text", "a word of {} bytes", word.size());
  }
  const auto length = static_cast<int32_t>(word.size());
  symbols_.resize(word.size());
  for (int32_t i = 0; i < length; ++i) {
    symbols_[i] = {model_.byte_ids[static_cast<unsigned char>(word[i])], i - 1,
                   i + 1 < length ? i + 1 : -1};
  }
  for (int32_t i = 0; i < length; ++i) PushCandidate(i);
  while (!candidates_.empty()) {
    const Candidate best = candidates_.top();
    candidates_.pop();
    // Merges since it was pushed may have made it stale.
    Symbol& left = symbols_[best.left];
    if (left.id < 0 || left.next < 0) continue;
    const Symbol right = symbols_[left.next];
    const auto merge = model_.merges.find(BpeModel::MergeKey(left.id, right.id));
    if (merge == model_.merges.end() || merge->second.merged != best.merged) continue;
    symbols_[left.next].id = -1;
    left.id = best.merged;
    left.next = right.next;
    if (left.next >= 0) symbols_[left.next].previous = best.left;
    PushCandidate(best.left);
    if (left.previous >= 0) PushCandidate(left.previous);
  }
  for (int32_t i = 0; i >= 0; i = symbols_[i].next) ids.push_back(symbols_[i].id);
}

}  // namespace cairn
