// The kernels of a decoder's pass: norms, activations, softmax and what is compared of it, attention.

#include <cstddef>
#include <type_traits>

#include "knapsaq/compute/cpu/activations_simd.h"
#include "knapsaq/compute/cpu/kernels.h"
#include "knapsaq/compute/cpu/vector_math_simd.h"

namespace knapsaq::cpu::KNAPSAQ_SET {

extern const CacheKernels kHalfCache;
extern const CacheKernels kInt8Cache;
extern const GradientKernels<float> kFloatGradients;
extern const PointwiseKernels<float> kFloatPointwise;
extern const DeltaKernels<float> kFloatDelta;
#ifdef KNAPSAQ_SIMD_BF16
extern const GradientKernels<Bf16> kBf16Gradients;
extern const PointwiseKernels<Bf16> kBf16Pointwise;
extern const DeltaKernels<Bf16> kBf16Delta;
#endif

namespace {

template <class Out>
void norm_row(Norm kind, const float* x, const float* scale, const float* shift, float eps, std::int64_t n,
              Out* out) {
  // Four sums hide the latency of the additions.
  float mean = 0;
  if (kind == Norm::layer) {
    Vec sums[4] = {splat(0), splat(0), splat(0), splat(0)};
    for_vectors(n, [&](std::int64_t i, int lanes) {
      Vec& sum = sums[(i / kLanes) % 4];
      sum = sum + load_lanes(x + i, lanes);
    });
    mean = sum_of((sums[0] + sums[1]) + (sums[2] + sums[3])) / static_cast<float>(n);
  }
  const Vec center = splat(mean);
  Vec squares[4] = {splat(0), splat(0), splat(0), splat(0)};
  for_vectors(n, [&](std::int64_t i, int lanes) {
    Vec& sum = squares[(i / kLanes) % 4];
    if (lanes == kLanes) {
      const Vec d = load(x + i) - center;
      sum = fma(d, d, sum);
    } else {
      // Lanes beyond the row must not count as (0 - mean)^2.
      float rest[kLanes] = {};
      for (int l = 0; l < lanes; ++l) rest[l] = x[i + l] - mean;
      const Vec d = load(rest);
      sum = fma(d, d, sum);
    }
  });
  const float total = sum_of((squares[0] + squares[1]) + (squares[2] + squares[3]));
  // Squares that overflow would make an inverse, and a row, of zeros: numbers that mean nothing. They make
  // NaN.
  const Vec inverse = splat(1.0f) / vsqrt(splat(total / static_cast<float>(n) + eps)) + splat(total * 0.0f);
  for_vectors(n, [&](std::int64_t i, int lanes) {
    Vec y = (load_lanes(x + i, lanes) - center) * inverse;
    if (scale != nullptr) y = y * load_lanes(scale + i, lanes);
    if (shift != nullptr) y = y + load_lanes(shift + i, lanes);
    store_lanes(out + i, y, lanes);
  });
}

template <class T>
void convert_row(const float* x, std::int64_t n, T* out) {
  for_vectors(n, [&](std::int64_t i, int lanes) { store_lanes(out + i, load_lanes(x + i, lanes), lanes); });
}

void add_row(const float* x, std::int64_t n, float* sum) {
  for_vectors(n, [&](std::int64_t i, int lanes) {
    store_lanes(sum + i, load_lanes(sum + i, lanes) + load_lanes(x + i, lanes), lanes);
  });
}

template <Activation kActivation, class T>
void activate_row_as(const T* gate, const T* up, std::int64_t n, T* out) {
  if (gate == nullptr) {
    for_vectors(n, [&](std::int64_t i, int lanes) {
      store_lanes(out + i, apply_activation(kActivation, load_lanes(up + i, lanes)), lanes);
    });
  } else {
    for_vectors(n, [&](std::int64_t i, int lanes) {
      const Vec g = apply_activation(kActivation, load_lanes(gate + i, lanes));
      store_lanes(out + i, g * load_lanes(up + i, lanes), lanes);
    });
  }
}

template <class T>
void activate_row(Activation activation, const T* gate, const T* up, std::int64_t n, T* out) {
  switch (activation) {
    case Activation::silu:
      return activate_row_as<Activation::silu>(gate, up, n, out);
    case Activation::relu:
      return activate_row_as<Activation::relu>(gate, up, n, out);
    case Activation::gelu:
      return activate_row_as<Activation::gelu>(gate, up, n, out);
    case Activation::gelu_tanh:
      return activate_row_as<Activation::gelu_tanh>(gate, up, n, out);
    case Activation::clamped_swiglu:
      return for_vectors(n, [&](std::int64_t i, int lanes) {
        store_lanes(out + i, clamped_swiglu(load_lanes(gate + i, lanes), load_lanes(up + i, lanes)), lanes);
      });
  }
}

SoftmaxStatistics softmax_statistics_row(const float* logits, std::int64_t n) {
  const std::int64_t whole = n / kLanes * kLanes;
  float largest = logits[0];
  if (whole > 0) {
    Vec top = load(logits);
    for (std::int64_t i = kLanes; i < whole; i += kLanes) top = vmax(top, load(logits + i));
    largest = largest_of(top);
  }
  for (std::int64_t i = whole; i < n; ++i) largest = logits[i] > largest ? logits[i] : largest;
  const Vec shift = splat(largest);
  Vec sum = splat(0);
  for (std::int64_t i = 0; i < whole; i += kLanes) sum = sum + exp_precise(load(logits + i) - shift);
  if (whole < n) {
    float rest[kLanes];
    for (int l = 0; l < kLanes; ++l) rest[l] = whole + l < n ? logits[whole + l] : kMasked;
    sum = sum + exp_precise(vmax(splat(-100.0f), load(rest) - shift));
    // exp(-100) of the missing lanes is below the last bit of any sum, which is at least 1.
  }
  return {largest, sum_of(sum)};
}

void log_probabilities_row(float* logits, std::int64_t n, float log_sum, float* probabilities) {
  const Vec shift = splat(log_sum);
  for_vectors(n, [&](std::int64_t i, int lanes) {
    const Vec x = load_lanes(logits + i, lanes) - shift;
    store_lanes(logits + i, x, lanes);
    store_lanes(probabilities + i, exp_precise(x), lanes);
  });
}

/// sum p (log p - log q) of a row, in fp32. Lanes beyond the row have p = 0.
float divergence_row(const float* log_p, const float* p, const float* logits, std::int64_t n, float log_sum) {
  const Vec shift = splat(log_sum);
  // Two sums hide the latency of the additions.
  Vec sums[2] = {splat(0), splat(0)};
  for_vectors(n, [&](std::int64_t i, int lanes) {
    const Vec difference = load_lanes(log_p + i, lanes) - (load_lanes(logits + i, lanes) - shift);
    Vec& sum = sums[(i / kLanes) % 2];
    sum = fma(load_lanes(p + i, lanes), difference, sum);
  });
  return sum_of(sums[0] + sums[1]);
}

/// (1 + e) (log 2 - log(1 + e)) for e in [0, 1]: absolute error 2e-8, exactly 0 at 1.
inline Vec mixture_term(Vec e) {
  Vec q = splat(0.000993356458f);
  q = fma(q, e, splat(-0.00538960751f));
  q = fma(q, e, splat(0.0144698489f));
  q = fma(q, e, splat(-0.02837147f));
  q = fma(q, e, splat(0.0525134802f));
  q = fma(q, e, splat(-0.113654926f));
  q = fma(q, e, splat(0.38629213f));
  q = fma(q, e, splat(0.693147182f));
  return (splat(1.0f) - e) * q;
}

/// With d = |log p - log q| and e = exp(-d), the smaller of p and q is e times the larger one, and
///   p log(p/m) + q log(q/m) = larger ((1 + e) (log 2 - log(1 + e)) - e d),
/// all of whose terms are exactly 0 where p = q.
DivergencePair both_divergences_row(const float* log_p, const float* p, const float* logits, std::int64_t n,
                                    float log_sum) {
  // Beyond this, e is nothing beside 1; an infinite d would make it NaN.
  const Vec furthest = splat(80.0f);
  const Vec shift = splat(log_sum);
  Vec kl = splat(0);
  Vec jsd = splat(0);
  const auto add = [&](Vec log_of_p, Vec of_p, Vec logit) {
    const Vec log_of_q = logit - shift;
    const Vec difference = log_of_p - log_of_q;
    kl = fma(of_p, difference, kl);
    const Vec d = vmin(furthest, vmax(difference, splat(0) - difference));
    const Vec e = exp2_exact(d * splat(-kLog2E));
    const Vec larger_one = vmax(of_p, exp_precise(log_of_q));
    jsd = fma(larger_one, mixture_term(e) - e * d, jsd);
  };
  const std::int64_t whole = n / kLanes * kLanes;
  for (std::int64_t i = 0; i < whole; i += kLanes) add(load(log_p + i), load(p + i), load(logits + i));
  if (whole < n) {
    // The missing lanes are alike in p and q, and next to nothing.
    float rest[3][kLanes];
    for (int l = 0; l < kLanes; ++l) {
      const bool there = whole + l < n;
      rest[0][l] = there ? log_p[whole + l] : -100.0f;
      rest[1][l] = there ? p[whole + l] : 0.0f;
      rest[2][l] = there ? logits[whole + l] : log_sum - 100.0f;
    }
    add(load(rest[0]), load(rest[1]), load(rest[2]));
  }
  return {sum_of(kl), 0.5f * sum_of(jsd)};
}

// ---- attention --------------------------------------------------------------------------------------------
//
// For a tile of queries, block of keys by block: for every group of kTileRows queries, scores S = Q K^T in
// fp32; softmax with running maximum and sum per query; O = O * alpha + P V. Q carries the factor
// scale * log2(e), so that probabilities are powers of two of score differences. Keys behind the last
// query of a group are neither multiplied nor exponentiated.

// Accumulators of the micro kernel: kTileRows * kTileVecs registers. With 32 of them 24, 4 vectors of B and
// the broadcast, and 10 loads per 24 products stay below the two loads a cycle that a core has; with 16 of
// them 12 (8 of four lanes).
constexpr int kTileRows = kLanes == 4 ? 4 : 6;
constexpr int kTileVecs = kRegisters / 8;
constexpr int kPanel = kTileVecs * kLanes;
/// Keys per block: 512 with AVX-512. More of them make fewer rescalings of O and fewer horizontal maxima;
/// keys, values and a group's scores of a block (128 KiB and 18 KiB at 64 dimensions) stay in the L2
/// cache, from which a panel is read once per group, that is, per 1536 cycles of products.
constexpr int kBlockPanels = 8;
constexpr int kBlock = kBlockPanels * kPanel;
/// The more queries, the fewer times keys and values come from the L2 cache; the fewer, the more tasks.
constexpr int kQueryTile = 12 * kTileRows;

/// What the micro kernel multiplies: numbers, or pairs of them.
template <class T>
struct Dot;

template <>
struct Dot<float> {
  static constexpr int kPair = 1;
  using Operand = Vec;
  static Vec load(const float* p) { return simd::KNAPSAQ_SET::load(p); }
  static Vec broadcast(const float* p) { return splat(*p); }
  static Vec add(Vec sum, Vec x, Vec row) { return fma(x, row, sum); }
  static void copy_group(const float* from, float* to) { *to = *from; }
  static void interleave(const float* rows, std::int64_t /*pitch*/, std::int64_t width, float* to) {
    __builtin_memcpy(to, rows, static_cast<std::size_t>(width) * sizeof(float));
  }
  static Vec exponentiate(const float* scores, std::int64_t extent, Vec shift, Vec sum, float* out) {
    for (std::int64_t j = 0; j < extent; j += kLanes) {
      const Vec p = exp2_precise(load(scores + j) - shift);
      sum = sum + p;
      store(out + j, p);
    }
    return sum;
  }
};

#ifdef KNAPSAQ_SIMD_BF16
template <>
struct Dot<Bf16> {
  static constexpr int kPair = 2;
  using Operand = Bf16Pairs;
  static Operand load(const Bf16* p) { return load_bf16_pairs(p); }
  static Operand broadcast(const Bf16* p) { return splat_pair(p); }
  static Vec add(Vec sum, Operand x, Operand row) { return dot(sum, x, row); }
  static void copy_group(const Bf16* from, Bf16* to) { __builtin_memcpy(to, from, 4); }
  /// Rows 0 and 1, element by element in turn; width is a multiple of kLanes.
  static void interleave(const Bf16* rows, std::int64_t pitch, std::int64_t width, Bf16* to) {
    for (std::int64_t d = 0; d < width; d += kLanes) store(to + 2 * d, in_turns(rows + d, rows + pitch + d));
  }
  static Vec exponentiate(const float* scores, std::int64_t extent, Vec shift, Vec sum, Bf16* out) {
    using simd::KNAPSAQ_SET::load;
    std::int64_t j = 0;
    Vec second = splat(0);
    for (; j + 2 * kLanes <= extent; j += 2 * kLanes) {
      const Vec a = exp2_rough(load(scores + j) - shift);
      const Vec b = exp2_rough(load(scores + j + kLanes) - shift);
      sum = sum + a;
      second = second + b;
      store(out + j, rounded_behind(a, b));
    }
    if (j < extent) {
      const Vec a = exp2_rough(load(scores + j) - shift);
      sum = sum + a;
      store(out + j, a);
    }
    return sum + second;
  }
};
#endif

/// C[kRows, kVecs * kLanes] = A B, or C * alpha + A B. A is row-major, `lda` elements apart; B holds for
/// every step (one element of A, or a pair of bf16) a row of `width` numbers (pairs).
template <class T, int kRows, int kVecs, bool kAccumulate>
inline void micro_kernel(const T* a, std::int64_t lda, const T* b, std::int64_t width, std::int64_t steps,
                         float* c, std::int64_t ldc, const float* alpha) {
  constexpr int kPair = Dot<T>::kPair;
  Vec sums[kRows][kVecs];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 16
    for (int v = 0; v < kVecs; ++v) {
      if constexpr (kAccumulate) {
        sums[r][v] = load(c + r * ldc + v * kLanes) * splat(alpha[r]);
      } else {
        sums[r][v] = splat(0);
      }
    }
  }
  for (std::int64_t k = 0; k < steps; ++k) {
    typename Dot<T>::Operand row[kVecs];
#pragma GCC unroll 16
    for (int v = 0; v < kVecs; ++v) row[v] = Dot<T>::load(b + v * kLanes * kPair);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const typename Dot<T>::Operand x = Dot<T>::broadcast(a + r * lda + k * kPair);
#pragma GCC unroll 16
      for (int v = 0; v < kVecs; ++v) sums[r][v] = Dot<T>::add(sums[r][v], x, row[v]);
    }
    b += width * kPair;
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 16
    for (int v = 0; v < kVecs; ++v) store(c + r * ldc + v * kLanes, sums[r][v]);
  }
}

