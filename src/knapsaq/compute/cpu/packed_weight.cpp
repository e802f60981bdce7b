#include "knapsaq/compute/cpu/packed_weight.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <stdexcept>
#include <utility>

#include "knapsaq/base/float16.h"
#include "knapsaq/base/threads.h"
#include "knapsaq/compute/cpu/code_levels.h"
#include "knapsaq/compute/ggml_block.h"

namespace knapsaq::cpu {
namespace {

constexpr std::int64_t kVector = 64;
constexpr std::int64_t kSuperColumns = 256;             ///< of a super-block: 8 tiles
constexpr std::int64_t kSuperBytes = kVector + 8 * 32;  ///< its factors, or with one scale for a tile:
constexpr std::int64_t kSuper32Bytes = kVector + 8 * 16;

/// Bits of a code, and how they are split into planes.
struct Planes {
  int low;
  int high;
};
Planes planes_of(Code code) {
  switch (code) {
    case Code::b2:
      return {2, 0};
    case Code::b3:
    case Code::level3:
      return {2, 1};
    case Code::b4:
    case Code::level4:
    case Code::wide4:
    case Code::nf4:
      return {4, 0};
    case Code::b5:
      return {4, 1};
    case Code::b6:
      return {4, 2};
    case Code::b8:
      return {8, 0};
    default:
      throw std::logic_error("dense numbers have no planes");
  }
}

/// Bytes of a tile's codes or numbers.
std::int64_t tile_bytes(Code code) {
  switch (code) {
    case Code::bf16:
    case Code::f16:
      return kTileColumns * kPanelRows * 2;
    case Code::f32:
      return kTileColumns * kPanelRows * 4;
    default: {
      const Planes planes = planes_of(code);
      return (planes.low + planes.high) * kVector;
    }
  }
}

Code code_of(int bits) {
  switch (bits) {
    case 2:
      return Code::b2;
    case 3:
      return Code::b3;
    case 4:
      return Code::b4;
    case 5:
      return Code::b5;
    case 6:
      return Code::b6;
    default:
      return Code::b8;
  }
}

/// How far ahead products fetch. Sapphire Rapids: at 2, 3 and 4 bits 17, 17 and 20 GB/s became 28, 29 and 32,
/// where a bare sum reads 35 (two threads; 0.5 to 2 KiB near and 3 to 8 KiB far are alike). Zen 4 reads
/// faster without the far one: at IQ4_XS and 4096 columns 32 GB/s for 22 with AVX2, 37 for 35 with AVX-512,
/// where a bare sum reads 58.
void set_prefetch(PackedView& view) {
  view.near = 768;
  view.far = 4096;
#if defined(__x86_64__)
  static const bool is_amd = [] {
    __builtin_cpu_init();
    return __builtin_cpu_is("amd") != 0;
  }();
  if (!is_amd) return;
  view.near = 256;
  view.far = 0;
#endif
}

/// Fills in what follows from code, factors, tiles and group.
PackedView finished(PackedView view) {
  set_prefetch(view);
  switch (view.factors) {
    case Factors::none:
      view.unit = view.tiles;
      break;
    case Factors::half_pair:
    case Factors::float_scale:
      view.unit = view.group;
      view.factor_bytes = 64;
      break;
    case Factors::half_scale:
      view.unit = 2 * view.group;  // whose factors fill a line
      view.factor_bytes = 64;
      break;
    case Factors::float_pair:
      view.unit = view.group;
      view.factor_bytes = 128;
      break;
    case Factors::super_pair:
    case Factors::super_nibbles:
    case Factors::super_scale:
      view.unit = kSuperColumns / kTileColumns;
      view.factor_bytes = kSuperBytes;
      break;
    case Factors::super_scale32:
      view.unit = kSuperColumns / kTileColumns;
      view.factor_bytes = kSuper32Bytes;
      break;
  }
  const std::int64_t units = (view.tiles + view.unit - 1) / view.unit;
  view.unit_bytes = view.factor_bytes + view.unit * tile_bytes(view.code);
  view.panel_bytes = units * view.factor_bytes + view.tiles * tile_bytes(view.code);
  return view;
}

std::int64_t tiles_of(std::int64_t cols) { return (cols + kTileColumns - 1) / kTileColumns; }

/// Whether every bias is -zero times its scale: then it need not be kept.
bool is_symmetric(const PackedMatrix& matrix, float zero) {
  for (std::size_t i = 0; i < matrix.scales.size(); ++i)
    if (half_to_float(matrix.biases[i]) != -zero * half_to_float(matrix.scales[i])) return false;
  return true;
}

std::optional<PackedView> view_of(const PackedMatrix& matrix) {
  if (matrix.group % kTileColumns != 0 && matrix.group != matrix.cols) return std::nullopt;
  PackedView view;
  view.code = code_of(matrix.bits);
  view.tiles = tiles_of(matrix.cols);
  view.group = tiles_of(matrix.group);
  view.zero = static_cast<float>(1 << (matrix.bits - 1));
  // Factors of the second level are products of stored ones: they need fp32.
  view.factors = matrix.meta_bits == 8             ? Factors::float_pair
                 : is_symmetric(matrix, view.zero) ? Factors::half_scale
                                                   : Factors::half_pair;
  return finished(view);
}

void take_levels(PackedView& view, const CodeLevels& levels) {
  view.levels = levels.levels.data();
  view.signed_bytes = levels.signed_bytes.data();
  view.bytes = levels.bytes.data();
  view.zero = static_cast<float>(levels.zero);
}

/// The integer that stands for a scale in a panel: where a half is added to it, twice the sum.
std::int8_t kept_scale(const GgmlRule& rule, int scale) {
  return static_cast<std::int8_t>(rule.scale_offset == 0 ? scale : 2 * scale + 1);
}

std::optional<PackedView> view_of(const GgmlMatrix& matrix) {
  const GgmlRule& of = rule(matrix.type);
  PackedView view;
  view.code = code_of(info(matrix.type).bits);
  view.tiles = tiles_of(matrix.cols);
  view.zero = static_cast<float>(-of.lowest);
  view.step = of.factor(1) / static_cast<float>(kept_scale(of, 1));
  if (const CodeLevels* levels = code_levels(matrix.type)) {
    constexpr std::uint8_t kNarrow = 128;
    const bool wide = std::ranges::max(levels->bytes) > kNarrow;
    view.code = wide ? Code::wide4 : levels->count > 8 ? Code::level4 : Code::level3;
    take_levels(view, *levels);
  }
  if (of.sub_block == info(matrix.type).block) {
    if (of.sub_block % kTileColumns != 0) return std::nullopt;
    view.group = of.sub_block / kTileColumns;
    view.factors = of.has_offset ? Factors::half_pair : Factors::half_scale;
  } else if (of.sub_block == kTileColumns) {
    view.factors = of.has_min ? Factors::super_pair : Factors::super_scale32;
  } else {
    view.factors = of.has_min ? Factors::super_nibbles : Factors::super_scale;
  }
  return finished(view);
}

std::optional<PackedView> view_of(const Nf4Matrix& matrix) {
  if (matrix.cols % Nf4Matrix::kBlock != 0) return std::nullopt;
  PackedView view;
  view.code = Code::nf4;
  view.factors = Factors::float_scale;
  view.tiles = tiles_of(matrix.cols);
  view.group = Nf4Matrix::kBlock / kTileColumns;
  take_levels(view, nf4_levels());
  return finished(view);
}

/// Puts codes [16][cols] of a panel's rows into planes.
void write_codes(const PackedView& view, std::span<const std::uint8_t> codes, std::int64_t cols,
                 std::byte* panel) {
  // Where a column of an operand lies in its row's four bytes: see kColumn in packed_kernels_body.h.
  constexpr std::array<std::int64_t, 4> kByteOf = {0, 2, 1, 3};
  const Planes planes = planes_of(view.code);
  const int low_fields = 8 / planes.low;
  std::array<std::uint8_t, 8 * kVector> bytes;
  for (std::int64_t g = 0; g < view.tiles; ++g) {
    bytes.fill(0);
    const std::int64_t count = std::min(kTileColumns, cols - g * kTileColumns);
    for (std::int64_t r = 0; r < kPanelRows; ++r) {
      const std::uint8_t* row = codes.data() + r * cols + g * kTileColumns;
      for (std::int64_t k = 0; k < count; ++k) {
        const auto operand = static_cast<int>(k / 4);
        const std::int64_t place = 4 * r + kByteOf[static_cast<std::size_t>(k % 4)];
        const unsigned low = row[k] & ((1u << planes.low) - 1u);
        bytes[static_cast<std::size_t>(operand / low_fields * kVector + place)] |=
            static_cast<std::uint8_t>(low << (operand % low_fields * planes.low));
        if (planes.high == 0) continue;
        const unsigned high = static_cast<unsigned>(row[k]) >> planes.low;
        const HighBits at = high_bits(planes.low, planes.high, operand);
        bytes[static_cast<std::size_t>((planes.low + at.vector) * kVector + place)] |=
            static_cast<std::uint8_t>(high << at.bit);
      }
    }
    std::memcpy(
        panel + g / view.unit * view.unit_bytes + view.factor_bytes + g % view.unit * tile_bytes(view.code),
        bytes.data(), static_cast<std::size_t>(tile_bytes(view.code)));
  }
}

template <class T>
void put(std::byte* at, std::int64_t index, T value) {
  std::memcpy(at + index * static_cast<std::int64_t>(sizeof(T)), &value, sizeof(T));
}

/// The factors of a group that is not part of a super-block.
std::byte* factors_of(const PackedView& view, std::int64_t group, std::byte* panel) {
  const std::int64_t groups = view.unit / view.group;  // of a unit
  return panel + group / groups * view.unit_bytes + group % groups * 32;
}

/// One row of `matrix` into row `lane` of a panel: the codes as bytes, the factors in place.
void write_row(const PackedMatrix& matrix, const PackedView& view, std::int64_t row, std::int64_t lane,
               std::span<std::uint8_t> codes, std::byte* panel) {
  const auto words = static_cast<std::size_t>(matrix.words_per_row());
  unpack_codes(std::span(matrix.codes).subspan(static_cast<std::size_t>(row) * words, words), matrix.bits,
               codes);
  for (std::int64_t g = 0; g < matrix.groups(); ++g) {
    std::byte* at = factors_of(view, g, panel);
    if (view.factors == Factors::float_pair) {
      const PackedMatrix::Affine affine = matrix.affine(row, g);
      put(at, lane, affine.scale);
      put(at + 64, lane, affine.bias);
      continue;
    }
    const auto i = static_cast<std::size_t>(row * matrix.groups() + g);
    put(at, lane, matrix.scales[i]);
    if (view.factors == Factors::half_pair) put(at + 32, lane, matrix.biases[i]);
  }
}

void write_row(const GgmlMatrix& matrix, const PackedView& view, std::int64_t row, std::int64_t lane,
               std::span<std::uint8_t> codes, std::byte* panel) {
  const GgmlTypeInfo& type = info(matrix.type);
  const GgmlRule& of = rule(matrix.type);
  const std::span<const std::byte> blocks = std::span(matrix.blocks)
                                                .subspan(static_cast<std::size_t>(row * matrix.row_bytes()),
                                                         static_cast<std::size_t>(matrix.row_bytes()));
  const CodeLevels* levels = code_levels(matrix.type);
  GgmlBlock block;
  for (std::int64_t b = 0; b < matrix.cols / type.block; ++b) {
    unpack_block(
        matrix.type,
        blocks.subspan(static_cast<std::size_t>(b * type.bytes), static_cast<std::size_t>(type.bytes)),
        block);
    for (int i = 0; i < type.block; ++i) {
      const std::int8_t code = block.codes[static_cast<std::size_t>(i)];
      codes[static_cast<std::size_t>(b * type.block + i)] =
          levels == nullptr ? static_cast<std::uint8_t>(code - of.lowest)
                            : levels->index_of[static_cast<std::uint8_t>(code)];
    }
    if (view.group > 0) {
      std::byte* at = factors_of(view, b, panel);
      put(at, lane, block.d);
      if (view.factors == Factors::half_pair) put(at + 32, lane, block.m);
      continue;
    }
    std::byte* super = panel + b * view.unit_bytes;
    put(super, lane, block.d);
    if (of.has_min) put(super + 32, lane, block.m);
    for (int s = 0; s < type.block / of.sub_block; ++s) {
      const auto i = static_cast<std::size_t>(s);
      if (view.factors == Factors::super_pair) {
        put(super + kVector + s * 32, lane, block.scales[i]);
        put(super + kVector + s * 32 + 16, lane, block.mins[i]);
      } else if (view.factors == Factors::super_nibbles) {
        put(super + kVector + s * 16, lane, static_cast<std::uint8_t>(block.scales[i] | block.mins[i] << 4));
      } else {
        put(super + kVector + s * 16, lane, kept_scale(of, block.scales[i]));
      }
    }
  }
}

void write_row(const Nf4Matrix& matrix, const PackedView& view, std::int64_t row, std::int64_t lane,
               std::span<std::uint8_t> codes, std::byte* panel) {
  const std::int64_t first = row * matrix.cols;
  for (std::int64_t k = 0; k < matrix.cols; ++k) {
    const std::uint8_t byte = matrix.codes[static_cast<std::size_t>((first + k) / 2)];
    codes[static_cast<std::size_t>(k)] = (first + k) % 2 == 0 ? byte >> 4 : byte & 15;
  }
  for (std::int64_t g = 0; g < matrix.cols / Nf4Matrix::kBlock; ++g)
    put(factors_of(view, g, panel), lane, matrix.absmax(first / Nf4Matrix::kBlock + g));
}

}  // namespace

PackedWeight::PackedWeight(std::int64_t out, std::int64_t in, std::vector<float> bias, PackedView view,
                           Arena& arena)
    : Weight(out, in, std::move(bias)), view_(view), data_(arena.allocate(size())) {
  view_.data = data_.get();
}

std::optional<PackedView> packed_view(const StoredMatrix& matrix) {
  return std::visit([](const auto& one) { return view_of(one); }, matrix);
}

std::unique_ptr<PackedWeight> pack(const StoredMatrix& matrix, std::vector<float> bias, Arena& arena) {
  const std::optional<PackedView> view = packed_view(matrix);
  if (!view) throw std::logic_error("pack: a matrix without panels");
  const std::int64_t rows = rows_of(matrix);
  const std::int64_t cols = cols_of(matrix);
  auto weight = std::make_unique<PackedWeight>(rows, cols, std::move(bias), *view, arena);
  parallel_for(static_cast<std::size_t>(weight->panels()), [&](std::size_t index) {
    const auto first = static_cast<std::int64_t>(index) * kPanelRows;
    std::byte* panel = weight->panel(static_cast<std::int64_t>(index));
    std::vector<std::uint8_t> codes(static_cast<std::size_t>(kPanelRows * cols));
    for (std::int64_t lane = 0; lane < std::min(kPanelRows, rows - first); ++lane)
      std::visit(
          [&](const auto& one) {
            write_row(one, *view, first + lane, lane,
                      std::span(codes).subspan(static_cast<std::size_t>(lane * cols),
                                               static_cast<std::size_t>(cols)),
                      panel);
          },
          matrix);
    write_codes(*view, codes, cols, panel);
  });
  return weight;
}

std::unique_ptr<PackedWeight> pack(std::int64_t out, std::int64_t in, Code code, std::vector<float> bias,
                                   const DenseRows& read, Arena& arena) {
  PackedView view;
  view.code = code;
  view.factors = Factors::none;
  view.tiles = tiles_of(in);
  auto weight = std::make_unique<PackedWeight>(out, in, std::move(bias), finished(view), arena);
  parallel_for(static_cast<std::size_t>(weight->panels()), [&](std::size_t index) {
    const auto first = static_cast<std::int64_t>(index) * kPanelRows;
    const std::int64_t rows = std::min(kPanelRows, out - first);
    std::byte* panel = weight->panel(static_cast<std::int64_t>(index));
    std::vector<float> values(static_cast<std::size_t>(rows * in));
    read(first, rows, values.data());
    for (std::int64_t r = 0; r < rows; ++r)
      for (std::int64_t k = 0; k < in; ++k) {
        const float value = values[static_cast<std::size_t>(r * in + k)];
        const std::int64_t pair = (k / 2 * kPanelRows + r) * 2 + k % 2;
        if (code == Code::f32) {
          put(panel, k * kPanelRows + r, value);
        } else {
          put(panel, pair, code == Code::f16 ? float_to_half(value) : float_to_bfloat16(value));
        }
      }
  });
  return weight;
}

}  // namespace knapsaq::cpu
