#include "knapsaq/compute/ggml_block.h"

#include <algorithm>
#include <cstring>

#include "knapsaq/compute/ggml_iq_block.h"

namespace knapsaq {

namespace {

// Codes of up to 6 bits, 8-bit scales: every field fits a byte, and the loops below over 16 or 32 neighbours
// are what the compiler turns into vector code.
using Bytes = std::array<std::uint8_t, 210>;  // the largest block, Q6_K's

std::uint16_t half_at(const Bytes& b, std::size_t at) {
  return static_cast<std::uint16_t>(b[at] | b[at + 1] << 8);
}
void put_half(Bytes& b, std::size_t at, std::uint16_t half) {
  b[at] = static_cast<std::uint8_t>(half & 0xFFu);
  b[at + 1] = static_cast<std::uint8_t>(half >> 8);
}

std::uint8_t bits(int value) { return static_cast<std::uint8_t>(value); }
std::int8_t code(int value) { return static_cast<std::int8_t>(value); }

/// 32 codes, element j in the low half of byte j and element j + 16 in its high half.
void unpack_nibbles(const std::uint8_t* in, std::int8_t* codes, int offset) {
  for (std::size_t j = 0; j < 16; ++j) {
    codes[j] = code((in[j] & 15) - offset);
    codes[j + 16] = code((in[j] >> 4) - offset);
  }
}
void pack_nibbles(const std::int8_t* codes, std::uint8_t* out, int offset) {
  for (std::size_t j = 0; j < 16; ++j)
    out[j] = bits(((codes[j] + offset) & 15) | ((codes[j + 16] + offset) & 15) << 4);
}

/// The same with the fifth bit of element j in bit j of the 32 at `high`.
void unpack_fives(const std::uint8_t* high, const std::uint8_t* in, std::int8_t* codes, int offset) {
  unpack_nibbles(in, codes, offset);
  for (std::size_t j = 0; j < 32; ++j) codes[j] = code(codes[j] + ((high[j / 8] >> (j % 8)) & 1) * 16);
}
void pack_fives(const std::int8_t* codes, std::uint8_t* high, std::uint8_t* out, int offset) {
  pack_nibbles(codes, out, offset);
  std::fill_n(high, 4, std::uint8_t{0});
  for (std::size_t j = 0; j < 32; ++j)
    high[j / 8] = bits(high[j / 8] | ((codes[j] + offset) >> 4) << (j % 8));
}

/// 256 codes of two bits: element 128 h + 32 t + l in bits 2t of byte 32 h + l.
void unpack_pairs(const std::uint8_t* in, std::int8_t* codes) {
  for (std::size_t h = 0; h < 2; ++h) {
    for (std::size_t t = 0; t < 4; ++t) {
      for (std::size_t l = 0; l < 32; ++l)
        codes[128 * h + 32 * t + l] = code((in[32 * h + l] >> (2 * t)) & 3);
    }
  }
}
void pack_pairs(const std::uint8_t* codes, std::uint8_t* out) {
  for (std::size_t h = 0; h < 2; ++h) {
    for (std::size_t l = 0; l < 32; ++l) {
      const std::uint8_t* at = codes + 128 * h + l;
      out[32 * h + l] = bits((at[0] & 3) | (at[32] & 3) << 2 | (at[64] & 3) << 4 | (at[96] & 3) << 6);
    }
  }
}

/// Eight scales and mins of six bits in twelve bytes (Q4_K, Q5_K).
void unpack_scales_and_mins(const std::uint8_t* in, GgmlBlock& block) {
  for (std::size_t k = 0; k < 4; ++k) {
    block.scales[k] = code(in[k] & 63);
    block.mins[k] = code(in[k + 4] & 63);
    block.scales[k + 4] = code((in[k + 8] & 15) | (in[k] >> 6) << 4);
    block.mins[k + 4] = code((in[k + 8] >> 4) | (in[k + 4] >> 6) << 4);
  }
}
void pack_scales_and_mins(const GgmlBlock& block, std::uint8_t* out) {
  for (std::size_t k = 0; k < 4; ++k) {
    out[k] = bits((block.scales[k] & 63) | (block.scales[k + 4] >> 4) << 6);
    out[k + 4] = bits((block.mins[k] & 63) | (block.mins[k + 4] >> 4) << 6);
    out[k + 8] = bits((block.scales[k + 4] & 15) | (block.mins[k + 4] & 15) << 4);
  }
}

/// Sixteen scales of six bits, stored + 32, in twelve bytes (Q3_K).
void unpack_sixteen_scales(const std::uint8_t* in, GgmlBlock& block) {
  for (std::size_t k = 0; k < 16; ++k) {
    const int low = k < 8 ? in[k] & 15 : in[k - 8] >> 4;
    const int high = (in[8 + k % 4] >> (2 * (k / 4))) & 3;
    block.scales[k] = code((low | high << 4) - 32);
  }
}
void pack_sixteen_scales(const GgmlBlock& block, std::uint8_t* out) {
  std::fill_n(out, 12, std::uint8_t{0});
  for (std::size_t k = 0; k < 16; ++k) {
    const int stored = block.scales[k] + 32;
    out[k % 8] = bits(out[k % 8] | (stored & 15) << (k < 8 ? 0 : 4));
    out[8 + k % 4] = bits(out[8 + k % 4] | (stored >> 4) << (2 * (k / 4)));
  }
}

void unpack_q2_k(const Bytes& b, GgmlBlock& block) {
  for (std::size_t k = 0; k < 16; ++k) {
    block.scales[k] = code(b[k] & 15);
    block.mins[k] = code(b[k] >> 4);
  }
  unpack_pairs(b.data() + 16, block.codes.data());
  block.d = half_at(b, 80);
  block.m = half_at(b, 82);
}
void pack_q2_k(const GgmlBlock& block, Bytes& b) {
  for (std::size_t k = 0; k < 16; ++k) b[k] = bits((block.scales[k] & 15) | (block.mins[k] & 15) << 4);
  std::array<std::uint8_t, 256> low;
  for (std::size_t j = 0; j < 256; ++j) low[j] = bits(block.codes[j]);
  pack_pairs(low.data(), b.data() + 16);
  put_half(b, 80, block.d);
  put_half(b, 82, block.m);
}

void unpack_q3_k(const Bytes& b, GgmlBlock& block) {
  unpack_pairs(b.data() + 32, block.codes.data());
  // The third bit is set where nothing is to be subtracted.
  for (std::size_t r = 0; r < 8; ++r) {
    for (std::size_t l = 0; l < 32; ++l)
      block.codes[32 * r + l] = code(block.codes[32 * r + l] - 4 + ((b[l] >> r) & 1) * 4);
  }
  unpack_sixteen_scales(b.data() + 96, block);
  block.d = half_at(b, 108);
}
void pack_q3_k(const GgmlBlock& block, Bytes& b) {
  std::array<std::uint8_t, 256> stored;
  for (std::size_t j = 0; j < 256; ++j) stored[j] = bits(block.codes[j] + 4);
  std::fill_n(b.data(), 32, std::uint8_t{0});
  for (std::size_t r = 0; r < 8; ++r) {
    for (std::size_t l = 0; l < 32; ++l) b[l] = bits(b[l] | (stored[32 * r + l] >> 2) << r);
  }
  pack_pairs(stored.data(), b.data() + 32);
  pack_sixteen_scales(block, b.data() + 96);
  put_half(b, 108, block.d);
}

/// The nibbles of Q4_K and Q5_K: element 64 p + l in the low half of byte 32 p + l, 64 p + 32 + l in the
/// high.
void unpack_halves(const std::uint8_t* in, std::int8_t* codes) {
  for (std::size_t p = 0; p < 4; ++p) {
    for (std::size_t l = 0; l < 32; ++l) {
      codes[64 * p + l] = code(in[32 * p + l] & 15);
      codes[64 * p + 32 + l] = code(in[32 * p + l] >> 4);
    }
  }
}
void pack_halves(const std::int8_t* codes, std::uint8_t* out) {
  for (std::size_t p = 0; p < 4; ++p) {
    for (std::size_t l = 0; l < 32; ++l)
      out[32 * p + l] = bits((codes[64 * p + l] & 15) | (codes[64 * p + 32 + l] & 15) << 4);
  }
}

void unpack_q4_k(const Bytes& b, GgmlBlock& block) {
  block.d = half_at(b, 0);
  block.m = half_at(b, 2);
  unpack_scales_and_mins(b.data() + 4, block);
  unpack_halves(b.data() + 16, block.codes.data());
}
void pack_q4_k(const GgmlBlock& block, Bytes& b) {
  put_half(b, 0, block.d);
  put_half(b, 2, block.m);
  pack_scales_and_mins(block, b.data() + 4);
  pack_halves(block.codes.data(), b.data() + 16);
}

void unpack_q5_k(const Bytes& b, GgmlBlock& block) {
  block.d = half_at(b, 0);
  block.m = half_at(b, 2);
  unpack_scales_and_mins(b.data() + 4, block);
  unpack_halves(b.data() + 48, block.codes.data());
  for (std::size_t i = 0; i < 8; ++i) {
    for (std::size_t l = 0; l < 32; ++l)
      block.codes[32 * i + l] = code(block.codes[32 * i + l] | ((b[16 + l] >> i) & 1) << 4);
  }
}
void pack_q5_k(const GgmlBlock& block, Bytes& b) {
  put_half(b, 0, block.d);
  put_half(b, 2, block.m);
  pack_scales_and_mins(block, b.data() + 4);
  pack_halves(block.codes.data(), b.data() + 48);
  std::fill_n(b.data() + 16, 32, std::uint8_t{0});
  for (std::size_t i = 0; i < 8; ++i) {
    for (std::size_t l = 0; l < 32; ++l) b[16 + l] = bits(b[16 + l] | (block.codes[32 * i + l] >> 4) << i);
  }
}

void unpack_q6_k(const Bytes& b, GgmlBlock& block) {
  for (std::size_t h = 0; h < 2; ++h) {
    for (std::size_t r = 0; r < 4; ++r) {
      const std::uint8_t* low = b.data() + 64 * h + 32 * (r % 2);
      const std::uint8_t* high = b.data() + 128 + 32 * h;
      for (std::size_t l = 0; l < 32; ++l) {
        block.codes[128 * h + 32 * r + l] =
            code((((low[l] >> (4 * (r / 2))) & 15) | ((high[l] >> (2 * r)) & 3) << 4) - 32);
      }
    }
  }
  std::memcpy(block.scales.data(), b.data() + 192, 16);
  block.d = half_at(b, 208);
}
void pack_q6_k(const GgmlBlock& block, Bytes& b) {
  std::fill_n(b.data(), 192, std::uint8_t{0});
  for (std::size_t h = 0; h < 2; ++h) {
    for (std::size_t r = 0; r < 4; ++r) {
      std::uint8_t* low = b.data() + 64 * h + 32 * (r % 2);
      std::uint8_t* high = b.data() + 128 + 32 * h;
      for (std::size_t l = 0; l < 32; ++l) {
        const int stored = block.codes[128 * h + 32 * r + l] + 32;
        low[l] = bits(low[l] | (stored & 15) << (4 * (r / 2)));
        high[l] = bits(high[l] | (stored >> 4) << (2 * r));
      }
    }
  }
  std::memcpy(b.data() + 192, block.scales.data(), 16);
  put_half(b, 208, block.d);
}

}  // namespace

const GgmlRule& rule(GgmlType type) {
  static constexpr GgmlRule kQ2_0{64, -1, 2, 1, 1, false, false};
  static constexpr GgmlRule kQ4_0{32, -8, 7, 1, 1, false, false};
  static constexpr GgmlRule kQ4_1{32, 0, 15, 1, 1, false, true};
  static constexpr GgmlRule kQ5_0{32, -16, 15, 1, 1, false, false};
  static constexpr GgmlRule kQ5_1{32, 0, 31, 1, 1, false, true};
  static constexpr GgmlRule kQ8_0{32, -128, 127, 1, 1, false, false};
  static constexpr GgmlRule kQ2_K{16, 0, 3, 0, 15, true, false};
  static constexpr GgmlRule kQ3_K{16, -4, 3, -32, 31, false, false};
  static constexpr GgmlRule kQ4_K{32, 0, 15, 0, 63, true, false};
  static constexpr GgmlRule kQ5_K{32, 0, 31, 0, 63, true, false};
  static constexpr GgmlRule kQ6_K{16, -32, 31, -128, 127, false, false};
  static const GgmlRule kIQ4_NL{32, -127, 113, 1, 1, false, false, 1, 0, iq4_levels()};
  static const GgmlRule kIQ4_XS{32, -127, 113, -32, 31, false, false, 1, 0, iq4_levels()};
  static const auto on_grid = [](GgmlType of, int sub_block, int highest_scale, float step) {
    const GgmlGrid* const grid = GgmlGrid::of(of);
    const int largest = grid->signs() == GgmlGrid::Signs::shift ? 9 : grid->levels().back();
    return GgmlRule{sub_block, -largest, largest, 0, highest_scale, false, false, step, 0.5f, {}, grid};
  };
  static const GgmlRule kIQ1_S = on_grid(GgmlType::IQ1_S, 32, 7, 0.25f);
  static const GgmlRule kIQ1_M = on_grid(GgmlType::IQ1_M, 16, 7, 0.25f);
  static const GgmlRule kIQ2_XXS = on_grid(GgmlType::IQ2_XXS, 32, 15, 0.25f);
  static const GgmlRule kIQ2_XS = on_grid(GgmlType::IQ2_XS, 16, 15, 0.25f);
  static const GgmlRule kIQ2_S = on_grid(GgmlType::IQ2_S, 16, 15, 0.25f);
  static const GgmlRule kIQ3_XXS = on_grid(GgmlType::IQ3_XXS, 32, 15, 0.5f);
  static const GgmlRule kIQ3_S = on_grid(GgmlType::IQ3_S, 32, 15, 2);
  switch (type) {
    case GgmlType::Q2_0:
      return kQ2_0;
    case GgmlType::Q4_0:
      return kQ4_0;
    case GgmlType::Q4_1:
      return kQ4_1;
    case GgmlType::Q5_0:
      return kQ5_0;
    case GgmlType::Q5_1:
      return kQ5_1;
    case GgmlType::Q8_0:
      return kQ8_0;
    case GgmlType::Q2_K:
      return kQ2_K;
    case GgmlType::Q3_K:
      return kQ3_K;
    case GgmlType::Q4_K:
      return kQ4_K;
    case GgmlType::Q5_K:
      return kQ5_K;
    case GgmlType::Q6_K:
      return kQ6_K;
    case GgmlType::IQ1_S:
      return kIQ1_S;
    case GgmlType::IQ1_M:
      return kIQ1_M;
    case GgmlType::IQ2_XXS:
      return kIQ2_XXS;
    case GgmlType::IQ2_XS:
      return kIQ2_XS;
    case GgmlType::IQ2_S:
      return kIQ2_S;
    case GgmlType::IQ3_XXS:
      return kIQ3_XXS;
    case GgmlType::IQ3_S:
      return kIQ3_S;
    case GgmlType::IQ4_NL:
      return kIQ4_NL;
    case GgmlType::IQ4_XS:
      return kIQ4_XS;
  }
  return kQ8_0;  // not reached: the enumeration is complete
}

void unpack_block(GgmlType type, std::span<const std::byte> bytes, GgmlBlock& block) {
  Bytes b;
  std::memcpy(b.data(), bytes.data(), bytes.size());
  std::int8_t* const codes = block.codes.data();
  const GgmlRule& how = rule(type);
  if (how.highest_scale == 1) {
    block.scales[0] = 1;
    block.d = half_at(b, 0);
  }
  if (how.has_offset) block.m = half_at(b, 2);
  switch (type) {
    case GgmlType::Q2_0:
      for (std::size_t j = 0; j < 64; ++j) codes[j] = code(((b[2 + j / 4] >> (2 * (j % 4))) & 3) - 1);
      return;
    case GgmlType::Q4_0:
      return unpack_nibbles(b.data() + 2, codes, 8);
    case GgmlType::Q4_1:
      return unpack_nibbles(b.data() + 4, codes, 0);
    case GgmlType::Q5_0:
      return unpack_fives(b.data() + 2, b.data() + 6, codes, 16);
    case GgmlType::Q5_1:
      return unpack_fives(b.data() + 4, b.data() + 8, codes, 0);
    case GgmlType::Q8_0:
      std::memcpy(codes, b.data() + 2, 32);
      return;
    case GgmlType::Q2_K:
      return unpack_q2_k(b, block);
    case GgmlType::Q3_K:
      return unpack_q3_k(b, block);
    case GgmlType::Q4_K:
      return unpack_q4_k(b, block);
    case GgmlType::Q5_K:
      return unpack_q5_k(b, block);
    case GgmlType::Q6_K:
      return unpack_q6_k(b, block);
    default:
      return unpack_iq_block(type, b.data(), block);
  }
}

void pack_block(GgmlType type, const GgmlBlock& block, std::span<std::byte> bytes) {
  Bytes b{};
  const std::int8_t* const codes = block.codes.data();
  const GgmlRule& how = rule(type);
  if (how.highest_scale == 1) put_half(b, 0, block.d);
  if (how.has_offset) put_half(b, 2, block.m);
  switch (type) {
    case GgmlType::Q2_0:
      for (std::size_t j = 0; j < 64; ++j)
        b[2 + j / 4] = bits(b[2 + j / 4] | (codes[j] + 1) << (2 * (j % 4)));
      break;
    case GgmlType::Q4_0:
      pack_nibbles(codes, b.data() + 2, 8);
      break;
    case GgmlType::Q4_1:
      pack_nibbles(codes, b.data() + 4, 0);
      break;
    case GgmlType::Q5_0:
      pack_fives(codes, b.data() + 2, b.data() + 6, 16);
      break;
    case GgmlType::Q5_1:
      pack_fives(codes, b.data() + 4, b.data() + 8, 0);
      break;
    case GgmlType::Q8_0:
      std::memcpy(b.data() + 2, codes, 32);
      break;
    case GgmlType::Q2_K:
      pack_q2_k(block, b);
      break;
    case GgmlType::Q3_K:
      pack_q3_k(block, b);
      break;
    case GgmlType::Q4_K:
      pack_q4_k(block, b);
      break;
    case GgmlType::Q5_K:
      pack_q5_k(block, b);
      break;
    case GgmlType::Q6_K:
      pack_q6_k(block, b);
      break;
    default:
      pack_iq_block(type, block, b.data());
      break;
  }
  std::memcpy(bytes.data(), b.data(), bytes.size());
}

}  // namespace knapsaq
