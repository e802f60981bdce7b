#pragma once

#include <string>

#include <gtest/gtest.h>

#include "knapsaq/base/error.h"

namespace knapsaq {

/// What the Kind that `work` throws says, which has to be one line; empty if it throws none.
template <class Kind = InputError, class Work>
std::string message_of(Work&& work) {
  try {
    work();
  } catch (const Kind& error) {
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
    return error.what();
  }
  return {};
}

}  // namespace knapsaq
