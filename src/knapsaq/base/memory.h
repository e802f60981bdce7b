#pragma once

#include <cstdint>
#include <optional>

namespace knapsaq {

/// Bytes that a process may still take before the system swaps or kills: what Linux calls available, or what
/// its control group (v2, a container) leaves if that is less. Nothing where the system does not say.
std::optional<std::uint64_t> available_memory();

/// Bytes of this process that are in memory now, pages of mapped files included; 0 where the system does not
/// say.
std::uint64_t resident_memory();
/// The most that they have been so far.
std::uint64_t peak_resident_memory();

}  // namespace knapsaq