/// The micro kernel for 1..kTileVecs vectors of columns.
template <class T, int kRows, bool kAccumulate>
inline void micro_columns(std::int64_t vecs, const T* a, std::int64_t lda, const T* b, std::int64_t width,
                          std::int64_t steps, float* c, std::int64_t ldc, const float* alpha) {
  static_assert(kTileVecs <= 4);
  switch (vecs) {
    case 1:
      return micro_kernel<T, kRows, 1, kAccumulate>(a, lda, b, width, steps, c, ldc, alpha);
    case 2:
      return micro_kernel<T, kRows, 2, kAccumulate>(a, lda, b, width, steps, c, ldc, alpha);
    case 3:
      if constexpr (kTileVecs >= 3)
        return micro_kernel<T, kRows, 3, kAccumulate>(a, lda, b, width, steps, c, ldc, alpha);
      break;
    default:
      if constexpr (kTileVecs >= 4)
        return micro_kernel<T, kRows, 4, kAccumulate>(a, lda, b, width, steps, c, ldc, alpha);
      break;
  }
}

// ---- dense products ---------------------------------------------------------------------------------------

/// Columns of W that are summed before the next ones: of a panel that is 16 KiB, which with the rows of a
/// group stay in L1; and 128 rows of the input, 128 KiB, in L2.
constexpr std::int64_t kDenseDepth = 256;
static_assert(kDensePanel % kLanes == 0);

