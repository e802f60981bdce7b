// The search for the numbers of GGML blocks whose codes are points of a grid (IQ1, IQ2, IQ3), on sixteen
// lanes, each a sub-block.
//
// For a real scale a the best point is found among all of the grid: w (x - a q)^2 is summed over the halves
// that points are made of, of which there are few, and a point costs an addition and a comparison. Signs are
// those of the weights; where their number has to be even, a half's table has a second sum, of its cheapest
// code with the other sign, so that the point and the sign to give up are chosen together.
//
// The points found for a scale err by a parabola in a, S - 2 a L + a^2 Q with L = sum w x q, Q = sum w q^2,
// at every other scale, too, and the points found there err no more: the lowest of a sub-block's parabolas
// bounds its error from above. The search:
//   1. points for scales over a range, then for the best parabola's lowest scale, and so on: the parabolas;
//   2. many candidates for the block's fp16 d, with the integers around each sub-block's best scale, by the
//      sum of these bounds;
//   3. points for the best (d, integers), the least squares for d given them, again integers by the bounds,
//      a few times. What is kept is chosen by its exact error.

#include <cstdint>

#include "knapsaq/compute/ggml_block.h"
#include "knapsaq/quant/ggml/grid_halves.h"
#include "knapsaq/quant/ggml/grid_search.h"
#include "knapsaq/quant/ggml/lanes_simd.h"

namespace knapsaq::KNAPSAQ_SET {
namespace {

enum class Shift { none, of_eight, of_sub_block };

// Codes in tables of sixteen floats, as lookup() wants them.
struct SmallLevels {
  static constexpr int kCount = 8;
  alignas(64) static constexpr float kValues[kParts] = {1, 3, 5, 7, 9, 11, 13, 15};
};
struct UnevenLevels {
  static constexpr int kCount = 8;
  alignas(64) static constexpr float kValues[kParts] = {4, 12, 20, 28, 36, 44, 52, 62};
};
struct ThreeLevels {
  static constexpr int kCount = 3;
  alignas(64) static constexpr float kValues[kParts] = {8, 25, 43};
};
struct SignedLevels {
  static constexpr int kCount = 3;
  alignas(64) static constexpr float kValues[kParts] = {-8, 0, 8};
};

/// A type: points of kPointCodes codes out of `Levels_`, kSubBlock weights with a scale; kEven: of eight
/// codes an even number is negative.
template <class Levels_, int kPointCodes, int kSubBlock, bool kEvenSigns, Shift kShifted = Shift::none>
struct Shape {
  using Levels = Levels_;
  static constexpr int kPoint = kPointCodes;
  static constexpr int kSize = kSubBlock;
  static constexpr bool kEven = kEvenSigns;
  static constexpr Shift kShift = kShifted;
  /// Sub-blocks of a block.
  static constexpr int kRun = 256 / kSubBlock;
  /// Codes that are shifted alike.
  static constexpr int kAlike = kShifted == Shift::of_eight ? 8 : kSubBlock;
};

/// What the points chosen for lanes make of their weights.
struct PointSums {
  Floats16 error;   ///< sum w (x - a q)^2
  Floats16 linear;  ///< sum w x q
  Floats16 square;  ///< sum w q^2
};
inline PointSums operator+(PointSums a, PointSums b) {
  return {a.error + b.error, a.linear + b.linear, a.square + b.square};
}
/// By lane, b where it errs less.
inline PointSums better(PointSums a, PointSums b) {
  return {vmin(b.error, a.error), if_less(b.error, a.error, b.linear, a.linear),
          if_less(b.error, a.error, b.square, a.square)};
}

/// In the last bits of the costs of second halves stand their numbers and whether a sign is another one, so
/// that what is least says which it is. It makes two points alike that differ by 2^-16 of themselves.
constexpr std::int32_t kFlipped = 128;
constexpr std::int32_t kMark = 255;
/// Added to the cost of every code, so that marks are never in subnormal numbers.
constexpr float kLeastCost = 0x1p-100f;

inline Floats16 marked(Floats16 cost, std::int32_t mark) {
  return each([&](Floats v) { return floats_of((bits_of(v) & ~kMark) | mark); }, cost);
}
inline Floats16 mark_of(Floats16 cost) {
  return each([](Floats v) { return to_floats(bits_of(v) & kMark); }, cost);
}

// The points nearest to eight weights. ----------------------------------------------------------------------

/// The tables of eight weights of every lane, at one scale. Weights are without their signs, unless shifted.
template <class Shape>
class Points {
  using Levels = typename Shape::Levels;
  static constexpr int kLevels = Levels::kCount;
  static constexpr int kPoint = Shape::kPoint;
  static constexpr int kCount = 8 / kPoint;
  static constexpr int kHalfCodes = kPoint / 2;
  static constexpr int kQuarterCodes = kPoint / 4;
  static constexpr int kQuarters = kQuarterCodes == 1 ? kLevels : kLevels * kLevels;
  static constexpr int kHalves = kQuarters * kQuarters;
  static_assert(kQuarters <= kParts);

