#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <queue>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "runtime/data/pretokenizer.h"
#include "runtime/data/tokenizer.h"

namespace cairn {

/// What a byte-level BPE is made of; `LoadHuggingFaceBpe` and `LoadGpt2Bpe` fill it.
struct BpeModel {
  /// The merge of two neighbouring tokens; lower ranks go first.
  struct Merge {
    int32_t rank;
    int32_t merged;
  };
  /// A token that is found in the text as it stands, before all else.
  struct AddedToken {
    std::string content;
    int32_t id;
  };

  std::vector<std::string> pieces;  ///< the bytes of every id
  std::array<int32_t, 256> byte_ids = {};
  std::unordered_map<uint64_t, Merge> merges;  ///< by `MergeKey`
  std::vector<Pretokenizer> pretokenizers;     ///< each cuts the words of the one before
  std::vector<AddedToken> added_tokens;
  /// Filled where a word that is a token needs no merges (`ignore_merges`, as in Llama 3).
  std::unordered_map<std::string, int32_t> whole_words;
  int32_t end_of_text = -1;

  static uint64_t MergeKey(int32_t left, int32_t right) {
    return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  }
};

/// GPT-2's tokenizer (Radford et al. 2019): words are cut by patterns, and in each the neighbours
/// of lowest rank are merged until none is left (Sennrich et al. 2016), starting from bytes.
class BpeTokenizer : public Tokenizer {
 public:
  explicit BpeTokenizer(BpeModel model);

  std::vector<int32_t> Encode(std::string_view text) const override;
  std::string Decode(std::span<const int32_t> ids) const override;
  int64_t vocab_size() const override { return static_cast<int64_t>(model_.pieces.size()); }
  int32_t end_of_text() const override { return model_.end_of_text; }

 private:
  struct Symbol {
    int32_t id;  // -1 once merged into its left neighbour
    int32_t previous;
    int32_t next;
  };
  struct Candidate {
    int32_t rank;
    int32_t left;  // position of the left symbol
    int32_t merged;
    // std::priority_queue puts the largest on top: the lowest rank, then the leftmost.
    bool operator<(const Candidate& other) const {
      return rank != other.rank ? rank > other.rank : left > other.left;
    }
  };

  const BpeModel::AddedToken* FindAddedToken(std::string_view text) const;
  void EncodePlain(std::string_view text, size_t level, std::vector<int32_t>& ids) const;
  void EncodeWord(std::string_view word, std::vector<int32_t>& ids) const;
  void MergeWord(std::string_view word, std::vector<int32_t>& ids) const;
  void PushCandidate(int32_t left) const;

  BpeModel model_;
  std::array<std::vector<int32_t>, 256> added_by_first_byte_;  // longest first

  mutable std::mutex mutex_;  // over all below
  mutable std::unordered_map<std::string, std::vector<int32_t>> cache_;
  mutable std::string key_;  // scratch: looks up the cache without a new string each time
  mutable std::vector<Symbol> symbols_;
  mutable std::priority_queue<Candidate> candidates_;
};

/// Reads a Hugging Face `tokenizer.json` of a byte-level BPE. Its post-processor is left aside: no
/// token is put around the text.
std::unique_ptr<Tokenizer> LoadHuggingFaceBpe(const std::string& path);

/// Reads GPT-2's pair of files.
std::unique_ptr<Tokenizer> LoadGpt2Bpe(const std::string& vocab_path,
                                       const std::string& merges_path);

}  // namespace cairn
