#pragma once

#include "knapsaq/base/error.h"

namespace knapsaq {

/// A model computes NaN or infinity: what was to be measured has no value. what() names the first layer whose
/// output is not finite, where that is known.
class NotFiniteError : public InputError {
 public:
  using InputError::InputError;
};

}  // namespace knapsaq
