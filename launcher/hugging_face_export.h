#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "launcher/tensor_stream.h"

namespace cairn {

struct HuggingFaceExportOptions {
  DType dtype = DType::kFloat32;
  uint64_t max_shard_bytes = uint64_t{5} << 30;  ///< a larger tensor has a file of its own
  int64_t slab_bytes = kSlabBytes;
};

/// What an export wrote.
struct HuggingFaceExport {
  struct File {
    std::string name;
    uint64_t bytes = 0;
  };
  std::vector<File> files;     ///< in the order in which they were written
  std::string tokenizer_note;  ///< why no tokenizer is among them; empty: one is
  uint64_t tensors = 0;
  uint64_t parameters = 0;
};

/// Makes `folder`, which must be new, a model that Hugging Face's transformers load: the weights of
/// the checkpoint in its step folder `checkpoint`, and the tokenizer that its config names where
/// that is found. config.json is the last file: a folder without it is half an export. Tensors pass
/// through memory slab by slab. Errors are of kind kCheckpoint or kIo, and kUsage for a
/// `folder` that is not new.
HuggingFaceExport ExportHuggingFace(const std::string& checkpoint, const std::string& folder,
                                    const HuggingFaceExportOptions& options);

}  // namespace cairn
