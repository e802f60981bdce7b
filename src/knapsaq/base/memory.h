#pragma once

#include <cstdint>
#include <optional>

namespace knapsaq {

/// Bytes that a process may still use before the system swaps or kills: what Linux calls available, or what
/// its control group (v2, a container) leaves if that is less. Nullopt if the system does not say.
std::optional<std::uint64_t> available_memory();

/// Bytes of this process in memory now, including pages of mapped files; 0 if the system does not say.
std::uint64_t resident_memory();
/// Their maximum so far.
std::uint64_t peak_resident_memory();

}  // namespace knapsaq
