#pragma once

#include <memory>

#include "knapsaq/compute/backend.h"
#include "knapsaq/model/decoder.h"

namespace knapsaq {

/// A decoder with the backend that it computes with, which outlives it.
struct LoadedDecoder {
  std::shared_ptr<Backend> backend;
  std::unique_ptr<Decoder> decoder;
};

}  // namespace knapsaq
