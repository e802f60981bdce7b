#include "knapsaq/search/amq/mlp.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "knapsaq/base/cancellation.h"
#include "knapsaq/base/progress.h"
#include "knapsaq/base/threads.h"
#include "knapsaq/quant/blas.h"

namespace knapsaq {
namespace {

// As in the paper.
constexpr double kFirstDecay = 0.9;
constexpr double kSecondDecay = 0.999;
constexpr double kEpsilon = 1e-8;
// Rows and columns of one task. The order of sums does not depend on them, only which thread computes which.
constexpr std::size_t kPieceRows = 64;
constexpr std::size_t kPieceCols = 64;

std::int64_t signed_size(std::size_t size) { return static_cast<std::int64_t>(size); }

/// Calls fn(first, count) for pieces of [0, count) on all threads.
template <class Function>
void for_pieces(std::size_t count, std::size_t piece, Function&& fn) {
  parallel_for((count + piece - 1) / piece,
               [&](std::size_t i) { fn(i * piece, std::min(piece, count - i * piece)); });
}

}  // namespace

Mlp::Mlp(std::size_t variables, const MlpOptions& options)
    : variables_(variables), options_(options), random_(options.seed) {
  std::size_t in = variables;
  std::size_t size = 0;
  for (std::size_t l = 0; l <= options.layers; ++l) {
    const std::size_t out = l < options.layers ? options.width : 1;
    layers_.push_back({in, out, size, size + in * out});
    size += in * out + out;
    in = out;
  }
  parameters_.resize(size);
  first_moments_.resize(size);
  second_moments_.resize(size);
  // PyTorch's default, which AMQ keeps: uniform within 1 / sqrt(inputs).
  for (const Layer& layer : layers_) {
    const double bound = 1 / std::sqrt(static_cast<double>(std::max<std::size_t>(layer.in, 1)));
    for (std::size_t i = layer.weights; i < layer.biases + layer.out; ++i)
      parameters_[i] = static_cast<float>(bound * (2 * random_.uniform() - 1));
  }
}

std::vector<std::vector<float>> Mlp::forward(std::span<const float> points, std::size_t count) const {
  std::vector<std::vector<float>> activations{{points.begin(), points.end()}};
  for (std::size_t l = 0; l < layers_.size(); ++l) {
    const Layer& layer = layers_[l];
    std::vector<float> out(count * layer.out);
    const std::vector<float>& in = activations.back();
    for_pieces(count, kPieceRows, [&](std::size_t first, std::size_t rows) {
      for (std::size_t i = first; i < first + rows; ++i)
        std::copy_n(parameters_.begin() + signed_size(layer.biases), layer.out,
                    out.begin() + signed_size(i * layer.out));
      blas::add_product(signed_size(rows), signed_size(layer.out), signed_size(layer.in), 1.0f,
                        &in[first * layer.in], signed_size(layer.in), &parameters_[layer.weights],
                        signed_size(layer.out), &out[first * layer.out], signed_size(layer.out));
      if (l + 1 == layers_.size()) return;
      for (std::size_t i = first * layer.out; i < (first + rows) * layer.out; ++i)
        out[i] = std::max(out[i], 0.0f);
    });
    activations.push_back(std::move(out));
  }
  return activations;
}

double Mlp::loss(std::span<const float> points, std::span<const float> targets,
                 std::vector<float>& gradient) const {
  const std::size_t count = targets.size();
  const std::vector<std::vector<float>> activations = forward(points, count);
  gradient.assign(parameters_.size(), 0);
  double loss = 0;
  std::vector<float> slope(count);  // gradient of the loss with respect to the layer's output
  for (std::size_t i = 0; i < count; ++i) {
    const float error = activations.back()[i] - targets[i];
    const float size = std::abs(error);
    loss += size < 1 ? 0.5 * static_cast<double>(error) * static_cast<double>(error)
                     : static_cast<double>(size) - 0.5;
    slope[i] = std::clamp(error, -1.0f, 1.0f) / static_cast<float>(count);
  }
  for (std::size_t l = layers_.size(); l-- > 0;) {
    const Layer& layer = layers_[l];
    const std::vector<float>& in = activations[l];
    for_pieces(layer.in, kPieceCols, [&](std::size_t first, std::size_t cols) {
      blas::add_transposed_product(signed_size(cols), signed_size(layer.out), signed_size(count), 1.0f,
                                   &in[first], signed_size(layer.in), slope.data(), signed_size(layer.out),
                                   &gradient[layer.weights + first * layer.out], signed_size(layer.out));
    });
    for (std::size_t i = 0; i < count; ++i)
      for (std::size_t j = 0; j < layer.out; ++j) gradient[layer.biases + j] += slope[i * layer.out + j];
    if (l == 0) break;
    std::vector<float> below(count * layer.in);
    for_pieces(count, kPieceRows, [&](std::size_t first, std::size_t rows) {
      blas::subtract_product(signed_size(rows), signed_size(layer.in), signed_size(layer.out),
                             &slope[first * layer.out], signed_size(layer.out), &parameters_[layer.weights],
                             signed_size(layer.out), &below[first * layer.in], signed_size(layer.in));
      for (std::size_t i = first * layer.in; i < (first + rows) * layer.in; ++i)
        below[i] = in[i] > 0 ? -below[i] : 0.0f;
    });
    slope = std::move(below);
  }
  return loss / static_cast<double>(count);
}

void Mlp::train(std::int64_t steps) {
  std::vector<float> points(options_.batch * variables_);
  std::vector<float> targets(options_.batch);
  std::vector<float> gradient;
  for (std::int64_t step = 0; step < steps; ++step) {
    check_cancelled();
    for (std::size_t i = 0; i < options_.batch; ++i) {
      const std::size_t one = random_.below(values_.size());
      std::copy_n(points_.begin() + signed_size(one * variables_), variables_,
                  points.begin() + signed_size(i * variables_));
      targets[i] = static_cast<float>((values_[one] - mean_) / deviation_);
    }
    loss(points, targets, gradient);
    ++steps_;
    const double progress = static_cast<double>(step) / static_cast<double>(steps);
    const double rate = options_.rate * 0.5 * (1 + std::cos(std::numbers::pi * progress));
    const double first = 1 - std::pow(kFirstDecay, static_cast<double>(steps_));
    const double second = 1 - std::pow(kSecondDecay, static_cast<double>(steps_));
    const auto scale = static_cast<float>(rate * std::sqrt(second) / first);
    const auto epsilon = static_cast<float>(kEpsilon * std::sqrt(second));
    const auto keep_first = static_cast<float>(kFirstDecay);
    const auto keep_second = static_cast<float>(kSecondDecay);
    for (std::size_t i = 0; i < parameters_.size(); ++i) {
      first_moments_[i] = keep_first * first_moments_[i] + (1 - keep_first) * gradient[i];
      second_moments_[i] = keep_second * second_moments_[i] + (1 - keep_second) * gradient[i] * gradient[i];
      parameters_[i] -= scale * first_moments_[i] / (std::sqrt(second_moments_[i]) + epsilon);
    }
  }
}

void Mlp::add(std::span<const double> points, std::span<const double> values) {
  if (values.empty()) return;
  const bool first = values_.empty();
  for (const double x : points) points_.push_back(static_cast<float>(x));
  values_.insert(values_.end(), values.begin(), values.end());
  if (first) {  // kept from then on: the weights are trained for this scale
    for (const double value : values) mean_ += value / static_cast<double>(values.size());
    double squares = 0;
    for (const double value : values) squares += (value - mean_) * (value - mean_);
    deviation_ = std::sqrt(squares / static_cast<double>(values.size()));
    if (!(deviation_ > 0)) deviation_ = 1;
  }
  train(first ? options_.first_steps : options_.more_steps);
}

std::vector<double> Mlp::predict(std::span<const double> points) const {
  const std::size_t count = variables_ == 0 ? 0 : points.size() / variables_;
  std::vector<float> inputs;
  inputs.reserve(points.size());
  for (const double x : points) inputs.push_back(static_cast<float>(x));
  const std::vector<std::vector<float>> activations = forward(inputs, count);
  std::vector<double> result;
  for (const float value : activations.back())
    result.push_back(mean_ + deviation_ * static_cast<double>(value));
  return result;
}

}  // namespace knapsaq