  /// Costs of the halves, of half h in lane l at [16 * h + l]: with the signs of the weights, and with the
  /// cheapest other sign. Those of second halves are marked.
  struct Half {
    alignas(64) float plain[kHalves * kParts];
    alignas(64) float flipped[Shape::kEven ? kHalves * kParts : 1];
  };
  Half tables_[kCount][2];

  /// The best point of each lane so far: its cost, the number of its first half, and the marked cost of its
  /// second one.
  struct Best {
    Floats16 cost = splat16(__builtin_inff());
    Floats16 first = zero();
    Floats16 second = zero();
    void offer(Floats16 first_cost, float number, Floats16 second_cost) {
      const Floats16 sum = first_cost + second_cost;
      first = if_less(sum, cost, splat16(number), first);
      second = if_less(sum, cost, second_cost, second);
      cost = vmin(sum, cost);
    }
  };

  /// Of every quarter, the costs with the weights' signs and with the cheapest other sign.
  static void quarter(const float* x, const float* w, const Floats16* levels, Floats16* plain,
                      Floats16* flipped) {
    Floats16 kept[kQuarterCodes][kLevels];
    Floats16 turned[kQuarterCodes][kLevels];
    for (int j = 0; j < kQuarterCodes; ++j) {
      const Floats16 weight = load16(w + j * kParts);
      for (int level = 0; level < kLevels; ++level) {
        const Floats16 r = load16(x + j * kParts) - levels[level];
        kept[j][level] = weight * r * r + splat16(kLeastCost);
        if constexpr (Shape::kEven) {
          const Floats16 s = load16(x + j * kParts) + levels[level];
          turned[j][level] = weight * s * s + splat16(kLeastCost);
        }
      }
    }
    for (int i = 0; i < kQuarters; ++i) {
      if constexpr (kQuarterCodes == 1) {
        plain[i] = kept[0][i];
        if constexpr (Shape::kEven) flipped[i] = turned[0][i];
      } else {
        plain[i] = kept[0][i / kLevels] + kept[1][i % kLevels];
        if constexpr (Shape::kEven)
          flipped[i] = vmin(turned[0][i / kLevels] + kept[1][i % kLevels],
                            kept[0][i / kLevels] + turned[1][i % kLevels]);
      }
    }
  }

  template <bool kMarked>
  static void fill_half(const float* x, const float* w, const Floats16* levels, Half& out) {
    Floats16 a[kQuarters];
    Floats16 a_flipped[kQuarters];
    Floats16 b[kQuarters];
    Floats16 b_flipped[kQuarters];
    quarter(x, w, levels, a, a_flipped);
    quarter(x + kQuarterCodes * kParts, w + kQuarterCodes * kParts, levels, b, b_flipped);
    for (int i = 0; i < kQuarters; ++i) {
      for (int j = 0; j < kQuarters; ++j) {
        const int half = i * kQuarters + j;
        const Floats16 cost = a[i] + b[j];
        store(out.plain + half * kParts, kMarked ? marked(cost, half) : cost);
        if constexpr (Shape::kEven) {
          const Floats16 other = vmin(a_flipped[i] + b[j], a[i] + b_flipped[j]);
          store(out.flipped + half * kParts, kMarked ? marked(other, half | kFlipped) : other);
        }
      }
    }
  }