/// A panel of C for kRows rows, from some columns of A and W: C = A B, or C += A B.
template <int kRows>
inline void dense_group(bool accumulate, const float* a, std::int64_t lda, const float* panel,
                        std::int64_t steps, float* c, std::int64_t ldc) {
  constexpr int kVecs = kTileVecs * kLanes < kDensePanel ? kTileVecs : static_cast<int>(kDensePanel) / kLanes;
  constexpr float kOnes[16] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
  static_assert(kRows <= 16);
  for (std::int64_t v = 0; v < kDensePanel; v += kVecs * kLanes) {
    if (accumulate) {
      micro_kernel<float, kRows, kVecs, true>(a, lda, panel + v, kDensePanel, steps, c + v, ldc, kOnes);
    } else {
      micro_kernel<float, kRows, kVecs, false>(a, lda, panel + v, kDensePanel, steps, c + v, ldc, nullptr);
    }
  }
}

/// dense_group() for 1..kMost rows.
template <int kMost>
inline void dense_rows(std::int64_t rows, bool accumulate, const float* a, std::int64_t lda,
                       const float* panel, std::int64_t steps, float* c, std::int64_t ldc) {
  if constexpr (kMost > 1) {
    if (rows < kMost) return dense_rows<kMost - 1>(rows, accumulate, a, lda, panel, steps, c, ldc);
  }
  dense_group<kMost>(accumulate, a, lda, panel, steps, c, ldc);
}

