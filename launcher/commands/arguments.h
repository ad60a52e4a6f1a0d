#pragma once

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <string>

namespace cairn {

/// Accepts an option's value when it is a number from `least` to `most`.
template <typename T>
CLI::Validator InRange(T least, T most) {
  return CLI::Validator(
      [=](const std::string& text) {
        T value{};
        const bool fits = CLI::detail::lexical_cast(text, value) && value >= least && value <= most;
        return fits ? std::string()
                    : fmt::format("{} is not a number from {} to {}", text, least, most);
      },
      "");
}

/// Accepts an option's value when it is a number of at least `least`.
template <typename T>
CLI::Validator AtLeast(T least) {
  return CLI::Validator(
      [=](const std::string& text) {
        T value{};
        const bool fits = CLI::detail::lexical_cast(text, value) && value >= least;
        return fits ? std::string() : fmt::format("{} is not a number of at least {}", text, least);
      },
      "");
}

}  // namespace cairn
