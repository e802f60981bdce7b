#include "knapsaq/compute/ggml_iq_block.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <stdexcept>

namespace knapsaq {
namespace {

constexpr std::size_t kSuper = 256;  // weights of a block of all types but IQ4_NL

constexpr std::array<std::int8_t, 16> kIq4Levels = {-127, -104, -83, -65, -49, -35, -22, -10,
                                                    1,    13,   25,  38,  53,  69,  89,  113};

template <class T>
T number_at(const std::uint8_t* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof value);
  return value;
}
template <class T>
void put(std::uint8_t* bytes, T value) {
  std::memcpy(bytes, &value, sizeof value);
}
std::uint8_t byte(unsigned value) { return static_cast<std::uint8_t>(value); }
std::uint16_t word(unsigned value) { return static_cast<std::uint16_t>(value); }

/// Scales of four bits, two in a byte, the first one low.
void unpack_nibbles(const std::uint8_t* in, std::size_t count, std::int8_t* scales) {
  for (std::size_t k = 0; k < count; ++k)
    scales[k] = static_cast<std::int8_t>((in[k / 2] >> (4 * (k % 2))) & 15);
}
void pack_nibbles(const std::int8_t* scales, std::size_t count, std::uint8_t* out) {
  for (std::size_t k = 0; k < count; k += 2)
    out[k / 2] =
        byte((static_cast<unsigned>(scales[k]) & 15U) | (static_cast<unsigned>(scales[k + 1]) & 15U) << 4);
}

// ---- IQ4: places among levels -----------------------------------------------------------------------------

/// Of a code as a byte; -1: none of them.
constexpr std::array<std::int8_t, 256> kIq4Places = [] {
  std::array<std::int8_t, 256> places{};
  places.fill(-1);
  for (std::size_t i = 0; i < kIq4Levels.size(); ++i)
    places[static_cast<std::uint8_t>(kIq4Levels[i])] = static_cast<std::int8_t>(i);
  return places;
}();

unsigned iq4_place(std::int8_t code) {
  const std::int8_t place = kIq4Places[static_cast<std::uint8_t>(code)];
  if (place < 0) throw std::logic_error("pack_block: a code that IQ4 has not");
  return static_cast<unsigned>(place);
}

/// 32 codes in 16 bytes, code j low and code j + 16 high in byte j.
void unpack_iq4(const std::uint8_t* in, std::int8_t* codes) {
  for (std::size_t j = 0; j < 16; ++j) {
    codes[j] = kIq4Levels[in[j] & 15];
    codes[j + 16] = kIq4Levels[in[j] >> 4];
  }
}
void pack_iq4(const std::int8_t* codes, std::uint8_t* out) {
  for (std::size_t j = 0; j < 16; ++j) out[j] = byte(iq4_place(codes[j]) | iq4_place(codes[j + 16]) << 4);
}

/// d, two high bits of the eight scales + 32 in 16 bits, their four low bits, codes.
void unpack_iq4_xs(const std::uint8_t* b, GgmlBlock& block) {
  block.d = number_at<std::uint16_t>(b);
  const auto high = number_at<std::uint16_t>(b + 2);
  unpack_nibbles(b + 4, 8, block.scales.data());
  for (std::size_t k = 0; k < 8; ++k) {
    block.scales[k] = static_cast<std::int8_t>((block.scales[k] | ((high >> (2 * k)) & 3) << 4) - 32);
    unpack_iq4(b + 8 + 16 * k, block.codes.data() + 32 * k);
  }
}
void pack_iq4_xs(const GgmlBlock& block, std::uint8_t* b) {
  put(b, block.d);
  unsigned high = 0;
  std::array<std::int8_t, 8> low;
  for (std::size_t k = 0; k < 8; ++k) {
    const auto stored = static_cast<unsigned>(block.scales[k] + 32);
    low[k] = static_cast<std::int8_t>(stored & 15U);
    high |= (stored >> 4) << (2 * k);
    pack_iq4(block.codes.data() + 32 * k, b + 8 + 16 * k);
  }
  put(b + 2, word(high));
  pack_nibbles(low.data(), 8, b + 4);
}

// ---- points with signs ------------------------------------------------------------------------------------

/// Of eight codes, bit j for code j.
unsigned signs_of(const std::int8_t* codes) {
  unsigned signs = 0;
  for (unsigned j = 0; j < 8; ++j) signs |= (codes[j] < 0 ? 1U : 0U) << j;
  return signs;
}
/// The seven that are stored where their number is even.
unsigned even_signs_of(const std::int8_t* codes) {
  const unsigned signs = signs_of(codes);
  if (std::popcount(signs) % 2 != 0) throw std::logic_error("pack_block: an odd number of negative codes");
  return signs & 127U;
}
unsigned with_eighth(unsigned seven) {
  return seven | (static_cast<unsigned>(std::popcount(seven)) & 1U) << 7;
}

void sign(std::int8_t* codes, unsigned signs) {
  for (unsigned j = 0; j < 8; ++j)
    if (((signs >> j) & 1U) != 0) codes[j] = static_cast<std::int8_t>(-codes[j]);
}

void put_point(const GgmlGrid& grid, unsigned number, std::int8_t* codes) {
  std::copy_n(grid.point(number), grid.size(), codes);
}
unsigned number_of(const GgmlGrid& grid, const std::int8_t* codes) {
  const int number = grid.find(codes);
  if (number < 0) throw std::logic_error("pack_block: codes that are no point of the grid");
  return static_cast<unsigned>(number);
}

/// d; for each 32 weights the numbers of their points and 32 bits: four times seven signs and the scale. The
/// numbers lie between these (IQ2_XXS) or all before them (IQ3_XXS).
struct SignedWords {
  std::size_t points;  ///< of 32 weights
  std::size_t first;   ///< byte of the first numbers
  std::size_t next;    ///< bytes from there to the next 32 weights'
  std::size_t words;   ///< the same for the bits
  std::size_t next_word;
};
constexpr SignedWords kIq2xxs = {4, 2, 8, 6, 8};
constexpr SignedWords kIq3xxs = {8, 2, 8, 66, 4};

void unpack_signed_words(const SignedWords& at, const GgmlGrid& grid, const std::uint8_t* b,
                         GgmlBlock& block) {
  block.d = number_at<std::uint16_t>(b);
  for (std::size_t k = 0; k < kSuper / 32; ++k) {
    std::int8_t* const codes = block.codes.data() + 32 * k;
    const auto bits = number_at<std::uint32_t>(b + at.words + k * at.next_word);
    for (std::size_t p = 0; p < at.points; ++p)
      put_point(grid, b[at.first + k * at.next + p], codes + p * static_cast<std::size_t>(grid.size()));
    for (std::size_t e = 0; e < 4; ++e) sign(codes + 8 * e, with_eighth((bits >> (7 * e)) & 127U));
    block.scales[k] = static_cast<std::int8_t>(bits >> 28);
  }
}
void pack_signed_words(const SignedWords& at, const GgmlGrid& grid, const GgmlBlock& block, std::uint8_t* b) {
  put(b, block.d);
  for (std::size_t k = 0; k < kSuper / 32; ++k) {
    const std::int8_t* const codes = block.codes.data() + 32 * k;
    std::uint32_t bits = static_cast<std::uint32_t>(block.scales[k]) << 28;
    for (std::size_t p = 0; p < at.points; ++p)
      b[at.first + k * at.next + p] =
          byte(number_of(grid, codes + p * static_cast<std::size_t>(grid.size())));
    for (std::size_t e = 0; e < 4; ++e) bits |= even_signs_of(codes + 8 * e) << (7 * e);
    put(b + at.words + k * at.next_word, bits);
  }
}

/// d, 32 times 16 bits with a point's number and seven signs, scales.
void unpack_iq2_xs(const GgmlGrid& grid, const std::uint8_t* b, GgmlBlock& block) {
  block.d = number_at<std::uint16_t>(b);
  for (std::size_t e = 0; e < kSuper / 8; ++e) {
    const unsigned bits = number_at<std::uint16_t>(b + 2 + 2 * e);
    put_point(grid, bits & 511U, block.codes.data() + 8 * e);
    sign(block.codes.data() + 8 * e, with_eighth(bits >> 9));
  }
  unpack_nibbles(b + 66, 16, block.scales.data());
}
void pack_iq2_xs(const GgmlGrid& grid, const GgmlBlock& block, std::uint8_t* b) {
  put(b, block.d);
  for (std::size_t e = 0; e < kSuper / 8; ++e) {
    const std::int8_t* const codes = block.codes.data() + 8 * e;
    put(b + 2 + 2 * e, word(number_of(grid, codes) | even_signs_of(codes) << 9));
  }
  pack_nibbles(block.scales.data(), 16, b + 66);
}

/// d; then the numbers' low bytes, their high bits, all signs and the scales, each at its own place.
struct SplitNumbers {
  unsigned high_bits;  ///< of a number
  std::size_t high;    ///< byte
  std::size_t signs;
  std::size_t scales;
  std::size_t scale_count;
};
constexpr SplitNumbers kIq2s = {2, 66, 34, 74, 16};
constexpr SplitNumbers kIq3s = {1, 66, 74, 106, 8};

void unpack_split_numbers(const SplitNumbers& at, const GgmlGrid& grid, const std::uint8_t* b,
                          GgmlBlock& block) {
  const auto size = static_cast<std::size_t>(grid.size());
  const unsigned in_byte = 8 / at.high_bits;
  block.d = number_at<std::uint16_t>(b);
  for (std::size_t p = 0; p < kSuper / size; ++p) {
    const unsigned high =
        (b[at.high + p / in_byte] >> (p % in_byte * at.high_bits)) & ((1U << at.high_bits) - 1);
    put_point(grid, b[2 + p] | high << 8, block.codes.data() + p * size);
  }
  for (std::size_t e = 0; e < kSuper / 8; ++e) sign(block.codes.data() + 8 * e, b[at.signs + e]);
  unpack_nibbles(b + at.scales, at.scale_count, block.scales.data());
}
void pack_split_numbers(const SplitNumbers& at, const GgmlGrid& grid, const GgmlBlock& block,
                        std::uint8_t* b) {
  const auto size = static_cast<std::size_t>(grid.size());
  const unsigned in_byte = 8 / at.high_bits;
  put(b, block.d);
  for (std::size_t p = 0; p < kSuper / size; ++p) {
    const unsigned number = number_of(grid, block.codes.data() + p * size);
    b[2 + p] = byte(number & 255U);
    std::uint8_t& high = b[at.high + p / in_byte];
    high = byte(high | (number >> 8) << (p % in_byte * at.high_bits));
  }
  for (std::size_t e = 0; e < kSuper / 8; ++e) b[at.signs + e] = byte(signs_of(block.codes.data() + 8 * e));
  pack_nibbles(block.scales.data(), at.scale_count, b + at.scales);
}

// ---- points that are shifted ------------------------------------------------------------------------------

void put_shifted(const GgmlGrid& grid, unsigned number, bool down, std::int8_t* codes) {
  std::transform(grid.point(number), grid.point(number) + 8, codes,
                 [&](std::int8_t g) { return static_cast<std::int8_t>(8 * g + (down ? -1 : 1)); });
}

struct Shifted {
  unsigned number;
  bool down;
};
Shifted shifted(const GgmlGrid& grid, const std::int8_t* codes) {
  // The codes are -9, -1, 7 if they are shifted down, -7, 1, 9 if not.
  const bool down = ((codes[0] + 16) & 7) == 7;
  std::array<std::int8_t, 8> numbers;
  for (std::size_t j = 0; j < 8; ++j) {
    const int eightfold = codes[j] + (down ? 1 : -1);
    if (eightfold % 8 != 0)
      throw std::logic_error("pack_block: codes of a point that are shifted differently");
    numbers[j] = static_cast<std::int8_t>(eightfold / 8);
  }
  return {number_of(grid, numbers.data()), down};
}

/// d, low bytes of the points' numbers, for each 32 weights 16 bits: the high bits of four numbers, the
/// scale, and whether the codes are shifted down.
void unpack_iq1_s(const GgmlGrid& grid, const std::uint8_t* b, GgmlBlock& block) {
  block.d = number_at<std::uint16_t>(b);
  for (std::size_t e = 0; e < kSuper / 8; ++e) {
    const unsigned bits = number_at<std::uint16_t>(b + 34 + e / 4 * 2);
    put_shifted(grid, b[2 + e] | ((bits >> (3 * (e % 4))) & 7U) << 8, bits >> 15 != 0,
                block.codes.data() + 8 * e);
    block.scales[e / 4] = static_cast<std::int8_t>((bits >> 12) & 7U);
  }
}
void pack_iq1_s(const GgmlGrid& grid, const GgmlBlock& block, std::uint8_t* b) {
  put(b, block.d);
  for (std::size_t k = 0; k < kSuper / 32; ++k) {
    unsigned bits = static_cast<unsigned>(block.scales[k]) << 12;
    for (std::size_t e = 0; e < 4; ++e) {
      const Shifted point = shifted(grid, block.codes.data() + 32 * k + 8 * e);
      if (e > 0 && point.down != (bits >> 15 != 0))
        throw std::logic_error("pack_block: codes of a sub-block that are shifted differently");
      bits |= (point.down ? 1U : 0U) << 15 | point.number >> 8 << (3 * e);
      b[2 + 4 * k + e] = byte(point.number & 255U);
    }
    put(b + 34 + 2 * k, word(bits));
  }
}

/// Low bytes of the points' numbers, four bits for each point (high bits of its number, whether it is shifted
/// down), four times 16 bits: four scales of three bits, and four bits of d.
void unpack_iq1_m(const GgmlGrid& grid, const std::uint8_t* b, GgmlBlock& block) {
  unsigned d = 0;
  for (std::size_t i = 0; i < 4; ++i) {
    const unsigned bits = number_at<std::uint16_t>(b + 48 + 2 * i);
    d |= bits >> 12 << (4 * i);
    for (std::size_t k = 0; k < 4; ++k)
      block.scales[4 * i + k] = static_cast<std::int8_t>((bits >> (3 * k)) & 7U);
  }
  block.d = word(d);
  for (std::size_t e = 0; e < kSuper / 8; ++e) {
    const unsigned bits = (b[32 + e / 2] >> (4 * (e % 2))) & 15U;
    put_shifted(grid, b[e] | (bits & 7U) << 8, bits >> 3 != 0, block.codes.data() + 8 * e);
  }
}
void pack_iq1_m(const GgmlGrid& grid, const GgmlBlock& block, std::uint8_t* b) {
  for (std::size_t e = 0; e < kSuper / 8; ++e) {
    const Shifted point = shifted(grid, block.codes.data() + 8 * e);
    b[e] = byte(point.number & 255U);
    b[32 + e / 2] = byte(b[32 + e / 2] | (point.number >> 8 | (point.down ? 8U : 0U)) << (4 * (e % 2)));
  }
  for (std::size_t i = 0; i < 4; ++i) {
    unsigned bits = ((static_cast<unsigned>(block.d) >> (4 * i)) & 15U) << 12;
    for (std::size_t k = 0; k < 4; ++k)
      bits |= (static_cast<unsigned>(block.scales[4 * i + k]) & 7U) << (3 * k);
    put(b + 48 + 2 * i, word(bits));
  }
}

}  // namespace