void dense_product(const float* in, std::int64_t rows, std::int64_t depth, const float* panels,
                   std::int64_t cols, const float* bias, float* out) {
  const std::int64_t panel_size = round_up(depth, 16) * kDensePanel;
  const std::int64_t whole = cols / kDensePanel * kDensePanel;
  for (std::int64_t k = 0; k < depth; k += kDenseDepth) {
    const std::int64_t steps = smaller(kDenseDepth, depth - k);
    for (std::int64_t col = 0; col < whole; col += kDensePanel) {
      const float* panel = panels + col / kDensePanel * panel_size + k * kDensePanel;
      for (std::int64_t r = 0; r < rows; r += kTileRows)
        dense_rows<kTileRows>(smaller(kTileRows, rows - r), k > 0, in + r * depth + k, depth, panel, steps,
                              out + r * cols + col, cols);
    }
  }
  if (whole < cols) {  // of the last panel the output has no room for
    const float* panel = panels + whole / kDensePanel * panel_size;
    for (std::int64_t r = 0; r < rows; r += kTileRows) {
      const std::int64_t some = smaller(kTileRows, rows - r);
      float sums[kTileRows * kDensePanel];
      for (std::int64_t k = 0; k < depth; k += kDenseDepth)
        dense_rows<kTileRows>(some, k > 0, in + r * depth + k, depth, panel + k * kDensePanel,
                              smaller(kDenseDepth, depth - k), sums, kDensePanel);
      for (std::int64_t i = 0; i < some; ++i)
        for (std::int64_t c = whole; c < cols; ++c)
          out[(r + i) * cols + c] = sums[i * kDensePanel + c - whole];
    }
  }
  if (bias != nullptr)
    for (std::int64_t r = 0; r < rows; ++r) add_row(bias, cols, out + r * cols);
}

