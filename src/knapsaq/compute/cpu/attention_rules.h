#pragma once

#include <cstdint>

#include "knapsaq/compute/backend.h"
#include "knapsaq/compute/cpu/kernels.h"

namespace knapsaq::cpu {

/// What happens to a head of q or k in this attention, whose norms are those of single heads. Scores of
/// transformed queries and keys are logarithms to the base 2.
HeadTransform query_transform(const AttentionShape& shape);
HeadTransform key_transform(const AttentionShape& shape);
/// What scores are multiplied by.
float attention_scale(const AttentionShape& shape);
/// Of scores that are logarithms to the base 2.
float base2_softcap(const AttentionShape& shape);
/// The logit of no token that query head `head` has, and those of the heads behind it; null: none.
const float* sink_of(const AttentionShape& shape, std::int64_t head);

/// Throws std::invalid_argument for arrays that are not `rows` rows of this shape, and for tables of fewer
/// than shape.past + shape.length positions.
void check_attention(const AttentionShape& shape, std::int64_t rows, const Array& q, const Array& k,
                     const Array& v, const Array& out);

}  // namespace knapsaq::cpu
