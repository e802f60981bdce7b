#pragma once

#include <cstdint>

#include "knapsaq/compute/ggml_block.h"

namespace knapsaq {

// unpack_block() and pack_block() of the IQ types. `bytes` are info(type).bytes.
void unpack_iq_block(GgmlType type, const std::uint8_t* bytes, GgmlBlock& block);
void pack_iq_block(GgmlType type, const GgmlBlock& block, std::uint8_t* bytes);

/// What a code of IQ4_NL and IQ4_XS can be.
std::span<const std::int8_t> iq4_levels();

}  // namespace knapsaq
