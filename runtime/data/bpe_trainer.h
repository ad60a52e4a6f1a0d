#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace cairn {

/// Trains a byte-level BPE (Sennrich et al. 2016, with GPT-2's words) on the documents of `inputs`
/// (as `DocumentReader` reads them) and writes it as a Hugging Face `tokenizer.json`: 256 bytes,
/// the merges in order, and last <|endoftext|>; `vocab_size` tokens in all. Any bytes survive
/// encoding and decoding. The same input gives the same file. Throws kConfig when `vocab_size` is
/// too small or more than the text has pairs to merge for.
void TrainBpe(const std::vector<std::string>& inputs, int64_t vocab_size,
              const std::string& output_json);

}  // namespace cairn
