#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <span>
#include <string>

namespace knapsaq {

/// The entries of a zip archive in memory, as views into it: name to content. Zip libraries return streams,
/// but weights must be read from the mapped file without a copy.
///
/// Reads only what torch.save writes: entries that are stored uncompressed, with or without the 64-bit
/// fields. Throws InputError for anything else, for damaged directories and for entries outside the archive.
/// Checksums are not compared, because that would read every weight.
std::map<std::string, std::span<const std::byte>, std::less<>> read_zip_directory(
    std::span<const std::byte> bytes);

}  // namespace knapsaq
