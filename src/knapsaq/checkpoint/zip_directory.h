#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <span>
#include <string>

namespace knapsaq {

/// The entries of a zip archive that is in memory, as views into it: name to content. Written here because
/// zip libraries hand out streams, and weights are to be read from the mapped file without a copy.
///
/// Only what torch.save writes is read: entries that are stored as they are, with or without the 64-bit
/// fields. Throws InputError for anything else, for damaged directories and for entries outside the archive.
/// Checksums are not compared: that would read every weight.
std::map<std::string, std::span<const std::byte>, std::less<>> read_zip_directory(
    std::span<const std::byte> bytes);

}  // namespace knapsaq