/// One head of one token as floats, transformed; `out` has head_dim floats.
template <class T>
void transform_head(const HeadTransform& transform, const T* x, std::int64_t position, float* out) {
  const std::int64_t n = transform.head_dim;
  for_vectors(n, [&](std::int64_t i, int lanes) { store_lanes(out + i, load_lanes(x + i, lanes), lanes); });
  if (transform.norm != nullptr)
    norm_row<float>(Norm::rms, out, transform.norm, nullptr, transform.norm_eps, n, out);
  if (transform.rotation.cosines != nullptr) {
    const std::int64_t pairs = transform.rotation.pairs;
    const float* cosines = transform.rotation.cosines + position * pairs;
    const float* sines = transform.rotation.sines + position * pairs;
    for_vectors(pairs, [&](std::int64_t i, int lanes) {
      const Vec c = load_lanes(cosines + i, lanes);
      const Vec s = load_lanes(sines + i, lanes);
      const Vec a = load_lanes(out + i, lanes);
      const Vec b = load_lanes(out + pairs + i, lanes);
      store_lanes(out + i, a * c - b * s, lanes);
      store_lanes(out + pairs + i, b * c + a * s, lanes);
    });
  }
  float factor = transform.factor;
  if (transform.scales != nullptr) factor *= transform.scales[position];
  if (factor != 1.0f) {
    for_vectors(n, [&](std::int64_t i, int lanes) {
      store_lanes(out + i, load_lanes(out + i, lanes) * splat(factor), lanes);
    });
  }
}

/// Asks for one head of `rows` tokens: they are a whole row apart, too far for the processor to guess the
/// next.
template <class T>
void prefetch_head(const T* first, std::int64_t pitch, std::int64_t rows, std::int64_t head_dim) {
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t d = 0; d < head_dim; d += 64 / static_cast<std::int64_t>(sizeof(T)))
      __builtin_prefetch(first + r * pitch + d);
  }
}

template <class T>
std::int64_t padded_depth(std::int64_t head_dim) {
  return round_up(head_dim, Dot<T>::kPair);
}
std::int64_t padded_length(std::int64_t length) { return round_up(length, kPanel); }
std::int64_t padded_width(std::int64_t head_dim) { return round_up(head_dim, kLanes); }

template <class T>
std::int64_t packed_keys_size(std::int64_t length, std::int64_t head_dim) {
  return padded_length(length) * padded_depth<T>(head_dim);
}
template <class T>
std::int64_t packed_values_size(std::int64_t length, std::int64_t head_dim) {
  return padded_length(length) * padded_width(head_dim);
}

