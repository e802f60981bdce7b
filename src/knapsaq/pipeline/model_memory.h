#pragma once

#include "knapsaq/model/decoder.h"
#include "knapsaq/pipeline/evaluate.h"

namespace knapsaq {

inline ModelMemory memory_of(const DecoderMemory& memory) {
  return {memory.weights, memory.head, memory.embedding, memory.work};
}

}  // namespace knapsaq