std::span<const std::int8_t> iq4_levels() { return kIq4Levels; }

void unpack_iq_block(GgmlType type, const std::uint8_t* b, GgmlBlock& block) {
  switch (type) {
    case GgmlType::IQ4_NL:
      block.d = number_at<std::uint16_t>(b);
      block.scales[0] = 1;
      return unpack_iq4(b + 2, block.codes.data());
    case GgmlType::IQ4_XS:
      return unpack_iq4_xs(b, block);
    default:
      break;
  }
  const GgmlGrid& grid = *GgmlGrid::of(type);
  switch (type) {
    case GgmlType::IQ2_XXS:
      return unpack_signed_words(kIq2xxs, grid, b, block);
    case GgmlType::IQ3_XXS:
      return unpack_signed_words(kIq3xxs, grid, b, block);
    case GgmlType::IQ2_XS:
      return unpack_iq2_xs(grid, b, block);
    case GgmlType::IQ2_S:
      return unpack_split_numbers(kIq2s, grid, b, block);
    case GgmlType::IQ3_S:
      return unpack_split_numbers(kIq3s, grid, b, block);
    case GgmlType::IQ1_S:
      return unpack_iq1_s(grid, b, block);
    default:
      return unpack_iq1_m(grid, b, block);
  }
}

void pack_iq_block(GgmlType type, const GgmlBlock& block, std::uint8_t* b) {
  switch (type) {
    case GgmlType::IQ4_NL:
      put(b, block.d);
      return pack_iq4(block.codes.data(), b + 2);
    case GgmlType::IQ4_XS:
      return pack_iq4_xs(block, b);
    default:
      break;
  }
  const GgmlGrid& grid = *GgmlGrid::of(type);
  switch (type) {
    case GgmlType::IQ2_XXS:
      return pack_signed_words(kIq2xxs, grid, block, b);
    case GgmlType::IQ3_XXS:
      return pack_signed_words(kIq3xxs, grid, block, b);
    case GgmlType::IQ2_XS:
      return pack_iq2_xs(grid, block, b);
    case GgmlType::IQ2_S:
      return pack_split_numbers(kIq2s, grid, block, b);
    case GgmlType::IQ3_S:
      return pack_split_numbers(kIq3s, grid, block, b);
    case GgmlType::IQ1_S:
      return pack_iq1_s(grid, block, b);
    default:
      return pack_iq1_m(grid, block, b);
  }
}

}  // namespace knapsaq
