#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace knapsaq {

/// Exact percentiles of |w| over more weights than fit in memory. The requested ranks are narrowed down in
/// kPasses passes over the weights. Each pass counts the next 10 or 11 bits of those magnitudes that agree
/// with a requested rank so far. (The bit patterns of non-negative floats have the same order as the floats.)
///
///   MagnitudePercentiles p(weights, {99, 100});
///   for each pass: for each piece: { Counts c = p.counts(); p.count(piece, c); p.add(c); }  then
///   p.end_pass(); p.values()
///
/// count() may run on many threads at the same time; add() may not. Counts are whole numbers, so the order
/// does not matter.
class MagnitudePercentiles {
 public:
  static constexpr int kPasses = 3;
  using Counts = std::vector<std::uint32_t>;

  /// `total` weights, all finite; percentages in [0, 100].
  MagnitudePercentiles(std::int64_t total, std::span<const double> percentages);

  Counts counts() const { return Counts(prefixes_.size() << width()); }
  void count(std::span<const float> weights, Counts& counts) const;
  void add(const Counts& counts);
  void end_pass();

  /// After the last pass: the percentiles in the order of the constructor, interpolated between the two
  /// nearest ranks like numpy.percentile.
  std::vector<double> values() const;

 private:
  struct Rank {
    std::int64_t index;        ///< among the magnitudes that share `prefix`, from 0
    std::uint32_t prefix = 0;  ///< the bits found so far
  };
  int width() const { return pass_ == 0 ? 11 : 10; }  ///< bits that this pass finds
  int shift() const { return 20 - 10 * pass_; }       ///< bits below them
  void collect_prefixes();

  int pass_ = 0;
  std::vector<Rank> ranks_;      ///< two for each percentage
  std::vector<double> between_;  ///< where between its two ranks a percentage lies
  std::vector<std::uint32_t> prefixes_;
  std::array<bool, 2048> wanted_{};  ///< by the first 11 bits: whether any prefix starts with them
  std::vector<std::int64_t> totals_;
};

}  // namespace knapsaq