  /// The least of four at a time; runs are multiples of that.
  static Floats16 least(const float* table, const std::uint16_t* second, int count) {
    Floats16 out = splat16(__builtin_inff());
    for (int i = 0; i < count; i += 4) {
      const Floats16 a = vmin(load16(table + second[i]), load16(table + second[i + 1]));
      const Floats16 b = vmin(load16(table + second[i + 2]), load16(table + second[i + 3]));
      out = vmin(vmin(a, b), out);
    }
    return out;
  }

  static void look(const Half (&tables)[2], const GridHalves& grid, Best& plain, Best& flipped) {
    for (int i = 0; i < grid.firsts; ++i) {
      const GridHalves::First& first = grid.first[i];
      const auto number = static_cast<float>(first.half);
      const std::uint16_t* const second = grid.second + first.begin;
      const int count = first.end - first.begin;
      const Floats16 before = load16(tables[0].plain + first.half * kParts);
      const Floats16 behind = least(tables[1].plain, second, count);
      plain.offer(before, number, behind);
      if constexpr (Shape::kEven) {
        flipped.offer(before, number, least(tables[1].flipped, second, count));
        flipped.offer(load16(tables[0].flipped + first.half * kParts), number, behind);
      }
    }
  }

  /// The codes of halves as numbers; where `flipped` is 1, one of them gets the other sign: the one where it
  /// costs least, 4 a w x q.
  static void decode(Floats16 half, Floats16 flipped, const float* x, const float* w, float* codes) {
    // The middle of the numbers with the same first quarter goes to it.
    constexpr float kMiddle = 0.5f * (kQuarters - 1);
    const Floats16 high = nearest((half - splat16(kMiddle)) * splat16(1.0f / kQuarters));
    const Floats16 quarters[2] = {high, half - high * splat16(kQuarters)};
    Floats16 q[kHalfCodes];
    for (int i = 0; i < 2; ++i) {
      if constexpr (kQuarterCodes == 1) {
        q[i] = lookup(quarters[i], Levels::kValues);
      } else {
        const Floats16 top = nearest((quarters[i] - splat16(1.0f)) * splat16(1.0f / 3.0f));
        q[2 * i] = lookup(top, Levels::kValues);
        q[2 * i + 1] = lookup(quarters[i] - top * splat16(3.0f), Levels::kValues);
      }
    }
    if constexpr (Shape::kEven) {
      Floats16 least = splat16(__builtin_inff());
      Floats16 at = zero();
      for (int j = 0; j < kHalfCodes; ++j) {
        const Floats16 cost = load16(w + j * kParts) * load16(x + j * kParts) * q[j];
        at = if_less(cost, least, splat16(static_cast<float>(j)), at);
        least = vmin(cost, least);
      }
      at = if_less(zero(), flipped, at, splat16(-1.0f));
      for (int j = 0; j < kHalfCodes; ++j) {
        const Floats16 distance = magnitude(at - splat16(static_cast<float>(j)));
        q[j] = if_less(distance, splat16(0.5f), zero() - q[j], q[j]);
      }
    }
    for (int j = 0; j < kHalfCodes; ++j) store(codes + j * kParts, q[j]);
  }

