#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "knapsaq/compute/packed_matrix.h"

namespace knapsaq {

inline constexpr int kPointCols = 8;  ///< whose codes are a point of a grid, or two
inline constexpr int kPointRows = 16;

/// A matrix whose scales and biases are found and whose codes are to be chosen: a weight is
///   w = scale * u + bias
/// with a code u for each weight, and scale and bias for each row and each group of consecutive columns.
/// choose_gptq_codes() and choose_two_sided_codes() work on every form of matrix that can be seen this way.
class RoundedMatrix {
 public:
  RoundedMatrix(std::int64_t cols, std::int64_t group, float largest)
      : groups_((cols + group - 1) / group), group_(group), largest_(largest) {}
  virtual ~RoundedMatrix() = default;

  std::int64_t group() const { return group_; }    ///< columns of a group; the last one may have fewer
  std::int64_t groups() const { return groups_; }  ///< of a row
  float largest() const { return largest_; }       ///< the largest code
  /// The codes that there are, ascending from 0 to largest(); empty: every whole number.
  virtual std::span<const float> levels() const { return {}; }

  /// Whether codes are not free: those of kPointCols consecutive columns, from a multiple of it on, are
  /// chosen together. Then bias = scale * lowest, and a weight is scale * q with q = u + lowest.
  virtual bool has_points() const { return false; }
  virtual int lowest() const { return 0; }
  /// If has_points(): of kPointRows rows, the q that make sum_j w_j (x_j - a q_j)^2 least; [kPointCols,
  /// kPointRows] each, but a [kPointRows]. From any thread.
  virtual void nearest_points(const float* /*x*/, const float* /*w*/, const float* /*a*/,
                              std::int8_t* /*q*/) const {}

  /// Scales and biases of a row, [groups()] each. Scales may be negative.
  virtual void read_groups(std::int64_t row, std::span<float> scales, std::span<float> biases) const = 0;
  /// Sets the codes of a row, one for each column. From any thread, for rows of its own.
  virtual void write_codes(std::int64_t row, std::span<const std::uint8_t> codes) = 0;

 private:
  std::int64_t groups_;
  std::int64_t group_;
  float largest_;
};

/// A PackedMatrix with all but its codes, which are overwritten.
class RoundedPacked final : public RoundedMatrix {
 public:
  explicit RoundedPacked(PackedMatrix& packed);
  void read_groups(std::int64_t row, std::span<float> scales, std::span<float> biases) const override;
  void write_codes(std::int64_t row, std::span<const std::uint8_t> codes) override;

 private:
  PackedMatrix& packed_;
};

/// 1 / scale, and 0 for a scale of 0, whose weights have code 0.
inline float inverse_of(float scale) { return scale != 0 ? 1 / scale : 0; }

/// The codes of levels() and the numbers between them from which on the upper one is nearer; empty where
/// every whole number is a code.
struct LevelTable {
  explicit LevelTable(std::span<const float> levels);
  std::vector<float> levels;
  std::vector<float> thresholds;  ///< one fewer
};

}  // namespace knapsaq
