#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "knapsaq/checkpoint/checkpoint.h"
#include "knapsaq/compute/packed_matrix.h"
#include "knapsaq/export/writer.h"
#include "knapsaq/model/architecture.h"
#include "knapsaq/quant/scheme.h"

namespace knapsaq {

/// How to interpret the codes of an affine linear.
struct AffineForm {
  int bits = 0;
  int group = 0;           ///< 0: one group per row
  bool symmetric = false;  ///< every zero point is 2^(bits-1)

  // clang-tidy 14 sees the zero with which the compiler compares.
  friend auto operator<=>(const AffineForm&,
                          const AffineForm&) = default;  // NOLINT(modernize-use-nullptr)
};

/// How an affine format writes one matrix.
struct PlannedLinear {
  Matrix linear;
  bool quantized = false;  ///< false: dense in the export; the other fields are then unused
  bool unpacked = false;   ///< quantized in the model, and dense in the export: written in F16
  AffineForm form;
  std::optional<Scheme> refit;  ///< the scheme in which it is requantized; empty: carried exactly
};

/// The rules of a format that stores affine linears.
struct AffineRules {
  /// The reason why the format cannot hold this matrix: a clause that says what is wrong and what would work.
  /// Empty if it can.
  std::function<std::string(const PackedMatrix&)> obstacle;
  bool integer_zeros = true;  ///< false: zero points may be any number
  bool row_groups = true;     ///< the format can hold one group per row
  bool ends = false;          ///< the format can hold embedding and head
  /// Widths that its readers support, ascending; the last is 8.
  std::span<const int> widths = kAffineWidths;
};

/// Reads every matrix of the model and decides how to write it. Adds a line to `changes` for each that is
/// requantized. Throws UsageError, naming the first linear that the format cannot hold, unless
/// options.requantize is set and would help; also for a model without any quantized linear.
std::vector<PlannedLinear> plan_linears(const Checkpoint& model, const ModelConfig& config,
                                        std::string_view format, const AffineRules& rules,
                                        const ExportOptions& options, std::vector<std::string>& changes,
                                        Progress& progress);

/// The matrix as planned: the model's, or the requantized one.
PackedMatrix load_planned(const Checkpoint& model, const PlannedLinear& planned);

/// Empty, or a note for people that names the first linears that engines run as one matrix but that have
/// different forms, so that these engines cannot load the model.
std::string fusion_note(const std::vector<PlannedLinear>& plan);

/// The most frequent form among the quantized linears: the top level of a config.
AffineForm usual_form(const std::vector<PlannedLinear>& plan);

}  // namespace knapsaq
