#pragma once

#include <array>
#include <span>
#include <vector>

#include "knapsaq/checkpoint/shards.h"
#include "knapsaq/export/linear_plan.h"

namespace knapsaq {

/// The tensors of GPTQ's container, shared by gptq and auto-round, for a linear of N outputs and K inputs in
/// groups of g: qweight I32 [K b / 32, N], qzeros I32 [K / g, N b / 32], scales F16 [K / g, N], and g_idx I32
/// [K] for readers that need it. Both kinds of words are Knapsaq's bitstream: a column of qweight is a row of
/// codes, and a row of qzeros has the zero points of one group of all rows.

/// Widths that the readers of the container are known to support: Transformers, SGLang and AutoRound list
/// these. Other widths in GPTQModel are untried.
inline constexpr std::array<int, 4> kGptqWidths = {2, 3, 4, 8};

/// The content of qzeros' fields. The first readers added 1 to each.
enum class ZeroFields : std::uint8_t {
  minus_one,  ///< zero - 1, which cannot distinguish 0 from 2^bits: for models that are symmetric throughout
  plain,      ///< "v2"
};
ZeroFields zero_fields(std::span<const PlannedLinear> plan);

/// Empty, or the reason why the container cannot hold the matrix.
std::string gptq_obstacle(const PackedMatrix& matrix);

std::vector<TensorSpec> gptq_tensors(const PlannedLinear& planned, bool with_g_idx);
void write_gptq(const PackedMatrix& matrix, ZeroFields fields, bool with_g_idx, CheckpointWriter& writer);

}  // namespace knapsaq
