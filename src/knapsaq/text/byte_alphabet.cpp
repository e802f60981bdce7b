#include "knapsaq/text/byte_alphabet.h"

#include <cstddef>

#include "knapsaq/base/utf8.h"

namespace knapsaq {

const ByteAlphabet& ByteAlphabet::instance() {
  static const ByteAlphabet alphabet;
  return alphabet;
}

ByteAlphabet::ByteAlphabet() {
  bytes_.fill(-1);
  char32_t next = 0x100;
  for (unsigned byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    const char32_t character = printable ? static_cast<char32_t>(byte) : next++;
    append_utf8(characters_[byte], character);
    bytes_[character] = static_cast<std::int16_t>(byte);
  }
}

std::optional<std::string> ByteAlphabet::bytes(std::string_view token) const {
  std::string bytes;
  bytes.reserve(token.size());
  std::size_t length = 0;
  for (std::size_t at = 0; at < token.size(); at += length) {
    const char32_t character = utf8_decode(token, at, length);
    if (character >= bytes_.size() || bytes_[character] < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(bytes_[character]));
  }
  return bytes;
}

}  // namespace knapsaq
