#include "knapsaq/text/part_bytes.h"

#include <cstddef>
#include <cstdint>

#include "knapsaq/base/error.h"

namespace knapsaq {
namespace {

constexpr std::size_t kLengthBytes = 8;

}  // namespace

std::string to_bytes(std::span<const TextPart> parts) {
  std::string bytes;
  for (const TextPart& part : parts) {
    bytes.push_back(part.foreign ? 1 : 0);
    for (std::size_t i = 0; i < kLengthBytes; ++i)
      bytes.push_back(static_cast<char>(std::uint64_t{part.text.size()} >> (8 * i) & 0xFF));
    bytes += part.text;
  }
  return bytes;
}

std::vector<TextPart> parts_of(std::string_view bytes) {
  std::vector<TextPart> parts;
  while (!bytes.empty()) {
    if (bytes.size() < 1 + kLengthBytes || static_cast<unsigned char>(bytes[0]) > 1)
      throw InputError("gives something that is no text");
    std::uint64_t length = 0;
    for (std::size_t i = 0; i < kLengthBytes; ++i)
      length |= std::uint64_t{static_cast<unsigned char>(bytes[1 + i])} << (8 * i);
    const bool foreign = bytes[0] == 1;
    bytes.remove_prefix(1 + kLengthBytes);
    if (length > bytes.size()) throw InputError("gives something that is no text");
    parts.push_back({.text = std::string(bytes.substr(0, length)), .foreign = foreign});
    bytes.remove_prefix(length);
  }
  return parts;
}

}  // namespace knapsaq
