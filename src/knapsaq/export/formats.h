#pragma once

#include "knapsaq/export/writer.h"

// The formats, for registry.cpp; all other code calls writer(name).

namespace knapsaq {

const Writer& auto_round_writer();
const Writer& compressed_tensors_writer();
const Writer& gptq_writer();
const Writer& gguf_writer();
const Writer& mlx_writer();

}  // namespace knapsaq
