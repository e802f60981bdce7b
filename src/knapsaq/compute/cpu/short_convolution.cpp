#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "knapsaq/base/threads.h"
#include "knapsaq/compute/cpu/recurrent.h"
#include "knapsaq/compute/cpu/recurrent_state.h"
#include "knapsaq/compute/cpu/tiles.h"

namespace knapsaq::cpu {
namespace {

// A task: some rows of a run and some channels, whose inputs in fp32 stay in the L2 cache.
constexpr std::int64_t kRows = 32;
constexpr std::int64_t kChannels = 512;
// Published ones have three or four.
constexpr std::int64_t kMostTaps = 64;

struct Tile {
  std::size_t run = 0;
  std::int64_t first = 0;  ///< in the run
  std::int64_t count = 0;
  std::int64_t channel = 0;
  std::int64_t channels = 0;
};

std::vector<Tile> tiles_of(const std::vector<SequenceRun>& runs, std::int64_t channels) {
  std::vector<Tile> tiles;
  for (std::size_t i = 0; i < runs.size(); ++i)
    for (std::int64_t first = 0; first < runs[i].length; first += kRows)
      for (std::int64_t channel = 0; channel < channels; channel += kChannels)
        tiles.push_back({i, first, std::min(kRows, runs[i].length - first), channel,
                         std::min(kChannels, channels - channel)});
  return tiles;
}

/// Where the parts of a row are: B, C and u, or the input alone.
template <class T>
struct Parts {
  Parts(const ShortConvolution& convolution, const Array& array)
      : channels(convolution.kernel->cols()), pitch(array.cols()), gated(convolution.gated) {
    data = working<T>(array);
  }
  T* input(std::int64_t row, std::int64_t channel) const {
    return data + row * pitch + (gated ? 2 * channels : 0) + channel;
  }
  T* before(std::int64_t row, std::int64_t channel) const {  ///< B; null if it is not gated
    return gated ? data + row * pitch + channel : nullptr;
  }
  T* behind(std::int64_t row, std::int64_t channel) const {  ///< C
    return gated ? data + row * pitch + channels + channel : nullptr;
  }
  std::int64_t channels;
  std::int64_t pitch;
  bool gated;
  T* data;
};

void check(const ShortConvolution& convolution, std::int64_t rows, const Array& in, const Array& out) {
  require(convolution.kernel != nullptr && convolution.kernel->element() == Element::full &&
              convolution.kernel->rows() >= 1 && convolution.kernel->rows() <= kMostTaps,
          "short_convolution: no kernel, or too long a one");
  const std::int64_t channels = convolution.kernel->cols();
  require(convolution.bias == nullptr || convolution.bias->cols() == channels,
          "short_convolution: bias of another length");
  require(in.element() == Element::working && out.element() == Element::working && rows <= in.rows() &&
              rows <= out.rows() && in.cols() == (convolution.gated ? 3 : 1) * channels &&
              out.cols() == channels,
          "short_convolution: shapes differ");
}

/// The inputs of rows [first - (taps - 1), first + count) of a run, as [.., kChannels] floats.
template <class T>
void load_inputs(const DeltaKernels<T>& kernels, const Parts<T>& in, const std::vector<SequenceRun>& runs,
                 const CpuRecurrentState* state, std::int64_t taps, const Tile& tile, float* out) {
  const SequenceRun& run = runs[tile.run];
  for (std::int64_t t = tile.first - (taps - 1); t < tile.first + tile.count; ++t, out += kChannels) {
    std::int64_t row = run.row + t;
    if (t < 0) {
      row = -1;
      if (run.parent >= 0) {
        const SequenceRun& parent = runs[static_cast<std::size_t>(run.parent)];
        if (parent.length + t >= 0) row = parent.row + parent.length + t;
      } else if (state != nullptr) {
        std::copy_n(state->input(static_cast<std::int64_t>(tile.run), -t) + tile.channel, tile.channels, out);
        continue;
      }
    }
    if (row < 0) {
      std::fill_n(out, tile.channels, 0.0f);
    } else {
      kernels.load_inputs(in.input(row, tile.channel), in.before(row, tile.channel), tile.channels, out);
    }
  }
}

/// The last inputs of every run to the state.
template <class T>
void keep_inputs(const DeltaKernels<T>& kernels, const Parts<T>& in, const std::vector<SequenceRun>& runs,
                 std::int64_t taps, const CpuRecurrentState& state) {
  for (std::size_t i = 0; i < runs.size(); ++i) {
    const auto sequence = static_cast<std::int64_t>(i);
    for (std::int64_t back = taps - 1; back >= 1; --back) {
      float* const place = state.input(sequence, back);
      const std::int64_t older = back - runs[i].length;  // how far back it was before
      if (older > 0) {
        std::copy_n(state.input(sequence, older), in.channels, place);
      } else {
        const std::int64_t row = runs[i].row + runs[i].length - back;
        kernels.load_inputs(in.input(row, 0), in.before(row, 0), in.channels, place);
      }
    }
  }
}

}  // namespace

template <class T>
void Recurrent<T>::short_convolution(const RowSequences& sequences, const ShortConvolution& convolution,
                                     const Array& in, Array& out) const {
  const std::vector<SequenceRun> runs = runs_of(sequences, in.rows());
  check(convolution, runs.empty() ? 0 : runs.back().row + runs.back().length, in, out);
  const CpuRecurrentState* state = state_of(sequences);
  const std::int64_t taps = convolution.kernel->rows();
  const Parts<T> parts(convolution, in);
  require(state == nullptr || (state->shape().channels == parts.channels && state->shape().taps == taps),
          "short_convolution: state of another shape");
  const float* const bias = full_or_null(convolution.bias);
  const std::vector<Tile> tiles = tiles_of(runs, parts.channels);
  parallel_for(tiles.size(), [&](std::size_t index) {
    const Tile& tile = tiles[index];
    t_tile.reserve(static_cast<std::size_t>((tile.count + taps) * kChannels) * sizeof(float));
    float* const inputs = reinterpret_cast<float*>(t_tile.data());
    load_inputs(kernels_, parts, runs, state, taps, tile, inputs);
    for (std::int64_t t = 0; t < tile.count; ++t) {
      const std::int64_t row = runs[tile.run].row + tile.first + t;
      std::array<const float*, kMostTaps> seen;
      for (std::int64_t j = 0; j < taps; ++j)
        seen[static_cast<std::size_t>(j)] = inputs + (t + j) * kChannels;
      kernels_.convolve(seen.data(), taps, full(*convolution.kernel) + tile.channel, parts.channels,
                        bias == nullptr ? nullptr : bias + tile.channel, convolution.silu,
                        parts.behind(row, tile.channel), tile.channels,
                        working<T>(out) + row * out.cols() + tile.channel);
    }
  });
  if (state != nullptr) keep_inputs(kernels_, parts, runs, taps, *state);
}

template <class T>
void Recurrent<T>::short_convolution_backward(const RowSequences& sequences,
                                              const ShortConvolution& convolution, const Array& in,
                                              const Array& gradient, Array& of_in) const {
  require(sequences.segments.empty() && sequences.state == nullptr,
          "short_convolution_backward: windows only");
  const std::vector<SequenceRun> runs = runs_of(sequences, in.rows());
  const std::int64_t rows = sequences.windows * sequences.length;
  check(convolution, rows, in, gradient);
  require(of_in.element() == Element::working && of_in.cols() == in.cols() && of_in.rows() >= rows,
          "short_convolution_backward: shapes differ");
  const std::int64_t taps = convolution.kernel->rows();
  const Parts<T> parts(convolution, in);
  const Parts<T> of_parts(convolution, of_in);
  const float* const kernel = full(*convolution.kernel);
  const float* const bias = full_or_null(convolution.bias);
  const std::vector<Tile> tiles = tiles_of(runs, parts.channels);
  // The gradient by the sums of some rows, and of the taps - 1 rows behind them, whose inputs they are too.
  parallel_for(tiles.size(), [&](std::size_t index) {
    const Tile& tile = tiles[index];
    const SequenceRun& run = runs[tile.run];
    Tile wider = tile;
    wider.count = std::min(tile.count + taps - 1, run.length - tile.first);
    const std::int64_t size = (wider.count + taps) * kChannels;
    t_tile.reserve(static_cast<std::size_t>(3 * size) * sizeof(float));
    float* const inputs = reinterpret_cast<float*>(t_tile.data());
    float* const of_sums = inputs + size;
    T* const unused = reinterpret_cast<T*>(of_sums + size);
    std::fill_n(of_sums, size, 0.0f);
    load_inputs(kernels_, parts, runs, nullptr, taps, wider, inputs);
    std::array<const float*, kMostTaps> seen;
    for (std::int64_t t = 0; t < wider.count; ++t) {
      const std::int64_t row = run.row + tile.first + t;
      for (std::int64_t j = 0; j < taps; ++j)
        seen[static_cast<std::size_t>(j)] = inputs + (t + j) * kChannels;
      // The rows behind belong to another task.
      T* const of_factor = t < tile.count ? of_parts.behind(row, tile.channel) : unused;
      kernels_.convolve_backward(seen.data(), taps, kernel + tile.channel, parts.channels,
                                 bias == nullptr ? nullptr : bias + tile.channel, convolution.silu,
                                 parts.behind(row, tile.channel),
                                 working<T>(gradient) + row * gradient.cols() + tile.channel, tile.channels,
                                 of_sums + t * kChannels, of_factor);
    }
    for (std::int64_t t = 0; t < tile.count; ++t) {
      const std::int64_t row = run.row + tile.first + t;
      for (std::int64_t j = 0; j < taps; ++j)
        seen[static_cast<std::size_t>(j)] = of_sums + (t + taps - 1 - j) * kChannels;
      const bool gated = convolution.gated;
      kernels_.gather_gradients(
          seen.data(), taps, kernel + tile.channel, parts.channels, parts.before(row, tile.channel),
          gated ? parts.input(row, tile.channel) : nullptr, tile.channels,
          gated ? of_parts.before(row, tile.channel) : of_parts.input(row, tile.channel),
          gated ? of_parts.input(row, tile.channel) : nullptr);
    }
  });
}

template <class T>
std::unique_ptr<RecurrentState> Recurrent<T>::make_state(const RecurrentShape& shape) const {
  return std::make_unique<CpuRecurrentState>(shape, kernels_.block);
}

template void Recurrent<float>::short_convolution(const RowSequences&, const ShortConvolution&, const Array&,
                                                  Array&) const;
template void Recurrent<Bf16>::short_convolution(const RowSequences&, const ShortConvolution&, const Array&,
                                                 Array&) const;
template void Recurrent<float>::short_convolution_backward(const RowSequences&, const ShortConvolution&,
                                                           const Array&, const Array&, Array&) const;
template void Recurrent<Bf16>::short_convolution_backward(const RowSequences&, const ShortConvolution&,
                                                          const Array&, const Array&, Array&) const;
template std::unique_ptr<RecurrentState> Recurrent<float>::make_state(const RecurrentShape&) const;
template std::unique_ptr<RecurrentState> Recurrent<Bf16>::make_state(const RecurrentShape&) const;

}  // namespace knapsaq::cpu