template <class T>
void pack_keys(const HeadTransform& transform, const T* k, std::int64_t pitch, std::int64_t length,
               std::int64_t index, std::byte* scratch, T* out) {
  constexpr int kPair = Dot<T>::kPair;
  const std::int64_t head_dim = transform.head_dim;
  const std::int64_t depth = padded_depth<T>(head_dim);
  T* panel = out + index * kPanel * depth;
  float* head = reinterpret_cast<float*>(scratch);
  T* row = reinterpret_cast<T*>(head + round_up(head_dim, kLanes));
  prefetch_head(k + index * kPanel * pitch, pitch, smaller(kPanel, length - index * kPanel), head_dim);
  for (std::int64_t j = 0; j < kPanel; ++j) {
    const std::int64_t position = index * kPanel + j;
    for (std::int64_t d = head_dim; d < depth; ++d) row[d] = T{};
    if (position < length) {
      transform_head(transform, k + position * pitch, position, head);
      convert_row(head, head_dim, row);
    } else {
      for (std::int64_t d = 0; d < head_dim; ++d) row[d] = T{};
    }
    for (std::int64_t d = 0; d < depth; d += kPair)
      Dot<T>::copy_group(row + d, panel + d * kPanel + j * kPair);
  }
}

template <class T>
void pack_values(std::int64_t head_dim, const T* v, std::int64_t pitch, std::int64_t length,
                 std::int64_t index, T* out) {
  constexpr int kPair = Dot<T>::kPair;
  const std::int64_t total = padded_length(length);
  for (std::int64_t d0 = 0; d0 < head_dim; d0 += kPanel) {
    const std::int64_t width = smaller(kPanel, padded_width(head_dim) - d0);
    const std::int64_t real = smaller(width, head_dim - d0);
    T* panel = out + d0 * total;
    for (std::int64_t j = index * kPanel; j < (index + 1) * kPanel; j += kPair) {
      T* step = panel + j * width;
      if (real == width && j + kPair <= length) {
        Dot<T>::interleave(v + j * pitch + d0, pitch, width, step);
        continue;
      }
      for (std::int64_t p = 0; p < kPair; ++p) {
        const T* row = v + (j + p) * pitch + d0;
        for (std::int64_t d = 0; d < width; ++d)
          step[d * kPair + p] = j + p < length && d < real ? row[d] : T{};
      }
    }
  }
}

/// The place of one more token in what pack_keys() and pack_values() lay out. Panels start as zeros: values
/// behind the last token are multiplied by probabilities of nothing.
template <class T>
void append_head(const HeadTransform& transform, const T* k, const T* v, std::int64_t position,
                 std::int64_t capacity, std::byte* scratch, T* keys, T* values) {
  constexpr int kPair = Dot<T>::kPair;
  const std::int64_t head_dim = transform.head_dim;
  const std::int64_t depth = padded_depth<T>(head_dim);
  float* head = reinterpret_cast<float*>(scratch);
  T* row = reinterpret_cast<T*>(head + round_up(head_dim, kLanes));
  for (std::int64_t d = head_dim; d < depth; ++d) row[d] = T{};
  transform_head(transform, k, position, head);
  convert_row(head, head_dim, row);
  T* panel = keys + position / kPanel * kPanel * depth;
  for (std::int64_t d = 0; d < depth; d += kPair)
    Dot<T>::copy_group(row + d, panel + d * kPanel + position % kPanel * kPair);

  const std::int64_t total = padded_length(capacity);
  for (std::int64_t d0 = 0; d0 < head_dim; d0 += kPanel) {
    const std::int64_t width = smaller(kPanel, padded_width(head_dim) - d0);
    T* step = values + d0 * total + position / kPair * kPair * width + position % kPair;
    for (std::int64_t d = 0; d < smaller(width, head_dim - d0); ++d) step[d * kPair] = v[d0 + d];
  }
}

/// The tile's working memory, in the order in which it lies in the scratch.
template <class T>
struct AttentionScratch {
  T* q;              ///< [kQueryTile, padded_depth]
  float* output;     ///< O, [kQueryTile, padded_width]
  float* sums;       ///< of probabilities, [kQueryTile, kLanes]
  float* largest;    ///< score so far, [kQueryTile + kLanes]
  float* scores;     ///< of one group, [kTileRows, kBlock]
  T* probabilities;  ///< of one group, [kTileRows, kBlock]
  float* head;       ///< one head in fp32; pack_keys() puts one in T behind it
  std::int64_t bytes = 0;

  /// With memory == nullptr only `bytes` means something.
  AttentionScratch(std::byte* memory, std::int64_t head_dim) {
    const auto take = [&](auto*& pointer, std::int64_t count) {
      using Value = std::remove_reference_t<decltype(*pointer)>;
      pointer = memory == nullptr ? nullptr : reinterpret_cast<Value*>(memory + bytes);
      bytes += round_up(count * static_cast<std::int64_t>(sizeof(Value)), 64);
    };
    take(q, kQueryTile * padded_depth<T>(head_dim));
    take(output, kQueryTile * padded_width(head_dim));
    take(sums, kQueryTile * kLanes);
    take(largest, kQueryTile + kLanes);
    take(scores, kTileRows * kBlock);
    take(probabilities, kTileRows * kBlock);
    take(head, 2 * round_up(head_dim, kLanes));
  }
};

