#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "knapsaq/base/random.h"
#include "knapsaq/search/amq/predictor.h"

namespace knapsaq {

struct MlpOptions {
  std::size_t layers = 3;           ///< hidden ones
  std::size_t width = 300;          ///< of each
  double rate = 8e-4;               ///< Adam's, falling to 0 along a cosine within every add()
  std::size_t batch = 128;          ///< points of one step
  std::int64_t first_steps = 2000;  ///< of the first add()
  std::int64_t more_steps = 200;    ///< of every later one, which continues from the current weights
  std::uint64_t seed = 1;
};

/// AMQ's other predictor: a perceptron with hidden layers of rectified linear units, trained by Adam (Kingma
/// and Ba, 2015) on the smooth L1 loss. Values are standardised for training. AMQ trains 2000 passes over all
/// points, from scratch in every round, on a GPU, with dropout and a validation split. This one continues its
/// training on batches drawn from all points, which a CPU can afford.
class Mlp : public Predictor {
 public:
  Mlp(std::size_t variables, const MlpOptions& options);

  void add(std::span<const double> points, std::span<const double> values) override;
  std::vector<double> predict(std::span<const double> points) const override;

  /// Smooth L1 loss of standardised values on a batch [targets.size(), variables], and its gradient with
  /// respect to parameters().
  double loss(std::span<const float> points, std::span<const float> targets,
              std::vector<float>& gradient) const;
  std::span<float> parameters() { return parameters_; }

 private:
  struct Layer {
    std::size_t in = 0;
    std::size_t out = 0;
    std::size_t weights = 0;  ///< where its [in, out] begin in parameters_
    std::size_t biases = 0;   ///< where its [out] begin
  };
  /// Activations of every layer, the input first, for `count` points.
  std::vector<std::vector<float>> forward(std::span<const float> points, std::size_t count) const;
  void train(std::int64_t steps);

  std::size_t variables_;
  MlpOptions options_;
  std::vector<Layer> layers_;
  std::vector<float> parameters_;
  std::vector<float> first_moments_;
  std::vector<float> second_moments_;
  std::int64_t steps_ = 0;
  Random random_;
  std::vector<float> points_;
  std::vector<double> values_;
  double mean_ = 0;
  double deviation_ = 1;
};

}  // namespace knapsaq
