#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "knapsaq/calib/input_statistics.h"
#include "knapsaq/model/architecture.h"
#include "knapsaq/model/folding.h"
#include "knapsaq/quant/quantizer.h"

namespace knapsaq {

/// The statistics of x / s, given those of x: means of squares and products are divided by s twice.
/// scales.size() == width; without scales, the same statistics.
InputStatistics scaled(InputStatistics inputs, std::span<const float> scales);

/// A folding's divisors of the linear's outputs; empty if there are none, or `folding` is null.
std::vector<float> scales_of_outputs(const Folding* folding, const Matrix& linear);

/// The statistics of the gradients by y / s, given those by y: means of squares and products are multiplied
/// by s twice. scales.size() == width; without scales, the same statistics.
OutputStatistics of_divided_outputs(OutputStatistics outputs, std::span<const float> scales);

/// The statistics of the gradients by the linear's outputs after the folding, for a method whose codes depend
/// on them; nothing if it is not such a method, or they are unknown. A matrix that is looked up has outputs
/// of two kinds, which no method weighs. `inputs` and `folding` may be null.
std::optional<OutputStatistics> weighed_outputs(const Quantizer& method, const Matrix& linear,
                                                const InputSource* inputs, const Folding* folding);

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