 public:
  /// The codes of the best points for x, w [8][16] at the scales a >= 0; `odd` lanes: an odd number of the
  /// weights is negative, so that one code gets the other sign. `shift` is added to all codes.
  PointSums find(const float* x, const float* w, Floats16 a, Floats16 odd, float shift,
                 const GridHalves& grid, float* codes) {
    Floats16 levels[kLevels];
    for (int i = 0; i < kLevels; ++i) levels[i] = a * splat16(Levels::kValues[i] + shift);
    Best plain[kCount];
    Best flipped[kCount];
    for (int p = 0; p < kCount; ++p) {
      const int at = p * kPoint * kParts;
      fill_half<false>(x + at, w + at, levels, tables_[p][0]);
      fill_half<true>(x + at + kHalfCodes * kParts, w + at + kHalfCodes * kParts, levels, tables_[p][1]);
      look(tables_[p], grid, plain[p], flipped[p]);
    }
    // Which point has the other sign.
    Floats16 flips[kCount];
    flips[0] = odd;
    if constexpr (kCount == 2 && Shape::kEven) {
      const Floats16 first = flipped[0].cost + plain[1].cost;
      const Floats16 second = plain[0].cost + flipped[1].cost;
      flips[0] = if_less(first, second, odd, zero());
      flips[1] = odd - flips[0];
    } else if constexpr (kCount == 2) {
      flips[1] = odd;
    }
    for (int p = 0; p < kCount; ++p) {
      Floats16 first = plain[p].first;
      Floats16 second = plain[p].second;
      if constexpr (Shape::kEven) {
        first = if_less(zero(), flips[p], flipped[p].first, first);
        second = if_less(zero(), flips[p], flipped[p].second, second);
      }
      const Floats16 mark = mark_of(second);
      const Floats16 in_second = if_less(mark, splat16(kFlipped), zero(), flips[p]);
      const int at = p * kPoint * kParts;
      decode(first, flips[p] - in_second, x + at, w + at, codes + at);
      decode(mark - in_second * splat16(kFlipped), in_second, x + at + kHalfCodes * kParts,
             w + at + kHalfCodes * kParts, codes + at + kHalfCodes * kParts);
    }
    PointSums sums{zero(), zero(), zero()};
    for (int j = 0; j < 8; ++j) {
      const Floats16 value = load16(x + j * kParts);
      Floats16 q = load16(codes + j * kParts);
      if constexpr (Shape::kShift != Shift::none) {
        q = q + splat16(shift);
        store(codes + j * kParts, q);
      }
      const Floats16 r = value - a * q;
      const Floats16 wq = load16(w + j * kParts) * q;
      sums.error = sums.error + load16(w + j * kParts) * r * r;
      sums.linear = sums.linear + wq * value;
      sums.square = sums.square + wq * q;
    }
    return sums;
  }
};

/// 1 in the lanes where an odd number of x [8][16] is negative, else 0.
inline Floats16 odd_signs(const float* x) {
  Floats16 count = zero();
  for (int j = 0; j < 8; ++j) count = count + if_less(load16(x + j * kParts), zero(), splat16(1.0f), zero());
  return count - splat16(2.0f) * nearest(count * splat16(0.5f) - splat16(0.25f));
}

/// `size` with the sign of a weight: codes of the other sign are negative.
inline Floats16 towards(Floats16 weight, Floats16 size) {
  return if_less(weight, zero(), zero() - size, size);
}

// Sub-blocks. ------------------------------------------------------------------------------------------

/// Sixteen sub-blocks of a type and what is known of their errors.
template <class Shape>
class SubBlocks {
  static constexpr int kSize = Shape::kSize;
  static constexpr int kRun = Shape::kRun;
  static constexpr int kEights = kSize / 8;
  static constexpr int kMostParabolas = 32;

  const GridHalves& grid_;
  Points<Shape> points_;
  Tile<kSize> tile_;
  alignas(64) float signed_x_[kSize * kParts];
  alignas(64) float odd_[kEights * kParts];
  alignas(64) float codes_[2][kSize * kParts];
  alignas(64) float kept_[kSize * kParts];
  alignas(64) float linear_[kMostParabolas * kParts];
  alignas(64) float square_[kMostParabolas * kParts];
  int parabolas_ = 0;

