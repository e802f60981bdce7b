#pragma once

#include "knapsaq/base/error.h"

namespace knapsaq {

/// A model computes NaN or infinity, so the measured quantity has no value. what() names the first layer
/// whose output is not finite, if it is known.
class NotFiniteError : public InputError {
 public:
  using InputError::InputError;
};

}  // namespace knapsaq
