#pragma once

#include <string>

#include "knapsaq/base/error.h"

namespace knapsaq {

/// The message of the Kind that `work` throws; empty if it throws none.
template <class Kind = InputError, class Work>
std::string complaint(Work&& work) {
  try {
    work();
  } catch (const Kind& error) {
    return error.what();
  }
  return {};
}

}  // namespace knapsaq