  PointSums find(int first, Floats16 a, float shift, float* codes) {
    PointSums sums{zero(), zero(), zero()};
    for (int e = first / 8; e < (first + Shape::kAlike) / 8; ++e) {
      sums = sums + points_.find(tile_.x + e * 8 * kParts, tile_.w + e * 8 * kParts, a,
                                 load16(odd_ + e * kParts), shift, grid_, codes + e * 8 * kParts);
    }
    return sums;
  }

 public:
  explicit SubBlocks(const GridHalves& grid) : grid_(grid) {}

  void set(const float* x, const float* w, int present) {
    fill(tile_, x, w, present);
    for (int e = 0; e < kEights; ++e)
      store(odd_ + e * kParts, Shape::kEven ? odd_signs(tile_.x + e * 8 * kParts) : zero());
    for (int j = 0; j < kSize * kParts; j += kParts) {
      const Floats16 value = load16(tile_.x + j);
      store(signed_x_ + j, value);
      if constexpr (Shape::kShift == Shift::none) store(tile_.x + j, magnitude(value));
    }
    parabolas_ = 0;
  }

  Floats16 largest() const {
    Floats16 out = zero();
    for (int j = 0; j < kSize * kParts; j += kParts) out = vmax(magnitude(load16(tile_.x + j)), out);
    return out;
  }

  /// Of the best points at the scales a; what they tell of other scales is kept.
  PointSums points(Floats16 a) {
    PointSums sums{zero(), zero(), zero()};
    for (int first = 0; first < kSize; first += Shape::kAlike) {
      if constexpr (Shape::kShift == Shift::none) {
        sums = sums + find(first, a, 0.0f, codes_[0]);
      } else {
        const PointSums up = find(first, a, 1.0f, codes_[0]);
        const PointSums down = find(first, a, -1.0f, codes_[1]);
        sums = sums + better(up, down);
        for (int j = first * kParts; j < (first + Shape::kAlike) * kParts; j += kParts)
          store(codes_[0] + j, if_less(down.error, up.error, load16(codes_[1] + j), load16(codes_[0] + j)));
      }
    }
    if (parabolas_ < kMostParabolas) {
      store(linear_ + parabolas_ * kParts, sums.linear);
      store(square_ + parabolas_ * kParts, sums.square);
      ++parabolas_;
    }
    return sums;
  }

  /// The scales of which a parabola promises the least error.
  Floats16 best_scales() const {
    Floats16 best_gain = zero();
    Floats16 best = zero();
    for (int k = 0; k < parabolas_ * kParts; k += kParts) {
      const Floats16 linear = load16(linear_ + k);
      const Floats16 a = quotient(linear, load16(square_ + k), zero());
      best = if_less(best_gain, a * linear, a, best);
      best_gain = vmax(a * linear, best_gain);
    }
    return best;
  }

  /// The bound of the errors at the scales a, less what a scale of 0 has.
  Floats16 bound(Floats16 a) const {
    Floats16 least = splat16(__builtin_inff());
    for (int k = 0; k < parabolas_ * kParts; k += kParts)
      least = vmin(a * load16(square_ + k) - splat16(2.0f) * load16(linear_ + k), least);
    return a * least;
  }
  /// The same of one sub-block, for different scales in every lane.
  Floats16 bound_of(int lane, Floats16 a) const {
    Floats16 least = splat16(__builtin_inff());
    for (int k = 0; k < parabolas_ * kParts; k += kParts)
      least = vmin(a * splat16(square_[k + lane]) - splat16(2.0f * linear_[k + lane]), least);
    return a * least;
  }

