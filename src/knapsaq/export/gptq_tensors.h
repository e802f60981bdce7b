#pragma once

#include <array>
#include <span>
#include <vector>

#include "knapsaq/checkpoint/shards.h"
#include "knapsaq/export/linear_plan.h"

namespace knapsaq {

/// The tensors of GPTQ's container, which gptq and auto-round share, for a linear of N outputs and K inputs
/// in groups of g: qweight I32 [K b / 32, N], qzeros I32 [K / g, N b / 32], scales F16 [K / g, N], and, where
/// the readers want it, g_idx I32 [K]. Both words are Knapsaq's bitstream: that of a row of codes stands in a
/// column of qweight, that of the zero points of a group's rows in a row of qzeros.

/// Bits of codes that the readers of the container are known to take: Transformers, SGLang and AutoRound list
/// just these, and what else GPTQModel reads is untried.
inline constexpr std::array<int, 4> kGptqWidths = {2, 3, 4, 8};

/// What the fields of qzeros hold. The first readers added 1 to each.
enum class ZeroFields : std::uint8_t {
  minus_one,  ///< zero - 1, which cannot tell 0 from 2^bits: for models that are symmetric throughout
  plain,      ///< "v2"
};
ZeroFields zero_fields(std::span<const PlannedLinear> plan);

/// Empty, or why the container cannot hold the matrix.
std::string gptq_obstacle(const PackedMatrix& matrix);

std::vector<TensorSpec> gptq_tensors(const PlannedLinear& planned, bool with_g_idx);
void write_gptq(const PackedMatrix& matrix, ZeroFields fields, bool with_g_idx, CheckpointWriter& writer);

}  // namespace knapsaq
