// Attention of one token to a half or int8 cache.

#include <cstddef>
#include <type_traits>

#include "knapsaq/compute/cpu/cache_kernels.h"
#include "knapsaq/compute/cpu/vector_math_simd.h"

namespace knapsaq::cpu::KNAPSAQ_SET {
namespace {

/// The most query heads that are multiplied at once. Half the lanes: eight registers of sums of scores, which
/// hide the latency of the additions; twice as many of values with 32 registers.
constexpr int kCacheQueries = kLanes / 2;

constexpr int kPanelVecs = static_cast<int>(kCachePanel) / kLanes;

/// What lies before a panel's elements.
template <class E>
constexpr std::int64_t kScaleBytes = std::is_same_v<E, std::int8_t> ? kCachePanel * 4 : 0;

/// Vectors of values are whole, whatever the instruction set.
std::int64_t value_width(std::int64_t head_dim) { return round_up(head_dim, 16); }

template <class E>
std::int64_t key_panel(std::int64_t head_dim) {
  return kScaleBytes<E> + kCachePanel * head_dim * static_cast<std::int64_t>(sizeof(E));
}
template <class E>
std::int64_t value_panel(std::int64_t head_dim) {
  return kScaleBytes<E> + kCachePanel * value_width(head_dim) * static_cast<std::int64_t>(sizeof(E));
}
template <class E>
inline const E* elements(const std::byte* panel) {
  return reinterpret_cast<const E*>(panel + kScaleBytes<E>);
}
template <class E>
inline E* elements(std::byte* panel) {
  return reinterpret_cast<E*>(panel + kScaleBytes<E>);
}
inline const float* scales(const std::byte* panel) { return reinterpret_cast<const float*>(panel); }

inline Vec load_elements(const Half* p) { return load(p); }
inline Vec load_elements(const std::int8_t* p) { return to_floats(load_ints(p)); }

// ---- one token in, a panel out ----------------------------------------------------------------------------

/// x as elements, `stride` apart.
inline void put_elements(const float* x, std::int64_t n, std::int64_t stride, float* /*scale*/, Half* out) {
  // In this order of operands vmin and vmax let NaN pass.
  const Vec most = splat(65504.0f);
  const Vec least = splat(-65504.0f);
  for_vectors(n, [&](std::int64_t i, int lanes) {
    Half some[kLanes];
    store(some, vmax(least, vmin(most, load_lanes(x + i, lanes))));
    for (int l = 0; l < lanes; ++l) out[(i + l) * stride] = some[l];
  });
}
inline void put_elements(const float* x, std::int64_t n, std::int64_t stride, float* scale,
                         std::int8_t* out) {
  // The sum is finite where all are; a NaN would not survive the comparisons.
  Vec top = splat(0);
  Vec sum = splat(0);
  for_vectors(n, [&](std::int64_t i, int lanes) {
    const Vec v = load_lanes(x + i, lanes);
    top = vmax(top, vmax(v, splat(0) - v));
    sum = sum + v * splat(0);
  });
  const float largest = largest_of(top);
  *scale = largest / 127.0f + sum_of(sum);
  // Numbers so small that their scale has few digits or none are nothing beside any others.
  const Vec inverse = splat(largest > 1e-30f ? 127.0f / largest : 0.0f);
  // In a sum with 1.5 * 2^23 the last bits are the number, rounded to the nearest one, ties to even.
  const Vec magic = splat(12582912.0f);
  for_vectors(n, [&](std::int64_t i, int lanes) {
    float some[kLanes];
    store(some, fma(load_lanes(x + i, lanes), inverse, magic));
    for (int l = 0; l < lanes; ++l) {
      std::int32_t bits;
      __builtin_memcpy(&bits, some + l, sizeof(bits));
      out[(i + l) * stride] = static_cast<std::int8_t>(bits & 0xFF);
    }
  });
}

template <class E>
void put_token(const float* key, const float* value, std::int64_t head_dim, std::int64_t position,
               std::byte* keys, std::byte* values) {
  const std::int64_t place = position % kCachePanel;
  const std::int64_t width = value_width(head_dim);
  std::byte* const of_keys = keys + position / kCachePanel * key_panel<E>(head_dim);
  std::byte* const of_values = values + position / kCachePanel * value_panel<E>(head_dim);
  put_elements(key, head_dim, kCachePanel, reinterpret_cast<float*>(of_keys) + place,
               elements<E>(of_keys) + place);
  E* const row = elements<E>(of_values) + place * width;
  put_elements(value, head_dim, 1, reinterpret_cast<float*>(of_values) + place, row);
  for (std::int64_t d = head_dim; d < width; ++d) row[d] = E{};
}

template <class E>
void take_panel(const std::byte* of_keys, const std::byte* of_values, std::int64_t head_dim, float* keys,
                float* values) {
  const E* k = elements<E>(of_keys);
  const E* v = elements<E>(of_values);
  for (std::int64_t d = 0; d < head_dim; ++d) {
    float some[kCachePanel];
    for (int i = 0; i < kPanelVecs; ++i) {
      Vec x = load_elements(k + d * kCachePanel + i * kLanes);
      if constexpr (kScaleBytes < E >> 0) x = x * load(scales(of_keys) + i * kLanes);
      store(some + i * kLanes, x);
    }
    for (std::int64_t j = 0; j < kCachePanel; ++j) keys[j * head_dim + d] = some[j];
  }
  for (std::int64_t j = 0; j < kCachePanel; ++j) {
    float scale = 1;
    if constexpr (kScaleBytes < E >> 0) scale = scales(of_values)[j];
    const E* row = v + j * value_width(head_dim);
    for_vectors(head_dim, [&](std::int64_t d, int lanes) {
      store_lanes(values + j * head_dim + d, load_elements(row + d) * splat(scale), lanes);
    });
  }
}

// ---- attention of a piece ---------------------------------------------------------------------------------

/// A number that is part of a type.
template <int kValue>
struct Number {
  static constexpr int value = kValue;
};
/// f(Number<n>) for n in [1, kMost].
template <int kMost, class Function>
inline void with_number(int n, Function f) {
  if constexpr (kMost > 1) {
    if (n < kMost) return with_number<kMost - 1>(n, f);
  }
  f(Number<kMost>{});
}

/// Dimensions of a score that are summed apart, so that there are about eight sums: an addition takes four
/// cycles, and two can begin in each.
constexpr int chains(int queries) {
  int n = 1;
  while (2 * n * queries * kPanelVecs <= 8) n *= 2;
  return n;
}

/// Scores of kQueries queries, `pitch` apart, against the keys of a panel.
template <class E, int kQueries>
inline void score_panel(const float* q, std::int64_t head_dim, const std::byte* panel, float* scores) {
  constexpr int kChains = chains(kQueries);
  const E* keys = elements<E>(panel);
  Vec sums[kChains][kQueries][kPanelVecs];
#pragma GCC unroll 8
  for (int c = 0; c < kChains; ++c) {
#pragma GCC unroll 8
    for (int r = 0; r < kQueries; ++r) {
#pragma GCC unroll 8
      for (int v = 0; v < kPanelVecs; ++v) sums[c][r][v] = splat(0);
    }
  }
  const auto add = [&](std::int64_t d, int c) __attribute__((always_inline)) {
    Vec row[kPanelVecs];
#pragma GCC unroll 8
    for (int v = 0; v < kPanelVecs; ++v) row[v] = load_elements(keys + d * kCachePanel + v * kLanes);
#pragma GCC unroll 8
    for (int r = 0; r < kQueries; ++r) {
      const Vec x = splat(q[r * head_dim + d]);
#pragma GCC unroll 8
      for (int v = 0; v < kPanelVecs; ++v) sums[c][r][v] = fma(x, row[v], sums[c][r][v]);
    }
  };
  std::int64_t d = 0;
  for (; d + kChains <= head_dim; d += kChains) {
#pragma GCC unroll 8
    for (int c = 0; c < kChains; ++c) add(d + c, c);
  }
  for (; d < head_dim; ++d) add(d, 0);
#pragma GCC unroll 8
  for (int r = 0; r < kQueries; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kPanelVecs; ++v) {
      Vec sum = sums[0][r][v];
#pragma GCC unroll 8
      for (int c = 1; c < kChains; ++c) sum = sum + sums[c][r][v];
      if constexpr (kScaleBytes < E >> 0) sum = sum * load(scales(panel) + v * kLanes);
      store(scores + r * kCachePiece + v * kLanes, sum);
    }
  }
}

/// out [kQueries, width] += probabilities times the values of `count` tokens, for kVecs vectors of columns.
template <class E, int kQueries, int kVecs>
inline void add_columns(const float* probabilities, std::int64_t count, const E* values, std::int64_t width,
                        float* out) {
  Vec sums[kQueries][kVecs];
#pragma GCC unroll 8
  for (int r = 0; r < kQueries; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kVecs; ++v) sums[r][v] = load(out + r * width + v * kLanes);
  }
  for (std::int64_t j = 0; j < count; ++j) {
    Vec row[kVecs];
#pragma GCC unroll 8
    for (int v = 0; v < kVecs; ++v) row[v] = load_elements(values + j * width + v * kLanes);
#pragma GCC unroll 8
    for (int r = 0; r < kQueries; ++r) {
      const Vec p = splat(probabilities[r * kCachePiece + j]);
#pragma GCC unroll 8
      for (int v = 0; v < kVecs; ++v) sums[r][v] = fma(p, row[v], sums[r][v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kQueries; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kVecs; ++v) store(out + r * width + v * kLanes, sums[r][v]);
  }
}

template <class E, int kQueries>
inline void add_values(const float* probabilities, std::int64_t count, const E* values, std::int64_t width,
                       float* out) {
  // At most twice as many sums as the scores have, within the registers.
  constexpr int kVecs = 4 * kQueries <= 2 * kCacheQueries ? 4 : 2;
  std::int64_t d = 0;
  for (; d + kVecs * kLanes <= width; d += kVecs * kLanes)
    add_columns<E, kQueries, kVecs>(probabilities, count, values + d, width, out + d);
  for (; d < width; d += kLanes)
    add_columns<E, kQueries, 1>(probabilities, count, values + d, width, out + d);
}

/// The parts of a partial result: for every query the largest score, the sum of 2^(score - largest), and the
/// sum of values weighted by that.
struct Partial {
  float* largest;  ///< [queries]
  float* sums;     ///< [queries]
  float* values;   ///< [queries, value_width]

  Partial(float* memory, std::int64_t queries)
      : largest(memory), sums(memory + round_up(queries, 16)), values(memory + 2 * round_up(queries, 16)) {}
};
std::int64_t partial_size(std::int64_t queries, std::int64_t head_dim) {
  return 2 * round_up(queries, 16) + queries * value_width(head_dim);
}

/// Turns the scores of one query, of which those in [low, high) count, into 2^(score - largest); `extent` is
/// a multiple of a panel.
inline float exponentiate_scores(float* scores, std::int64_t extent, std::int64_t low, std::int64_t high,
                                 float* sum) {
  for (std::int64_t i = 0; i < low; ++i) scores[i] = kMasked;
  for (std::int64_t i = high; i < extent; ++i) scores[i] = kMasked;
  Vec top = load(scores);
  for (std::int64_t i = kLanes; i < extent; i += kLanes) top = vmax(top, load(scores + i));
  const float largest = largest_of(top);
  const Vec shift = splat(largest);
  Vec total = splat(0);
  for (std::int64_t i = 0; i < extent; i += kLanes) {
    const Vec p = exp2_precise(load(scores + i) - shift);
    total = total + p;
    store(scores + i, p);
  }
  *sum = sum_of(total);
  return largest;
}

template <class E>
void attend_piece(const CachePiece& piece) {
  const std::int64_t head_dim = piece.head_dim;
  const std::int64_t width = value_width(head_dim);
  const std::int64_t first = piece.begin / kCachePanel * kCachePanel;
  const std::int64_t extent = round_up(piece.end - first, kCachePanel);
  const Partial partial(piece.partial, piece.queries);
  /// Calls f(first query, their number) for as many queries at a time as there are registers for.
  const auto for_queries = [&](auto f) {
    for (std::int64_t r = 0; r < piece.queries; r += kCacheQueries) {
      with_number<kCacheQueries>(static_cast<int>(smaller(kCacheQueries, piece.queries - r)),
                                 [&](auto count) { f(r, count); });
    }
  };

  // Panel by panel, so that a key or value comes from memory once for all queries.
  const std::byte* keys = piece.keys + first / kCachePanel * key_panel<E>(head_dim);
  for (std::int64_t j = 0; j < extent; j += kCachePanel, keys += key_panel<E>(head_dim)) {
    for_queries([&](std::int64_t r, auto count) {
      score_panel<E, decltype(count)::value>(piece.q + r * head_dim, head_dim, keys,
                                             piece.scores + r * kCachePiece + j);
    });
  }

  const std::byte* const values = piece.values + first / kCachePanel * value_panel<E>(head_dim);
  for (std::int64_t r = 0; r < piece.queries; ++r) {
    float* scores = piece.scores + r * kCachePiece;
    if (piece.softcap != 0) soft_cap(scores, extent, piece.softcap);
    partial.largest[r] =
        exponentiate_scores(scores, extent, piece.begin - first, piece.end - first, partial.sums + r);
    if constexpr (kScaleBytes < E >> 0) {
      for (std::int64_t j = 0; j < extent; j += kLanes) {
        const float* scale = scales(values + j / kCachePanel * value_panel<E>(head_dim)) + j % kCachePanel;
        store(scores + j, load(scores + j) * load(scale));
      }
    }
    for (std::int64_t d = 0; d < width; d += kLanes) store(partial.values + r * width + d, splat(0));
  }

  for (std::int64_t j = 0; j < extent; j += kCachePanel) {
    const std::int64_t low = larger(j, piece.begin - first);
    const std::int64_t high = smaller(j + kCachePanel, piece.end - first);
    const E* rows = elements<E>(values + j / kCachePanel * value_panel<E>(head_dim)) + (low - j) * width;
    for_queries([&](std::int64_t r, auto count) {
      add_values<E, decltype(count)::value>(piece.scores + r * kCachePiece + low, high - low, rows, width,
                                            partial.values + r * width);
    });
  }
}

void combine_pieces(float* partials, std::int64_t pieces, std::int64_t queries, std::int64_t head_dim,
                    const float* sinks, float* out) {
  const std::int64_t size = partial_size(queries, head_dim);
  const std::int64_t width = value_width(head_dim);
  for (std::int64_t r = 0; r < queries; ++r) {
    const float sink = sinks == nullptr ? kMasked : sinks[r] * kLog2E;
    float largest = sink;
    for (std::int64_t i = 0; i < pieces; ++i) {
      const float one = Partial(partials + i * size, queries).largest[r];
      largest = one > largest ? one : largest;
    }
    float factor[kLanes];
    float total = 0;
    if (sinks != nullptr) {
      store(factor, exp2_precise(splat(sink - largest)));
      total = factor[0];
    }
    for (std::int64_t i = 0; i < pieces; ++i) {
      const Partial partial(partials + i * size, queries);
      store(factor, exp2_precise(splat(partial.largest[r] - largest)));
      partial.largest[r] = factor[0];
      total += factor[0] * partial.sums[r];
    }
    const Vec inverse = splat(1.0f / total);
    for_vectors(head_dim, [&](std::int64_t d, int lanes) {
      Vec sum = splat(0);
      for (std::int64_t i = 0; i < pieces; ++i) {
        const Partial partial(partials + i * size, queries);
        sum = fma(splat(partial.largest[r]), load(partial.values + r * width + d), sum);
      }
      store_lanes(out + r * head_dim + d, sum * inverse, lanes);
    });
  }
}

template <class E>
constexpr CacheKernels make_cache_kernels() {
  return {.key_panel = key_panel<E>,
          .value_panel = value_panel<E>,
          .put = put_token<E>,
          .take = take_panel<E>,
          .partial_size = partial_size,
          .attend = attend_piece<E>,
          .combine = combine_pieces};
}

}  // namespace

extern const CacheKernels kHalfCache;
extern const CacheKernels kInt8Cache;
constexpr CacheKernels kHalfCache = make_cache_kernels<Half>();
constexpr CacheKernels kInt8Cache = make_cache_kernels<std::int8_t>();

}  // namespace knapsaq::cpu::KNAPSAQ_SET
