#pragma once

#include <CLI/CLI.hpp>

namespace cairn {

/// Adds `cairn ckpt export`: a checkpoint as a folder that Hugging Face's transformers load.
void AddCkptExport(CLI::App& ckpt);

/// Adds `cairn ckpt import`: such a folder as a checkpoint.
void AddCkptImport(CLI::App& ckpt);

}  // namespace cairn
