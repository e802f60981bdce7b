#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "knapsaq/family/config.h"

namespace knapsaq {

/// A place where the input x of some linears can be divided by a vector s, and their columns multiplied by
/// it, without changing the model's results: the preceding module is divided by s (AWQ, Lin et al. 2023,
/// section 3.2).
struct FoldPoint {
  std::string name;   ///< of the module whose output is divided: a norm, or a linear (its rows and bias)
  bool norm = false;  ///< a norm: weight and, if it has one, bias
  std::int64_t block = 0;
  std::int64_t width = 0;            ///< numbers of s
  std::vector<std::string> linears;  ///< module paths, in forward order, whose columns are multiplied
};

/// All fold points, in the order of the forward pass:
///   q/k/v <- the norm before them          gate/up, fc1 <- the norm before them
///   o <- v, if every query head has its own key head (each value feeds one column of o)
///   down <- up                             fc2 <- fc1, if the activation is ReLU (relu(x / s) = relu(x) / s)
/// Scales cannot be folded into norms without weights and norms after a half block (OPT-350m: their output is
/// the residual stream too).
std::vector<FoldPoint> fold_points(const ModelConfig& config);

/// Scales for some or all fold points of a model. An empty folding changes nothing.
class Folding {
 public:
  Folding() = default;
  /// `model` is the fingerprint() of the checkpoint. `origin` says how the scales were found, for people and
  /// for comparison. There are no scales yet.
  Folding(const ModelConfig& config, std::string model, std::string origin);

  /// s of the fold point `name`. Throws InputError if there is no such point, for another width, and for
  /// scales that are not positive and finite.
  void set(std::string_view name, std::vector<float> scales);

  bool empty() const { return scales_.empty(); }
  const std::string& model() const { return model_; }
  const std::string& origin() const { return origin_; }
  /// A hash of model, origin and all scales, 32 hexadecimal digits; "" for an empty folding. A bank records
  /// it.
  std::string identity() const;

  /// The factors by which the columns of `linear` are multiplied and its input is divided; empty if there are
  /// none.
  std::span<const float> input_scales(std::string_view linear) const;
  /// Whether apply() changes the tensor.
  bool touches(std::string_view tensor) const;
  /// Folds the values of a whole tensor (a canonical name: weights and biases of linears and norms), in
  /// place. Throws std::invalid_argument for sizes that the model does not have.
  void apply(std::string_view tensor, std::span<float> values) const;

  /// A safetensors file: one F32 vector per fold point, named after it, and `about`, U8, the rest as JSON.
  void save(const std::filesystem::path& path) const;
  /// Throws InputError for a file that is damaged or belongs to another model than `model`.
  static Folding load(const std::filesystem::path& path, const ModelConfig& config, std::string_view model);

 private:
  std::string model_;
  std::string origin_;
  std::map<std::string, std::int64_t, std::less<>> widths_;   ///< of all fold points
  std::map<std::string, std::string, std::less<>> point_of_;  ///< by linear: where its columns' s is
  std::map<std::string, std::vector<float>, std::less<>> scales_;
};

}  // namespace knapsaq
