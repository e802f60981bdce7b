#include "knapsaq/compute/cpu/packed_products.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <type_traits>

#include "knapsaq/base/float16.h"
#include "knapsaq/base/threads.h"

namespace knapsaq::cpu {
namespace {

// A task of 32 KiB takes one to two microseconds from memory, handing it out a fiftieth of that.
constexpr std::int64_t kTaskBytes = 32 << 10;
// Dequantized, half of an L2 cache of 1 MiB.
constexpr std::int64_t kPieceBytes = 512 << 10;
constexpr std::int64_t kColumnBlock = 64;   // of oneDNN's layouts
constexpr std::int64_t kRowsTogether = 16;  // of inputs that one task prepares

bool is_dense(const PackedWeight& weight) { return weight.view().factors == Factors::none; }

float to_float(float x) { return x; }
float to_float(Bf16 x) { return bfloat16_to_float(static_cast<std::uint16_t>(x)); }

template <class T>
T* in_buffer(AlignedBytes& bytes, std::int64_t count) {
  bytes.reserve(static_cast<std::size_t>(count) * sizeof(T));
  return reinterpret_cast<T*>(bytes.data());
}

thread_local AlignedBytes t_plain;
thread_local AlignedBytes t_floats;  // a row of inputs

}  // namespace

template <class T>
bool PackedInputs<T>::in_int8(const PackedWeight& weight) const {
  return packed_ == Packed::int8 && !is_dense(weight);
}

template <class T>
void PackedInputs<T>::prepare(const T* x, std::int64_t rows, std::int64_t cols,
                              std::span<const PackedWeight* const> weights) {
  const std::int64_t tiles = (cols + kTileColumns - 1) / kTileColumns;
  const std::int64_t width = tiles * kTileColumns;
  const bool int8 = std::any_of(weights.begin(), weights.end(), [&](const auto* w) { return in_int8(*w); });
  const bool sums = std::any_of(weights.begin(), weights.end(),
                                [&](const auto* w) { return !in_int8(*w) && !is_dense(*w); });
  rows_ = rows;
  plain_.resize(static_cast<std::size_t>(rows));
  int8_.resize(static_cast<std::size_t>(rows));

  const T* whole = x;
  if (width != cols) {
    T* padded = in_buffer<T>(padded_, rows * width);
    for (std::int64_t r = 0; r < rows; ++r) {
      std::copy_n(x + r * cols, cols, padded + r * width);
      std::fill_n(padded + r * width + cols, width - cols, T{});
    }
    whole = padded;
  }
  auto* codes = in_buffer<std::int8_t>(codes_, int8 ? rows * width : 0);
  float* scales = in_buffer<float>(scales_, int8 ? rows * tiles : 0);
  float* int8_sums = in_buffer<float>(sums_, int8 ? rows * tiles * 2 : 0);
  float* plain_sums = in_buffer<float>(plain_sums_, sums ? rows * tiles * 2 : 0);
  const auto prepare_row = [&](std::int64_t r) {
    const T* row = whole + r * width;
    float* floats = in_buffer<float>(t_floats, int8 || sums ? width : 0);
    if (int8 || sums) std::transform(row, row + width, floats, [](T value) { return to_float(value); });
    if (int8)
      kernels_.quantize(floats, width, codes + r * width, scales + r * tiles, int8_sums + r * tiles * 2);
    if (sums) kernels_.sum(floats, width, plain_sums + r * tiles * 2);
    int8_[static_cast<std::size_t>(r)] = {codes + r * width, scales + r * tiles, int8_sums + r * tiles * 2};
    plain_[static_cast<std::size_t>(r)] = {row, plain_sums + r * tiles * 2};
  };
  // Few rows cost less than what hands them out; of experts there may be hundreds.
  parallel_for(static_cast<std::size_t>((rows + kRowsTogether - 1) / kRowsTogether), [&](std::size_t index) {
    const std::int64_t first = static_cast<std::int64_t>(index) * kRowsTogether;
    for (std::int64_t r = first; r < std::min(first + kRowsTogether, rows); ++r) prepare_row(r);
  });
}

template <class T>
void PackedInputs<T>::multiply(const PackedWeight& weight, std::int64_t first, std::int64_t panels,
                               std::int64_t first_row, std::int64_t rows, float* out,
                               std::int64_t pitch) const {
  const std::int64_t end = first_row + rows;
  for (std::int64_t row = first_row; row < end; row += kInputRows) {
    const int count = static_cast<int>(std::min<std::int64_t>(kInputRows, end - row));
    float* to = out + (row - first_row) * pitch;
    if (in_int8(weight)) {
      kernels_.multiply_int8(weight.view(), first, panels, int8_.data() + row, count, to, pitch);
    } else if constexpr (std::is_same_v<T, Bf16>) {
      kernels_.multiply_bf16(weight.view(), first, panels, plain_.data() + row, count, to, pitch);
    } else {
      kernels_.multiply_float(weight.view(), first, panels, plain_.data() + row, count, to, pitch);
    }
  }
}

template class PackedInputs<float>;
template class PackedInputs<Bf16>;

std::int64_t panels_per_task(const PackedWeight& weight) {
  return std::clamp<std::int64_t>(kTaskBytes / weight.view().panel_bytes, 1, weight.panels());
}

std::int64_t columns_per_piece(const PackedWeight& weight) {
  const std::int64_t fit = kPieceBytes / (2 * weight.in()) / kColumnBlock * kColumnBlock;
  return std::min(std::max(fit, kColumnBlock), weight.out());
}

template <class T>
ProductOperand dequantize(const PackedWeight& weight, std::int64_t first, std::int64_t cols,
                          const PackedKernels& kernels, Products& products, dnnl::memory::desc& layout,
                          AlignedBytes& buffer) {
  const PackedView& view = weight.view();
  const std::int64_t in = weight.in();
  layout = products.layout(cols, in, !weight.bias().empty());
  buffer.reserve(layout.get_size());
  // Some layouts are padded.
  if (cols % kColumnBlock != 0) std::memset(buffer.data(), 0, layout.get_size());
  T* const to = reinterpret_cast<T*>(buffer.data());
  const std::int64_t first_panel = first / kPanelRows;
  const std::int64_t panels = (cols + kPanelRows - 1) / kPanelRows;

  const std::optional<BlockedLayout> blocks = blocked(layout);
  constexpr bool kPairs = std::is_same_v<T, Bf16>;
  if (blocks && blocks->pairs == kPairs && in % kTileColumns == 0) {
    for (std::int64_t p = 0; p < panels; ++p) {
      const std::int64_t row = p * kPanelRows;
      T* start = to + row / blocks->rows * blocks->row_block + row % blocks->rows * (kPairs ? 2 : 1);
      if constexpr (kPairs) {
        kernels.dequantize_bf16(view, first_panel + p, start, 2 * blocks->rows, blocks->column_block);
      } else {
        kernels.dequantize_float(view, first_panel + p, start, blocks->rows, blocks->column_block);
      }
    }
  } else {
    // Panel by panel into rows, then as the library does it.
    const std::int64_t width = view.tiles * kTileColumns;
    t_plain.reserve(static_cast<std::size_t>(width * kPanelRows) * sizeof(float) +
                    static_cast<std::size_t>(cols * in) * sizeof(T));
    float* panel = reinterpret_cast<float*>(t_plain.data());
    T* plain = reinterpret_cast<T*>(panel + width * kPanelRows);
    for (std::int64_t p = 0; p < panels; ++p) {
      kernels.dequantize_float(view, first_panel + p, panel, kPanelRows, 16 * kPanelRows);
      for (std::int64_t r = 0; r < std::min(kPanelRows, cols - p * kPanelRows); ++r)
        for (std::int64_t k = 0; k < in; ++k) {
          const float value = panel[k * kPanelRows + r];
          T& target = plain[(p * kPanelRows + r) * in + k];
          if constexpr (kPairs) {
            target = static_cast<Bf16>(float_to_bfloat16(value));
          } else {
            target = value;
          }
        }
    }
    products.reorder(plain, cols, in, layout, to);
  }
  return {.first = first,
          .cols = cols,
          .in = in,
          .layout = &layout,
          .data = to,
          .bias = weight.bias().empty() ? nullptr : weight.bias().data() + first};
}

template ProductOperand dequantize<float>(const PackedWeight&, std::int64_t, std::int64_t,
                                          const PackedKernels&, Products&, dnnl::memory::desc&,
                                          AlignedBytes&);
template ProductOperand dequantize<Bf16>(const PackedWeight&, std::int64_t, std::int64_t,
                                         const PackedKernels&, Products&, dnnl::memory::desc&, AlignedBytes&);

}  // namespace knapsaq::cpu
