#pragma once

#include <functional>
#include <string>
#include <vector>

#include "runtime/base/error.h"
#include "runtime/config/config.h"

namespace cairn {

/// A small valid config: model on lines 1-7, train on 8-12, optimizer on 13-15, one field a line.
std::string SmallConfig();

/// `SmallConfig()` with the first `from` replaced by `to`; fails the test where there is none.
std::string Edited(const std::string& from, const std::string& to);

LoadedConfig ParseText(const std::string& text, const std::vector<std::string>& arguments = {});

/// The Error that `call` throws; fails the test when it throws none or something else.
Error Caught(const std::function<void()>& call);

}  // namespace cairn
