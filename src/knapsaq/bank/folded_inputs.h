#pragma once

#include <span>
#include <string>
#include <string_view>

#include "knapsaq/calib/input_statistics.h"
#include "knapsaq/model/folding.h"

namespace knapsaq {

/// The statistics of x / s, given those of x: means of squares and products are divided by s twice.
/// scales.size() == width; without scales, the same statistics.
InputStatistics scaled(InputStatistics inputs, std::span<const float> scales);

/// The statistics of the gradients by y / s, given those by y: means of squares and products are multiplied
/// by s twice. scales.size() == width; without scales, the same statistics.
OutputStatistics of_divided_outputs(OutputStatistics outputs, std::span<const float> scales);

/// The inputs of linears after a folding. Both arguments must outlive this.
class FoldedInputs final : public InputSource {
 public:
  FoldedInputs(const InputSource& source, const Folding& folding) : source_(source), folding_(folding) {}
  InputStatistics inputs(std::string_view matrix, std::int64_t width) const override;
  RowShares row_shares(std::int64_t rows) const override { return source_.row_shares(rows); }
  /// Those of the outputs without folding.
  std::optional<OutputStatistics> outputs(std::string_view matrix, std::int64_t width) const override {
    return source_.outputs(matrix, width);
  }
  bool has_outputs() const override { return source_.has_outputs(); }
  bool has_second_moments() const override { return source_.has_second_moments(); }
  /// The identity of the source: a bank records the folding separately.
  std::string identity() const override { return source_.identity(); }

 private:
  const InputSource& source_;
  const Folding& folding_;
};

}  // namespace knapsaq
