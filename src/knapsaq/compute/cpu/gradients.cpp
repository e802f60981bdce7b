#include "knapsaq/compute/cpu/gradients.h"

#include <algorithm>
#include <array>
#include <vector>

#include "knapsaq/base/threads.h"
#include "knapsaq/compute/cpu/head_tile.h"
#include "knapsaq/compute/cpu/tiles.h"

namespace knapsaq::cpu {
namespace {

bool is_vector(const Array& array, std::int64_t n) { return array.empty() || array.cols() == n; }

/// Adds the vectors of n floats that tiles made, one behind another, in their order.
void add_in_order(std::span<const float> parts, std::span<double> sums) {
  for (std::size_t start = 0; start < parts.size(); start += sums.size())
    for (std::size_t i = 0; i < sums.size(); ++i) sums[i] += static_cast<double>(parts[start + i]);
}

}  // namespace

template <class T>
void Gradients<T>::add_product_of_columns(const Array& a, const Array& b, std::int64_t rows, Array& sum) {
  require(a.element() == Element::working && b.element() == Element::working && rows <= a.rows() &&
              rows <= b.rows(),
          "add_product_of_columns: not two inputs");
  require(sum.element() == Element::full && sum.rows() == a.cols() && sum.cols() == b.cols(),
          "add_product_of_columns: sum of another shape");
  for (std::int64_t first = 0; first < rows; first += Backend::kSumRows)
    columns_.add_product_of_columns(working<T>(a) + first * a.cols(), a.cols(),
                                    working<T>(b) + first * b.cols(), b.cols(),
                                    std::min(Backend::kSumRows, rows - first), full(sum));
}

template <class T>
void Gradients<T>::add_column_sums(const Array& in, std::int64_t rows, std::span<double> abs,
                                   std::span<double> squares) {
  const std::int64_t width = in.cols();
  require(in.element() == Element::working && rows <= in.rows(), "add_column_sums: not an input");
  require(std::ssize(abs) == width && std::ssize(squares) == width, "add_column_sums: sums of another width");
  // Stripes of columns, so that every sum has one order; sums of a tile's rows in fp32.
  constexpr std::int64_t kStripe = 256;
  parallel_for(static_cast<std::size_t>((width + kStripe - 1) / kStripe), [&](std::size_t index) {
    const std::int64_t start = static_cast<std::int64_t>(index) * kStripe;
    const std::int64_t cols = std::min(kStripe, width - start);
    for (std::int64_t first = 0; first < rows; first += kTileRows) {
      std::array<float, kStripe> of_abs{};
      std::array<float, kStripe> of_squares{};
      for (std::int64_t r = first; r < std::min(first + kTileRows, rows); ++r)
        kernels_.gradients->add_sums(working<T>(in) + r * width + start, cols, of_abs.data(),
                                     of_squares.data());
      for (std::int64_t c = 0; c < cols; ++c) {
        abs[static_cast<std::size_t>(start + c)] += static_cast<double>(of_abs[static_cast<std::size_t>(c)]);
        squares[static_cast<std::size_t>(start + c)] +=
            static_cast<double>(of_squares[static_cast<std::size_t>(c)]);
      }
    }
  });
}

template <class T>
void Gradients<T>::norm_backward(const Array& in, const NormWeights& weights, std::int64_t rows,
                                 const Array& gradient, Array& sum, NormGradient* of_weights) {
  const std::int64_t n = in.cols();
  for (const Array* array : {&in, &gradient, static_cast<const Array*>(&sum)})
    require(array->element() == Element::full && array->cols() == n && rows <= array->rows(),
            "norm_backward: shapes differ");
  require(is_vector(weights.scale, n) && is_vector(weights.shift, n),
          "norm_backward: norm of another length");
  const bool of_scale = of_weights != nullptr && !of_weights->scale.empty();
  const bool of_shift = of_weights != nullptr && !of_weights->shift.empty();
  require(
      (!of_scale || std::ssize(of_weights->scale) == n) && (!of_shift || std::ssize(of_weights->shift) == n),
      "norm_backward: sums of another length");
  const RowTiles tiles(rows);
  std::vector<float> scales(of_scale ? static_cast<std::size_t>(tiles.size() * n) : 0);
  std::vector<float> shifts(of_shift ? static_cast<std::size_t>(tiles.size() * n) : 0);
  for_tiles(tiles, [&](const RowTile& tile) {
    const std::int64_t part = tile.first / kTileRows * n;
    for (std::int64_t r = tile.first; r < tile.first + tile.count; ++r)
      kernels_.gradients->norm(weights.kind, full(in) + r * n, full_or_null(&weights.scale), weights.eps, n,
                               full(gradient) + r * n, full(sum) + r * n,
                               of_scale ? scales.data() + part : nullptr,
                               of_shift ? shifts.data() + part : nullptr);
  });
  if (of_scale) add_in_order(scales, of_weights->scale);
  if (of_shift) add_in_order(shifts, of_weights->shift);
}

template <class T>
void Gradients<T>::activate_backward(const Array* gate, const Array& up, std::int64_t rows,
                                     Activation activation, const Array& gradient, Array& out, Array* of_gate,
                                     Array& of_up) {
  const std::int64_t n = up.cols();
  require(gate == nullptr || of_gate != nullptr, "activate_backward: no place for the gate's gradient");
  require(gate != nullptr || activation != Activation::clamped_swiglu, "activate_backward: no gate");
  for (const Array* array :
       {&up, &gradient, static_cast<const Array*>(&out), static_cast<const Array*>(&of_up),
        gate == nullptr ? &up : gate, gate == nullptr ? &up : of_gate})
    require(array->element() == Element::working && array->cols() == n && rows <= array->rows(),
            "activate_backward: shapes differ");
  for_tiles(RowTiles(rows), [&](const RowTile& tile) {
    const std::int64_t at = tile.first * n;
    kernels_.gradients->activate(activation, gate == nullptr ? nullptr : working<T>(*gate) + at,
                                 working<T>(up) + at, working<T>(gradient) + at, tile.count * n,
                                 working<T>(out) + at, gate == nullptr ? nullptr : working<T>(*of_gate) + at,
                                 working<T>(of_up) + at);
  });
}

template <class T>
void Gradients<T>::loss_gradient(const Array& in, const OutputHead& output, const LossTargets& targets,
                                 std::span<float> losses, Array& out) {
  const DenseWeight& head = dense(*output.weight);
  const auto rows = std::ssize(losses);
  const std::int64_t vocab = head.out();
  check_input(in, rows, head);
  require(out.element() == Element::working && out.cols() == vocab && rows <= out.rows(),
          "loss_gradient: output of another shape");
  const DenseWeight* reference_head = nullptr;
  if (targets.reference != nullptr) {
    require(targets.reference_head != nullptr, "loss_gradient: a reference without a head");
    reference_head = &dense(*targets.reference_head);
    check_input(*targets.reference, rows, *reference_head);
    require(reference_head->out() == vocab, "loss_gradient: heads of different sizes");
  } else {
    require((targets.tokens.empty() ? std::ssize(targets.draws) : std::ssize(targets.tokens)) == rows,
            "loss_gradient: not a target for each row");
  }
  for (const std::int32_t target : targets.tokens) require(target < vocab, "loss_gradient: no such target");

  for_tiles(head_tiles(head, rows), [&](const RowTile& tile) {
    const std::int64_t elements = tile.computed * vocab;
    t_tile.reserve(static_cast<std::size_t>(elements + 4 * vocab) * sizeof(float) +
                   (reference_head == nullptr ? 0 : static_cast<std::size_t>(elements) * sizeof(float)));
    float* logits = reinterpret_cast<float*>(t_tile.data());
    float* reference_logits = logits + elements;
    float* q = reference_head == nullptr ? reference_logits : reference_logits + elements;  // of one row
    float* p = q + vocab;
    float* row_of_reference = p + vocab;
    float* slopes = row_of_reference + vocab;
    const HeadTile of_row = head_products(products_, kernels_, head, output.softcap, in, tile, logits);
    HeadTile of_reference;
    if (reference_head != nullptr)
      of_reference = head_products(products_, kernels_, *reference_head, output.softcap, *targets.reference,
                                   tile, reference_logits);
    const auto gather = [&](const DenseWeight& from, const float* tile_logits, std::int64_t r, float* row) {
      for (const DenseWeight::Chunk& chunk : from.chunks())
        std::copy_n(tile_logits + tile.computed * chunk.first + r * chunk.cols, chunk.cols,
                    row + chunk.first);
    };
    // The cap's slopes at the row's logits, and a gradient by capped logits -> that by the others.
    const auto find_slopes = [&] {
      if (output.softcap > 0) kernels_.pointwise->softcap_slopes(q, vocab, output.softcap, slopes);
    };
    const auto through_cap = [&](float* row) {
      if (output.softcap > 0) kernels_.pointwise->multiply(slopes, vocab, row);
    };
    for (std::int64_t r = 0; r < tile.count; ++r) {
      const auto i = static_cast<std::size_t>(tile.first + r);
      T* gradient = working<T>(out) + (tile.first + r) * vocab;
      const double log_sum = of_row.log_sums[static_cast<std::size_t>(r)];
      const auto shift = static_cast<float>(log_sum);
      if (reference_head != nullptr) {
        const double reference_sum = of_reference.log_sums[static_cast<std::size_t>(r)];
        gather(*reference_head, reference_logits, r, row_of_reference);
        kernels_.log_probabilities(row_of_reference, vocab, static_cast<float>(reference_sum), p);
        gather(head, logits, r, q);
        // As in compare(): what the rounding of the two sums leaves is added.
        const double kl = (log_sum - shift) - (reference_sum - static_cast<float>(reference_sum)) +
                          kernels_.divergence(row_of_reference, p, q, vocab, shift);
        losses[i] = static_cast<float>(kl < 0 ? 0 : kl);
        find_slopes();
        kernels_.log_probabilities(q, vocab, shift, row_of_reference);
        for (std::int64_t c = 0; c < vocab; ++c) row_of_reference[c] -= p[c];
        through_cap(row_of_reference);
        kernels_.gradients->difference(row_of_reference, nullptr, vocab, gradient);
        continue;
      }
      gather(head, logits, r, q);
      find_slopes();
      kernels_.log_probabilities(q, vocab, shift, p);
      std::int64_t target = targets.tokens.empty() ? vocab - 1 : targets.tokens[i];
      if (targets.tokens.empty()) {
        double sum = 0;
        for (std::int64_t c = 0; c < vocab; ++c) {
          sum += static_cast<double>(p[c]);
          if (sum <= targets.draws[i]) continue;
          target = c;
          break;
        }
      }
      if (target < 0) {
        losses[i] = 0;
        std::fill_n(p, vocab, 0.0f);
      } else {
        losses[i] = -q[target] + static_cast<float>(log_sum - shift);
        p[target] -= 1;
        through_cap(p);
      }
      kernels_.gradients->difference(p, nullptr, vocab, gradient);
    }
  });
}

template class Gradients<float>;
template class Gradients<Bf16>;

}  // namespace knapsaq::cpu
