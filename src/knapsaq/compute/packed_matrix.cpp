#include "knapsaq/compute/packed_matrix.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cassert>
#include <cstring>
#include <stdexcept>
#include <string>

#include <fmt/format.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/float16.h"

namespace knapsaq {

namespace {

static_assert(std::endian::native == std::endian::little,
              "the bitstream is little-endian; a big-endian machine needs byte swaps here");

/// `ones` one-bits at the bottom of every field of `width` bits.
constexpr std::uint64_t field_mask(int width, int ones) {
  std::uint64_t mask = 0;
  for (int i = 0; i < 64; i += width) mask |= ((std::uint64_t{1} << ones) - 1) << i;
  return mask;
}

// Eight codes, one per byte, are squeezed into 8 * Bits adjacent bits by joining neighbours three times:
// bytes to pairs, pairs to fours, fours to eight. Plain 64-bit arithmetic does this faster than memory
// delivers codes on every processor, so there is no version per instruction set.

/// Neighbours of Ones bits at the bottoms of fields of Width bits, joined at the bottoms of fields twice as
/// wide.
template <int Width, int Ones>
std::uint64_t join(std::uint64_t v) {
  // Of more than half a field, what moves and what stays would overlap.
  constexpr std::uint64_t kLower = field_mask(2 * Width, Ones);
  if constexpr (2 * Ones > Width) return (v & kLower) | (v >> (Width - Ones) & kLower << Ones);
  return (v | v >> (Width - Ones)) & field_mask(2 * Width, 2 * Ones);
}

/// The inverse of join(); bits outside of the fields must be zero.
template <int Width, int Ones>
std::uint64_t part(std::uint64_t v) {
  constexpr std::uint64_t kLower = field_mask(2 * Width, Ones);
  if constexpr (2 * Ones > Width) return (v & kLower) | (v << (Width - Ones) & kLower << Width);
  return (v | v << (Width - Ones)) & field_mask(Width, Ones);
}

template <int Bits>
std::uint64_t squeeze(std::uint64_t bytes) {
  return join<32, 4 * Bits>(join<16, 2 * Bits>(join<8, Bits>(bytes & field_mask(8, Bits))));
}

/// The inverse of squeeze(); bits above 8 * Bits must be zero.
template <int Bits>
std::uint64_t spread(std::uint64_t bits) {
  return part<8, Bits>(part<16, 2 * Bits>(part<32, 4 * Bits>(bits)));
}

// 32 codes fill exactly Bits words, whatever the width: the unit of the loops below.
constexpr std::size_t kUnit = 32;

// The four eights are separate variables: as arrays the compiler gathers them in vector registers by way of
// memory, at a third of the speed.

std::uint64_t load_eight(const std::uint8_t* codes) {
  std::uint64_t bytes;
  std::memcpy(&bytes, codes, sizeof bytes);
  return bytes;
}
void store_eight(std::uint64_t bytes, std::uint8_t* codes) { std::memcpy(codes, &bytes, sizeof bytes); }

template <int Bits>
void pack_unit(const std::uint8_t* codes, std::uint32_t* words) {
  const std::uint64_t a = squeeze<Bits>(load_eight(codes));
  const std::uint64_t b = squeeze<Bits>(load_eight(codes + 8));
  const std::uint64_t c = squeeze<Bits>(load_eight(codes + 16));
  const std::uint64_t d = squeeze<Bits>(load_eight(codes + 24));
  if constexpr (Bits == 2) {
    words[0] = static_cast<std::uint32_t>(a | b << 16);
    words[1] = static_cast<std::uint32_t>(c | d << 16);
  } else if constexpr (Bits == 3) {
    words[0] = static_cast<std::uint32_t>(a | b << 24);
    words[1] = static_cast<std::uint32_t>(b >> 8 | c << 16);
    words[2] = static_cast<std::uint32_t>(c >> 16 | d << 8);
  } else if constexpr (Bits == 5) {
    words[0] = static_cast<std::uint32_t>(a);
    words[1] = static_cast<std::uint32_t>(a >> 32 | b << 8);
    words[2] = static_cast<std::uint32_t>(b >> 24 | c << 16);
    words[3] = static_cast<std::uint32_t>(c >> 16 | d << 24);
    words[4] = static_cast<std::uint32_t>(d >> 8);
  } else if constexpr (Bits == 6) {
    words[0] = static_cast<std::uint32_t>(a);
    words[1] = static_cast<std::uint32_t>(a >> 32 | b << 16);
    words[2] = static_cast<std::uint32_t>(b >> 16);
    words[3] = static_cast<std::uint32_t>(c);
    words[4] = static_cast<std::uint32_t>(c >> 32 | d << 16);
    words[5] = static_cast<std::uint32_t>(d >> 16);
  } else {
    static_assert(Bits == 4);
    words[0] = static_cast<std::uint32_t>(a);
    words[1] = static_cast<std::uint32_t>(b);
    words[2] = static_cast<std::uint32_t>(c);
    words[3] = static_cast<std::uint32_t>(d);
  }
}

template <int Bits>
void unpack_unit(const std::uint32_t* words, std::uint8_t* codes) {
  std::uint64_t a;
  std::uint64_t b;
  std::uint64_t c;
  std::uint64_t d;
  if constexpr (Bits == 2) {
    a = words[0] & 0xFFFFu;
    b = words[0] >> 16;
    c = words[1] & 0xFFFFu;
    d = words[1] >> 16;
  } else if constexpr (Bits == 3) {
    a = words[0] & 0xFFFFFFu;
    b = words[0] >> 24 | (words[1] & 0xFFFFu) << 8;
    c = words[1] >> 16 | (words[2] & 0xFFu) << 16;
    d = words[2] >> 8;
  } else if constexpr (Bits == 5) {
    a = words[0] | (words[1] & 0xFFull) << 32;
    b = words[1] >> 8 | (words[2] & 0xFFFFull) << 24;
    c = words[2] >> 16 | (words[3] & 0xFFFFFFull) << 16;
    d = words[3] >> 24 | std::uint64_t{words[4]} << 8;
  } else if constexpr (Bits == 6) {
    a = words[0] | (words[1] & 0xFFFFull) << 32;
    b = words[1] >> 16 | std::uint64_t{words[2]} << 16;
    c = words[3] | (words[4] & 0xFFFFull) << 32;
    d = words[4] >> 16 | std::uint64_t{words[5]} << 16;
  } else {
    static_assert(Bits == 4);
    a = words[0];
    b = words[1];
    c = words[2];
    d = words[3];
  }
  store_eight(spread<Bits>(a), codes);
  store_eight(spread<Bits>(b), codes + 8);
  store_eight(spread<Bits>(c), codes + 16);
  store_eight(spread<Bits>(d), codes + 24);
}

template <int Bits>
void pack(std::span<const std::uint8_t> codes, std::uint32_t* words) {
  std::size_t at = 0;
  for (; at + kUnit <= codes.size(); at += kUnit, words += Bits) pack_unit<Bits>(codes.data() + at, words);
  if (const std::size_t rest = codes.size() - at; rest > 0) {
    std::array<std::uint8_t, kUnit> padded{};
    std::memcpy(padded.data(), codes.data() + at, rest);
    std::array<std::uint32_t, Bits> last;
    pack_unit<Bits>(padded.data(), last.data());
    std::memcpy(words, last.data(), (rest * Bits + 31) / 32 * sizeof(std::uint32_t));
  }
}

template <int Bits>
void unpack(const std::uint32_t* words, std::span<std::uint8_t> codes) {
  std::size_t at = 0;
  for (; at + kUnit <= codes.size(); at += kUnit, words += Bits) unpack_unit<Bits>(words, codes.data() + at);
  if (const std::size_t rest = codes.size() - at; rest > 0) {
    std::array<std::uint32_t, Bits> last{};
    std::memcpy(last.data(), words, (rest * Bits + 31) / 32 * sizeof(std::uint32_t));
    std::array<std::uint8_t, kUnit> padded;
    unpack_unit<Bits>(last.data(), padded.data());
    std::memcpy(codes.data() + at, padded.data(), rest);
  }
}

bool all_finite(std::span<const std::uint16_t> halves) {
  return std::ranges::none_of(halves, [](std::uint16_t half) { return (half & 0x7C00u) == 0x7C00u; });
}

/// The number of elements must be `expected`; `expected` < 0 stands for a product that overflowed.
void check_size(const char* field, std::size_t actual, std::int64_t expected) {
  if (expected >= 0 && actual == static_cast<std::uint64_t>(expected)) return;
  throw InputError(fmt::format("packed matrix: {} has {} elements where its sizes ask for {}", field, actual,
                               expected < 0 ? std::string("more than fit") : fmt::format("{}", expected)));
}

std::int64_t product_or_minus_one(std::int64_t a, std::int64_t b) {
  std::int64_t product = 0;
  return __builtin_mul_overflow(a, b, &product) ? -1 : product;
}

}  // namespace

void pack_codes(std::span<const std::uint8_t> codes, int bits, std::span<std::uint32_t> out) {
  assert(out.size() == (codes.size() * bits + 31) / 32);
  switch (bits) {
    case 2:
      return pack<2>(codes, out.data());
    case 3:
      return pack<3>(codes, out.data());
    case 4:
      return pack<4>(codes, out.data());
    case 5:
      return pack<5>(codes, out.data());
    case 6:
      return pack<6>(codes, out.data());
    case 8:
      if (codes.empty()) return;
      out.back() = 0;
      std::memcpy(out.data(), codes.data(), codes.size());
      return;
    default:
      throw std::logic_error("pack_codes: codes have 2, 3, 4, 5, 6 or 8 bits");
  }
}

void unpack_codes(std::span<const std::uint32_t> words, int bits, std::span<std::uint8_t> out) {
  assert(words.size() >= (out.size() * bits + 31) / 32);
  switch (bits) {
    case 2:
      return unpack<2>(words.data(), out);
    case 3:
      return unpack<3>(words.data(), out);
    case 4:
      return unpack<4>(words.data(), out);
    case 5:
      return unpack<5>(words.data(), out);
    case 6:
      return unpack<6>(words.data(), out);
    case 8:
      if (!out.empty()) std::memcpy(out.data(), words.data(), out.size());
      return;
    default:
      throw std::logic_error("unpack_codes: codes have 2, 3, 4, 5, 6 or 8 bits");
  }
}

std::int64_t PackedMatrix::meta_groups() const {
  if (meta_bits == 16) return 0;
  return (rows * groups() + meta_group - 1) / meta_group;
}

std::uint64_t PackedMatrix::bytes() const {
  return codes.size() * sizeof(codes[0]) + scales.size() * sizeof(scales[0]) +
         biases.size() * sizeof(biases[0]) + scale_codes.size() + zero_codes.size() +
         scale_steps.size() * sizeof(scale_steps[0]) + scale_mins.size() * sizeof(scale_mins[0]);
}

PackedMatrix::Affine PackedMatrix::affine(std::int64_t row, std::int64_t g) const {
  const std::int64_t i = row * groups() + g;
  if (meta_bits == 16) return {half_to_float(scales[i]), half_to_float(biases[i])};
  const std::int64_t j = i / meta_group;
  const float step = half_to_float(scale_steps[j]) * static_cast<float>(scale_codes[i]);
  const float scale = half_to_float(scale_mins[j]) + step;
  const float zero = static_cast<float>(zero_codes[i] * ((1 << bits) - 1)) / 255.0f;
  return {scale, -(scale * zero)};
}

void PackedMatrix::dequantize_row(std::int64_t row, std::span<float> out) const {
  const std::int64_t words = words_per_row();
  const std::uint32_t* stream = codes.data() + row * words;
  // A piece of codes lives on the stack; 1024 is a multiple of the 32 codes that fill whole words.
  constexpr std::int64_t kPiece = 1024;
  std::array<std::uint8_t, kPiece> piece;
  std::int64_t g = 0;
  std::int64_t group_end = std::min<std::int64_t>(group, cols);
  Affine a = affine(row, 0);
  for (std::int64_t first = 0; first < cols; first += kPiece) {
    const std::int64_t count = std::min(kPiece, cols - first);
    const std::int64_t word = first * bits / 32;
    unpack_codes({stream + word, static_cast<std::size_t>(words - word)}, bits,
                 std::span(piece).first(static_cast<std::size_t>(count)));
    for (std::int64_t k = first; k < first + count;) {
      if (k == group_end) {
        a = affine(row, ++g);
        group_end = std::min(group_end + group, cols);
      }
      const std::int64_t end = std::min(group_end, first + count);
      const std::uint8_t* from = piece.data() + (k - first);
      float* to = out.data() + k;
      for (std::int64_t n = 0; n < end - k; ++n) to[n] = a.scale * static_cast<float>(from[n]) + a.bias;
      k = end;
    }
  }
}

void PackedMatrix::check() const {
  // Far above any model; keeps the sums below from overflowing.
  constexpr std::int64_t kLargestSide = std::int64_t{1} << 40;
  if (rows < 1 || cols < 1 || rows > kLargestSide || cols > kLargestSide) {
    throw InputError(fmt::format("packed matrix: impossible shape [{}, {}]", rows, cols));
  }
  if (!is_affine_width(bits)) {
    throw InputError(fmt::format("packed matrix: {} bits where 2, 3, 4, 5, 6 or 8 are known", bits));
  }
  if (group < 1 || group > cols) {
    throw InputError(fmt::format("packed matrix: group {} does not fit rows of {} weights", group, cols));
  }
  check_size("codes", codes.size(), product_or_minus_one(rows, words_per_row()));
  const std::int64_t metadata = product_or_minus_one(rows, groups());
  if (meta_bits == 16) {
    if (meta_group != 0) throw InputError("packed matrix: meta_group given for 16-bit metadata");
    check_size("scales", scales.size(), metadata);
    check_size("biases", biases.size(), metadata);
    check_size("scale_codes", scale_codes.size(), 0);
    check_size("zero_codes", zero_codes.size(), 0);
    check_size("scale_steps", scale_steps.size(), 0);
    check_size("scale_mins", scale_mins.size(), 0);
  } else if (meta_bits == 8) {
    if (meta_group < 1) throw InputError(fmt::format("packed matrix: impossible meta_group {}", meta_group));
    check_size("scale_codes", scale_codes.size(), metadata);
    check_size("zero_codes", zero_codes.size(), metadata);
    // scale_codes has `metadata` elements, so it is far from overflowing here.
    check_size("scale_steps", scale_steps.size(), (metadata + meta_group - 1) / meta_group);
    check_size("scale_mins", scale_mins.size(), (metadata + meta_group - 1) / meta_group);
    check_size("scales", scales.size(), 0);
    check_size("biases", biases.size(), 0);
  } else {
    throw InputError(fmt::format("packed matrix: {}-bit metadata where 16 or 8 are known", meta_bits));
  }
  if (!all_finite(scales)) throw InputError("packed matrix: scales hold an infinity or NaN");
  if (!all_finite(biases)) throw InputError("packed matrix: biases hold an infinity or NaN");
  if (!all_finite(scale_steps)) throw InputError("packed matrix: scale_steps hold an infinity or NaN");
  if (!all_finite(scale_mins)) throw InputError("packed matrix: scale_mins hold an infinity or NaN");
}

}  // namespace knapsaq
