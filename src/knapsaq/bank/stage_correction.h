#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string_view>
#include <vector>

#include "knapsaq/bank/paired_streams.h"
#include "knapsaq/calib/input_statistics.h"
#include "knapsaq/quant/input_correction.h"
#include "knapsaq/quant/quantizer.h"

namespace knapsaq {

/// The corrected weights of the matrices of a stage, and their codes.
///
/// With the sums over all windows, D1 and D2 are InputCorrection's changes of weights W for the wanted
/// outputs t1 = W (x - y), the error of the input, and t2 = r - s, the error of the residual stream (o and
/// down alone). The corrected weights are W + a D1 + b D2. The shares a and b are those, within [0,
/// most_share], with which the changes that the windows of PairedInputs::fit ask for leave least of |t1 + t2
/// - a D1 y - b D2 y|^2 on the windows of PairedInputs::judge: what few windows teach about wide inputs is
/// noise in part, and the shares leave that much out.
class StageCorrection {
 public:
  /// Takes about 36 in^2 bytes, and 4 H in.
  StageCorrection(PairedInputs inputs, double most_share);

  /// [out, in]
  std::vector<float> corrected(const MatrixView& weights) const;
  /// The codes of corrected(weights) with the statistics of y over all windows and, unless null, with those
  /// of the matrix's outputs. Throws like Quantizer::quantize().
  StoredMatrix quantize(const MatrixView& weights, const Scheme& scheme, const OutputStatistics* outputs);

 private:
  struct Shares {
    double input = 0;
    double residual = 0;
  };
  /// `fit` and `judge`: W C for the C of both parts.
  Shares best_shares(std::int64_t rows, std::vector<float> fit, std::vector<float> judge) const;

  /// The errors of PairedSums of both parts.
  std::vector<float> fit_errors_, fit_residual_, judge_errors_, judge_residual_;
  double most_share_;
  InputStatistics statistics_;
  InputCorrection of_fit_;
  InputCorrection of_all_;
  std::vector<float> judge_moments_;  ///< [in, in] sum y y^T of the part that judges
  std::map<std::string_view, std::unique_ptr<const PreparedInputs>> prepared_;  ///< by preparation()
};

}  // namespace knapsaq
