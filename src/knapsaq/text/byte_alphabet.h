#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace knapsaq {

/// The printable alphabet in which byte-level tokenizers write bytes: bytes 33-126, 161-172 and 174-255 are
/// the characters of the same number; the other 68 bytes are U+0100 and up in ascending order (GPT-2's
/// encoder).
class ByteAlphabet {
 public:
  static const ByteAlphabet& instance();

  /// The character of a byte, as UTF-8 (one or two bytes).
  const std::string& character(unsigned char byte) const { return characters_[byte]; }
  /// The bytes of a token in the alphabet; nullopt if a character is not in the alphabet.
  std::optional<std::string> bytes(std::string_view token) const;

 private:
  ByteAlphabet();
  std::array<std::string, 256> characters_;
  /// By code point; -1 for characters outside the alphabet. The largest is U+0143.
  std::array<std::int16_t, 0x144> bytes_{};
};

}  // namespace knapsaq