template <class T>
std::int64_t attention_scratch(std::int64_t head_dim) {
  return AttentionScratch<T>(nullptr, head_dim).bytes;
}

/// The keys [low, high) that a query may see, relative to the start of a block.
struct Range {
  std::int64_t low;
  std::int64_t high;
};

/// Scores of one group against `extent` keys (a multiple of kLanes), turned into probabilities
/// 2^(score - largest), with `largest` and `sums` of the rows brought up to date. alpha gets the factors for
/// what was summed before; it has room for whole vectors.
template <class T, int kRows>
inline void softmax_group(float* scores, std::int64_t extent, const Range* ranges, T* probabilities,
                          float* largest, float* sums, float* alpha) {
  float found[round_up(kRows, kLanes)] = {};
  for (int r = 0; r < kRows; ++r) {
    float* row = scores + r * kBlock;
    for (std::int64_t i = 0; i < ranges[r].low; ++i) row[i] = kMasked;
    for (std::int64_t i = ranges[r].high; i < extent; ++i) row[i] = kMasked;
    // Two chains of comparisons, for their latency.
    Vec top = load(row);
    Vec other = top;
    std::int64_t j = kLanes;
    for (; j + kLanes < extent; j += 2 * kLanes) {
      top = vmax(top, load(row + j));
      other = vmax(other, load(row + j + kLanes));
    }
    if (j < extent) top = vmax(top, load(row + j));
    found[r] = largest_of(vmax(top, other));
  }
  for (int r = 0; r < kRows; r += kLanes) {
    const int lanes = static_cast<int>(smaller(kLanes, kRows - r));
    const Vec before = load_lanes(largest + r, lanes);
    const Vec now = vmax(before, load(found + r));
    store(alpha + r, exp2_precise(before - now));
    store_lanes(largest + r, now, lanes);
  }
  for (int r = 0; r < kRows; ++r) {
    float* sum = sums + r * kLanes;
    store(sum, Dot<T>::exponentiate(scores + r * kBlock, extent, splat(largest[r]),
                                    load(sum) * splat(alpha[r]), probabilities + r * kBlock));
  }
}

/// `kRows` queries at a time: kTileRows, or 1 where there is only one.
template <class T, int kRows>
void attend_tile(const AttentionTile<T>& tile) {
  constexpr int kPair = Dot<T>::kPair;
  const std::int64_t head_dim = tile.transform.head_dim;
  const std::int64_t depth = padded_depth<T>(head_dim);
  const std::int64_t width = padded_width(head_dim);
  const AttentionScratch<T> s(tile.scratch, head_dim);
  const std::int64_t groups = (tile.count + kRows - 1) / kRows;
  const std::int64_t rows = groups * kRows;
  // A logit of no token is what the running maximum and sum begin with.
  const float before = tile.sink == nullptr ? kMasked : *tile.sink * kLog2E;

  const std::int64_t start = tile.first - tile.past;  // of the tile in q and out
  prefetch_head(tile.q + start * tile.q_pitch, tile.q_pitch, tile.count, head_dim);
  for (std::int64_t r = 0; r < rows; ++r) {
    T* row = s.q + r * depth;
    for (std::int64_t d = 0; d < depth; ++d) row[d] = T{};
    if (r < tile.count) {
      transform_head(tile.transform, tile.q + (start + r) * tile.q_pitch, tile.first + r, s.head);
      convert_row(s.head, head_dim, row);
    }
    s.largest[r] = before;
    store(s.sums + r * kLanes, splat(0));
    if (tile.sink != nullptr) s.sums[r * kLanes] = 1;
    for (std::int64_t d = 0; d < width; d += kLanes) store(s.output + r * width + d, splat(0));
  }

  const std::int64_t end = tile.first + tile.count;
  const auto first_key = [&](std::int64_t position) {
    return tile.sliding_window == 0 ? std::int64_t{0} : larger(0, position - tile.sliding_window + 1);
  };
  for (std::int64_t block = first_key(tile.first) / kPanel * kPanel; block < end; block += kBlock) {
    const T* keys = tile.head.keys + block * depth;
    for (std::int64_t g = 0; g < groups; ++g) {
      const std::int64_t first_row = g * kRows;
      // Keys of this block that some row of the group sees, in whole vectors. Rows behind the tile's last
      // query compute what it sees; nobody reads them.
      Range ranges[kRows];
      std::int64_t seen = 0;
      for (int r = 0; r < kRows; ++r) {
        const std::int64_t position = smaller(tile.first + first_row + r, end - 1);
        ranges[r] = {larger(0, first_key(position) - block),
                     larger(0, smaller(position + 1 - block, kBlock))};
        seen = ranges[r].high;
      }
      const std::int64_t extent = round_up(seen, kLanes);
      if (extent == 0) continue;
      for (Range& range : ranges) range.low = smaller(range.low, extent);

      const T* q = s.q + first_row * depth;
      for (std::int64_t j = 0; j < extent; j += kPanel)
        micro_columns<T, kRows, false>(smaller(extent - j, kPanel) / kLanes, q, depth, keys + j * depth,
                                       kPanel, depth / kPair, s.scores + j, kBlock, nullptr);
      if (tile.softcap != 0)
        for (int r = 0; r < kRows; ++r) soft_cap(s.scores + r * kBlock, extent, tile.softcap);
      float alpha[round_up(kRows, kLanes)];
      softmax_group<T, kRows>(s.scores, extent, ranges, s.probabilities, s.largest + first_row,
                              s.sums + first_row * kLanes, alpha);
      for (std::int64_t d = 0; d < width; d += kPanel) {
        const std::int64_t columns = smaller(kPanel, width - d);
        const T* values = tile.head.values + d * tile.head.padded_length + block * columns;
        micro_columns<T, kRows, true>(columns / kLanes, s.probabilities, kBlock, values, columns,
                                      extent / kPair, s.output + first_row * width + d, width, alpha);
      }
    }
  }

  for (std::int64_t r = 0; r < tile.count; ++r) {
    const Vec inverse = splat(1.0f / sum_of(load(s.sums + r * kLanes)));
    const float* output = s.output + r * width;
    T* out = tile.out + (start + r) * tile.out_pitch;
    for_vectors(head_dim, [&](std::int64_t i, int lanes) {
      store_lanes(out + i, load_lanes(output + i, lanes) * inverse, lanes);
    });
  }
}

