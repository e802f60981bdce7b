#pragma once

#include <cstdint>
#include <optional>

namespace knapsaq {

/// Bytes that a process may still take before the system swaps or kills: what Linux calls available, or what
/// its control group (v2, a container) leaves if that is less. Nothing where the system does not say.
std::optional<std::uint64_t> available_memory();

}  // namespace knapsaq
