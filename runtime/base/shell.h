#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace cairn {

/// `word` as a shell must read it to get the same word back; plain words stay as they are.
std::string ShellQuoted(std::string_view word);

/// `words` as one line of shell.
std::string ShellLine(const std::vector<std::string>& words);

}  // namespace cairn