/// oneDNN has kernels for AVX-512 and bf16 that add along the depth alike for every row. Below that it calls
/// a general product, which takes the last rows of some numbers of rows in another order.
template <class T>
constexpr DenseProduct own_product() {
  if constexpr (std::is_same_v<T, float> && kLanes < 16) {
    return dense_product;
  } else {
    return nullptr;
  }
}

template <class T>
constexpr Kernels<T> make_kernels(const char* name, const GradientKernels<T>* gradients,
                                  const PointwiseKernels<T>* pointwise, const DeltaKernels<T>* delta) {
  return {.name = name,
          .norm_full = norm_row<float>,
          .norm_working = norm_row<T>,
          .convert = convert_row<T>,
          .add = add_row,
          .activate = activate_row<T>,
          .multiply = own_product<T>(),
          .softmax_statistics = softmax_statistics_row,
          .log_probabilities = log_probabilities_row,
          .divergence = divergence_row,
          .both_divergences = both_divergences_row,
          .panel = kPanel,
          .query_tile = kQueryTile,
          .packed_keys_size = packed_keys_size<T>,
          .packed_values_size = packed_values_size<T>,
          .pack_keys = pack_keys<T>,
          .pack_values = pack_values<T>,
          .attention_scratch = attention_scratch<T>,
          .append = append_head<T>,
          .attend = attend_tile<T, kTileRows>,
          .attend_one = attend_tile<T, 1>,
          .transform = transform_head<T>,
          .half_cache = &kHalfCache,
          .int8_cache = &kInt8Cache,
          .gradients = gradients,
          .pointwise = pointwise,
          .delta = delta};
}

constexpr Kernels<float> kFloat =
    make_kernels<float>(kFamily, &kFloatGradients, &kFloatPointwise, &kFloatDelta);
#ifdef KNAPSAQ_SIMD_BF16
constexpr Kernels<Bf16> kBf16 = make_kernels<Bf16>(kSet, &kBf16Gradients, &kBf16Pointwise, &kBf16Delta);
#endif

}  // namespace

extern const Kernels<float>* const kFloatKernels;
extern const Kernels<Bf16>* const kBf16Kernels;
const Kernels<float>* const kFloatKernels = &kFloat;
#ifdef KNAPSAQ_SIMD_BF16
const Kernels<Bf16>* const kBf16Kernels = &kBf16;
#else
const Kernels<Bf16>* const kBf16Kernels = nullptr;
#endif

}  // namespace knapsaq::cpu::KNAPSAQ_SET
