#pragma once

#include <cstdint>
#include <limits>

#include <CLI/App.hpp>

namespace knapsaq::command {

// Checks of options whose values are numbers. They read the text themselves and complain in a few words; the
// library's own checks print the bounds of the type, which have 300 digits for a double.

/// A whole number from `least` to `most`.
CLI::Validator whole_number_check(std::int64_t least,
                                  std::int64_t most = std::numeric_limits<std::int64_t>::max());
/// A finite number above zero.
CLI::Validator positive_number_check();
/// A finite number from 0 to 1.
CLI::Validator fraction_check();

}  // namespace knapsaq::command
