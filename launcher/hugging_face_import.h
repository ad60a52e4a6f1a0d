#pragma once

#include <cstdint>
#include <string>

#include "launcher/tensor_stream.h"

namespace cairn {

/// What an import wrote.
struct HuggingFaceImport {
  std::string config_file;     ///< a training config that fits the model
  std::string tokenizer;       ///< data.tokenizer of that config; empty: there is none
  std::string tokenizer_note;  ///< why not
  uint64_t tensors = 0;
  uint64_t parameters = 0;
  uint64_t bytes = 0;  ///< of the shard
};

/// Makes `checkpoint`, a new folder, a checkpoint of iteration 0 with the weights of `folder`, a
/// GPT-2 that Hugging Face's transformers wrote; fp32, whatever the files hold. Nothing is written
/// before the folder is known to hold exactly the tensors that its config.json makes; these pass
/// through memory slab by slab. Errors are of kind kCheckpoint or kIo, and kUsage for a
/// `checkpoint` that is not new.
HuggingFaceImport ImportHuggingFace(const std::string& folder, const std::string& checkpoint,
                                    int64_t slab_bytes = kSlabBytes);

}  // namespace cairn
