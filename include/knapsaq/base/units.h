#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace knapsaq {

/// A size as people write it: "4200000", "4.2MiB", "1.5GB", "700 kB" (KiB, MiB, GiB, TiB are powers of 1024;
/// kB, MB, GB, TB powers of 1000; case does not matter). Fractions of a byte are cut off. Throws UsageError
/// if it is not a size, is negative, or does not fit into 63 bits.
std::uint64_t parse_bytes(std::string_view text);

/// A size for people: "512 B", "4.20 MiB", "1.37 GiB".
std::string format_bytes(std::uint64_t bytes);

/// A span of time for people: "0.8 s", "42 s", "3 min 05 s", "2 h 14 min".
std::string format_seconds(double seconds);

}  // namespace knapsaq
