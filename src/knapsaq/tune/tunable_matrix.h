#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "knapsaq/compute/stored_matrix.h"

namespace knapsaq {

/// The numbers that a quantized matrix stores beside its codes, as something that can be tuned: scales and
/// biases of groups, their second level, the factors of GGML's blocks and sub-blocks, NF4's absmax. Codes
/// stay.
///
/// Every number is start + unit * p. Its parameter p is 0 in the beginning, and the sum is rounded to what
/// the file holds of it, so that the matrix is at any time what would be written, and with all parameters 0
/// the one that it was made from. The unit of a scale is the scale itself times 2^(2 - bits), that of a bias
/// the scale of its group times as much: the finer the codes, the less a weight moves at the same p. A scale
/// of 0 stays. A scale turns the weights of its group around that of the middle code: its bias goes along.
class TunableMatrix {
 public:
  virtual ~TunableMatrix() = default;

  /// With the numbers of the last set().
  const StoredMatrix& matrix() const { return matrix_; }
  std::size_t parameters() const { return start_.size(); }
  /// By how much a parameter of 1 moves number `i`.
  float unit(std::size_t i) const { return unit_[i]; }

  /// The gradient by the parameters needs only some sums over the gradient by the weights of each group. They
  /// do not depend on the parameters and can be added up, row after row and batch after batch.
  virtual std::size_t sums() const = 0;
  /// Adds row `row` of the gradient by the weights, [cols]. Rows may come in any order and more than once.
  virtual void add_sums(std::int64_t row, std::span<const float> gradient, std::span<float> sums) const = 0;
  /// Calls for rows of different multiples of this may run at the same time: rows that share a group are
  /// within one.
  virtual std::int64_t rows_together() const { return 1; }

  /// The gradient by the parameters where they are, [parameters()]; rounding is passed through as if it were
  /// not there (straight-through estimator, Bengio et al. 2013, arXiv:1308.3432).
  virtual void gradient(std::span<const float> sums, std::span<float> out) const = 0;
  /// Replaces the numbers by those of these parameters.
  virtual void set(std::span<const float> parameters) = 0;

 protected:
  explicit TunableMatrix(StoredMatrix matrix) : matrix_(std::move(matrix)) {}
  void add(float start, float unit) {
    start_.push_back(start);
    unit_.push_back(unit);
  }
  float value(std::size_t i, std::span<const float> parameters) const {
    return start_[i] + unit_[i] * parameters[i];
  }

  StoredMatrix matrix_;
  std::vector<float> start_;
  std::vector<float> unit_;
};

/// `matrix` has passed check(). Where all zero points are whole numbers they stay, and the biases follow the
/// scales: what formats with such zero points can hold, they can hold afterwards.
std::unique_ptr<TunableMatrix> make_tunable(StoredMatrix matrix);

/// The unit of a number that is relative to `size`, in a matrix with codes of so many bits: size 2^(2 -
/// bits). So one learning rate moves weights of any width by the same part of the distance that coding them
/// has cost.
float tuning_unit(float size, int bits);

/// The nearest fp16 number that is not infinite.
std::uint16_t nearest_half(float value);

}  // namespace knapsaq
