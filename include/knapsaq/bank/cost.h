#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace knapsaq {

/// Which error of a quantized matrix a search makes small: || W - Q(W) ||_F, that relative to || W ||_F, or
/// the mean squared change of the matrix's output per token, both uses of an embedding that is the head too,
/// or the divergence that Fisher information predicts for it (ErrorCell).
enum class Cost : std::uint8_t { fnorm, relative, hessian, fisher };
inline constexpr std::size_t kCosts = 4;
/// Throws UsageError listing them.
Cost parse_cost(std::string_view text);
std::string_view to_string(Cost cost);

}  // namespace knapsaq