  /// Keeps the points found last where `error` is below `best`.
  void keep(Floats16 error, Floats16 best) {
    for (int j = 0; j < kSize * kParts; j += kParts)
      store(kept_ + j, if_less(error, best, load16(codes_[0] + j), load16(kept_ + j)));
  }
  /// Of the points kept, with the signs of the weights.
  Floats16 code(int j) const {
    const Floats16 q = load16(kept_ + j * kParts);
    if constexpr (Shape::kShift != Shift::none) return q;
    return towards(load16(signed_x_ + j * kParts), q);
  }
};

/// How scales are stored: a = d * step * (integer + offset), integers from 0 to `highest`.
struct Steps {
  float step;
  float offset;
  float highest;

  Floats16 factor(Floats16 integer) const { return splat16(step) * (integer + splat16(offset)); }
  /// The largest integer of which the scale is at most a, if there is one.
  Floats16 below(Floats16 a, Floats16 d) const {
    return clamped(nearest(a * inverse(d * splat16(step)) - splat16(offset + 0.5f)), 0.0f, highest);
  }
};

/// The ranges of the search.
struct Ranges {
  float first;  ///< scales, as a share of the one that makes the largest weight the largest code
  float last;
  int steps;
  int refinements;  ///< of d, integers and points together
};

/// Integers for sub-blocks whose best scales are `real`, by the bounds.
template <class Shape>
Floats16 integers(const SubBlocks<Shape>& blocks, const Steps& steps, Floats16 real, Floats16 d) {
  const Floats16 low = steps.below(real, d);
  const Floats16 high = vmin(low + splat16(1.0f), splat16(steps.highest));
  return if_less(blocks.bound(d * steps.factor(high)), blocks.bound(d * steps.factor(low)), high, low);
}

/// The d of every block that promises the least error; sixteen candidates at a time.
template <class Shape>
Floats16 best_factors(const SubBlocks<Shape>& blocks, const Steps& steps, Floats16 real) {
  constexpr int kRun = Shape::kRun;
  constexpr int kCandidates = 48;
  constexpr float kFirst = 0.8f;
  constexpr float kLast = 1.3f;
  alignas(64) float reals[kParts];
  alignas(64) float units[kParts];
  alignas(64) float out[kParts];
  store(reals, real);
  store(units, highest<kRun>(real) / steps.factor(splat16(steps.highest)));
  for (int block = 0; block < kParts; block += kRun) {
    float best = __builtin_inff();
    float best_d = 0;
    for (int first = 0; first < kCandidates; first += kParts) {
      alignas(64) float candidates[kParts];
      alignas(64) float totals[kParts];
      for (int i = 0; i < kParts; ++i) {
        candidates[i] = units[block] * (kFirst + (kLast - kFirst) * static_cast<float>(first + i) /
                                                     static_cast<float>(kCandidates - 1));
      }
      const Floats16 d = factor(load16(candidates));
      Floats16 sum = zero();
      for (int lane = block; lane < block + kRun; ++lane) {
        const Floats16 low = steps.below(splat16(reals[lane]), d);
        const Floats16 high = vmin(low + splat16(1.0f), splat16(steps.highest));
        sum = sum + vmin(blocks.bound_of(lane, d * steps.factor(low)),
                         blocks.bound_of(lane, d * steps.factor(high)));
      }
      store(candidates, d);
      store(totals, sum);
      for (int i = 0; i < kParts; ++i) {
        if (totals[i] < best) {
          best = totals[i];
          best_d = candidates[i];
        }
      }
    }
    for (int lane = block; lane < block + kRun; ++lane) out[lane] = best_d;
  }
  return load16(out);
}

struct FoundScales {
  Floats16 d;
  Floats16 integer;
};

template <class Shape>
FoundScales found_scales(SubBlocks<Shape>& blocks, const Steps& steps, const Ranges& ranges) {
  constexpr int kRun = Shape::kRun;
  constexpr float kTop =
      Shape::Levels::kValues[Shape::Levels::kCount - 1] + (Shape::kShift == Shift::none ? 0.0f : 1.0f);
  const Floats16 unit = blocks.largest() * splat16(1.0f / kTop);
  for (int i = 0; i < ranges.steps; ++i) {
    const float share = ranges.first + (ranges.last - ranges.first) * static_cast<float>(i) /
                                           static_cast<float>(ranges.steps - 1);
    (void)blocks.points(unit * splat16(share));
  }
  // Then around the best scale of each: half a step to both sides, and at what is best by then.
  const Floats16 aside =
      unit * splat16(0.5f * (ranges.last - ranges.first) / static_cast<float>(ranges.steps - 1));
  const Floats16 middle = blocks.best_scales();
  (void)blocks.points(middle + aside);
  (void)blocks.points(vmax(middle - aside, zero()));
  (void)blocks.points(blocks.best_scales());
  const Floats16 real = blocks.best_scales();

  FoundScales best{zero(), zero()};
  Floats16 best_total = splat16(__builtin_inff());
  Floats16 d = best_factors(blocks, steps, real);
  for (int i = 0; i < ranges.refinements; ++i) {
    const Floats16 integer = integers(blocks, steps, real, d);
    const Floats16 share = steps.factor(integer);
    const PointSums sums = blocks.points(d * share);
    const Floats16 sum = total<kRun>(sums.error);
    blocks.keep(sum, best_total);
    best.d = if_less(sum, best_total, d, best.d);
    best.integer = if_less(sum, best_total, integer, best.integer);
    best_total = vmin(sum, best_total);
    d = factor(quotient(total<kRun>(share * sums.linear), total<kRun>(share * share * sums.square), zero()));
  }
  return best;
}

template <class Shape>
void search_shape(GgmlType type, const Ranges& ranges, const float* x, const float* w, std::int64_t count,
                  FoundBlock* out) {
  constexpr int kSize = Shape::kSize;
  constexpr int kRun = Shape::kRun;
  constexpr std::int64_t kBlocks = kParts / kRun;
  const GgmlRule& how = rule(type);
  const Steps steps{how.step, how.scale_offset, static_cast<float>(how.highest_scale)};
  SubBlocks<Shape> blocks(grid_halves(type));
  for (std::int64_t first = 0; first < count; first += kBlocks) {
    const std::int64_t present = count - first < kBlocks ? count - first : kBlocks;
    blocks.set(x + first * kRun * kSize, w + first * kRun * kSize, static_cast<int>(present) * kRun);
    const FoundScales found = found_scales(blocks, steps, ranges);
    alignas(64) float d[kParts];
    alignas(64) float integers[kParts];
    store(d, found.d);
    store(integers, found.integer);
    for (int lane = 0; lane < static_cast<int>(present) * kRun; ++lane) {
      FoundBlock& block = out[first + lane / kRun];
      block.d = d[lane];
      block.m = 0;
      block.scales[lane % kRun] = static_cast<std::int8_t>(integers[lane]);
    }
    for (int j = 0; j < kSize; ++j) {
      alignas(64) float codes[kParts];
      store(codes, blocks.code(j));
      for (int lane = 0; lane < static_cast<int>(present) * kRun; ++lane) {
        out[first + lane / kRun].codes[lane % kRun * kSize + j] = static_cast<std::int8_t>(codes[lane]);
      }
    }
  }
}

template <class Shape>
void nearest_in_shape(GgmlType type, const float* x, const float* w, const float* a, std::int8_t* codes) {
  // Weights are turned round where the scale is negative.
  const Floats16 scale = load16(a);
  alignas(64) float turned[8 * kParts];
  alignas(64) float sizes[8 * kParts];
  alignas(64) float weights[8 * kParts];
  alignas(64) float found[8 * kParts];
  for (int j = 0; j < 8 * kParts; j += kParts) {
    const Floats16 value = towards(scale, load16(x + j));
    store(turned + j, value);
    store(sizes + j, Shape::kShift == Shift::none ? magnitude(value) : value);
    store(weights + j, load16(w + j));
  }
  const GridHalves& grid = grid_halves(type);
  Points<Shape> points;
  const Floats16 odd = Shape::kEven ? odd_signs(turned) : zero();
  if constexpr (Shape::kShift == Shift::none) {
    (void)points.find(sizes, weights, magnitude(scale), odd, 0.0f, grid, found);
  } else {
    alignas(64) float other[8 * kParts];
    const Floats16 up = points.find(sizes, weights, magnitude(scale), odd, 1.0f, grid, found).error;
    const Floats16 down = points.find(sizes, weights, magnitude(scale), odd, -1.0f, grid, other).error;
    for (int j = 0; j < 8 * kParts; j += kParts)
      store(found + j, if_less(down, up, load16(other + j), load16(found + j)));
  }
  for (int j = 0; j < 8 * kParts; j += kParts) {
    alignas(64) float lanes[kParts];
    const Floats16 q = load16(found + j);
    store(lanes, Shape::kShift == Shift::none ? towards(load16(turned + j), q) : q);
    for (int lane = 0; lane < kParts; ++lane) codes[j + lane] = static_cast<std::int8_t>(lanes[lane]);
  }
}

using Iq3S = Shape<SmallLevels, 4, 32, false>;
using Iq3Xxs = Shape<UnevenLevels, 4, 32, true>;
using Iq2S = Shape<ThreeLevels, 8, 16, false>;
using Iq2Xs = Shape<ThreeLevels, 8, 16, true>;
using Iq2Xxs = Shape<ThreeLevels, 8, 32, true>;
using Iq1S = Shape<SignedLevels, 8, 32, false, Shift::of_sub_block>;
using Iq1M = Shape<SignedLevels, 8, 16, false, Shift::of_eight>;

}  // namespace

void search_grid(GgmlType type, const float* x, const float* w, std::int64_t count, FoundBlock* out) {
  switch (type) {
    case GgmlType::IQ3_S:
      return search_shape<Iq3S>(type, {0.5f, 1.3f, 7, 2}, x, w, count, out);
    case GgmlType::IQ3_XXS:
      return search_shape<Iq3Xxs>(type, {0.5f, 1.3f, 7, 2}, x, w, count, out);
    case GgmlType::IQ2_S:
      return search_shape<Iq2S>(type, {0.4f, 1.6f, 7, 2}, x, w, count, out);
    case GgmlType::IQ2_XS:
      return search_shape<Iq2Xs>(type, {0.4f, 1.6f, 7, 2}, x, w, count, out);
    case GgmlType::IQ2_XXS:
      return search_shape<Iq2Xxs>(type, {0.4f, 1.6f, 7, 2}, x, w, count, out);
    case GgmlType::IQ1_S:
      return search_shape<Iq1S>(type, {0.25f, 1.0f, 3, 1}, x, w, count, out);
    case GgmlType::IQ1_M:
      return search_shape<Iq1M>(type, {0.25f, 1.0f, 3, 1}, x, w, count, out);
    default:
      return;  // not reached: the others have no grid
  }
}

void nearest_points(GgmlType type, const float* x, const float* w, const float* a, std::int8_t* codes) {
  switch (type) {
    case GgmlType::IQ3_S:
      return nearest_in_shape<Iq3S>(type, x, w, a, codes);
    case GgmlType::IQ3_XXS:
      return nearest_in_shape<Iq3Xxs>(type, x, w, a, codes);
    case GgmlType::IQ2_S:
      return nearest_in_shape<Iq2S>(type, x, w, a, codes);
    case GgmlType::IQ2_XS:
      return nearest_in_shape<Iq2Xs>(type, x, w, a, codes);
    case GgmlType::IQ2_XXS:
      return nearest_in_shape<Iq2Xxs>(type, x, w, a, codes);
    case GgmlType::IQ1_S:
      return nearest_in_shape<Iq1S>(type, x, w, a, codes);
    case GgmlType::IQ1_M:
      return nearest_in_shape<Iq1M>(type, x, w, a, codes);
    default:
      return;  // not reached: the others have no grid
  }
}

}  // namespace knapsaq::KNAPSAQ_SET
