#include "knapsaq/calib/gradient_calibrator.h"

#include <algorithm>
#include <cmath>
#include <span>
#include <stdexcept>
#include <unordered_map>
#include <utility>

#include <fmt/core.h>

#include "knapsaq/base/cancellation.h"
#include "knapsaq/base/not_finite_error.h"
#include "knapsaq/base/random.h"
#include "knapsaq/calib/expert_statistics.h"
#include "knapsaq/model/architecture.h"

namespace knapsaq {
namespace {

// Other numbers than those of the windows' places, which come from the same seed.
constexpr std::uint64_t kDraws = 0x6669736865720000u;
ObservedOutput nothing_observed(std::string name, std::int64_t width, bool products) {
  ObservedOutput output{.name = std::move(name), .width = width, .tokens = 0, .squares = {}, .products = {}};
  if (products)
    output.products.emplace(width);
  else
    output.squares.resize(static_cast<std::size_t>(width));
  return output;
}

void observe(Backend& backend, const Array& gradient, std::int64_t rows, ObservedOutput& output) {
  output.tokens += static_cast<std::uint64_t>(rows);
  if (output.products) {
    backend.sum_inputs(gradient, rows, *output.products);
    return;
  }
  std::vector<double> abs(output.squares.size());
  backend.add_column_sums(gradient, rows, abs, output.squares);
}

/// The gradient by logits is p_k, less 1 for the target: the expectation of its square over targets is p_k (1
/// - p_k) = |g_k| - g_k^2, whichever was drawn.
void observe_logits(Backend& backend, const Array& gradient, std::int64_t rows, ObservedOutput& output) {
  output.tokens += static_cast<std::uint64_t>(rows);
  std::vector<double> abs(output.squares.size());
  std::vector<double> squares(output.squares.size());
  backend.add_column_sums(gradient, rows, abs, squares);
  // A probability of 1 may be off by rounding.
  for (std::size_t k = 0; k < abs.size(); ++k) output.squares[k] += std::max(0.0, abs[k] - squares[k]);
}

void require_finite(const ObservedOutput& output) {
  const auto is_finite = [](double sum) { return std::isfinite(static_cast<float>(sum)); };
  const std::vector<double>& sums = output.products ? output.products->products : output.squares;
  if (!std::ranges::all_of(sums, is_finite))
    throw NotFiniteError(fmt::format(
        "the gradients by the output of '{}' are not finite or too large: a weight is broken or too large",
        output.name));
}

}  // namespace

GradientCalibrator::GradientCalibrator(const Checkpoint& checkpoint, const ModelConfig& config,
                                       const Samples& samples, std::int64_t windows, Backend& backend,
                                       Progress& progress)
    : checkpoint_(&checkpoint),
      progress_(progress),
      own_(Decoder::open(checkpoint, config, backend)),
      decoder_(&*own_) {
  forward(samples, windows);
}

GradientCalibrator::GradientCalibrator(Decoder& loaded, const Samples& samples, std::int64_t windows,
                                       Progress& progress)
    : checkpoint_(nullptr), progress_(progress), decoder_(&loaded) {
  forward(samples, windows);
}

void GradientCalibrator::forward(const Samples& samples, std::int64_t windows) {
  Random random(samples.options.seed ^ kDraws);
  const std::int64_t length = samples.options.window;
  for (std::int64_t i = 0; i < windows * length; ++i) draws_.push_back(random.uniform());

  Backend& backend = decoder_->backend();
  if (checkpoint_ != nullptr) decoder_->load_embedding(*checkpoint_);
  const std::int64_t batch = decoder_->windows_per_batch(length);
  const std::span<const std::int32_t> tokens = samples.tokens;
  std::vector<Hidden> now;
  for (std::int64_t first = 0; first < windows; first += batch) {
    const std::int64_t count = std::min(batch, windows - first);
    now.push_back(decoder_->embed(
        tokens.subspan(static_cast<std::size_t>(first * length), static_cast<std::size_t>(count * length)),
        count, length));
  }
  if (checkpoint_ != nullptr) decoder_->unload_embedding();
  for (std::int64_t index = 0; index < decoder_->config().layers; ++index) {
    if (checkpoint_ != nullptr) decoder_->load_block(*checkpoint_, index);
    std::vector<Hidden>& kept = before_.emplace_back();
    for (Hidden& one : now) {
      check_cancelled();
      Hidden copy{backend.allocate(one.tokens(), one.state.cols(), Element::full), one.windows, one.length};
      backend.copy(one.state, one.tokens(), copy.state);
      kept.push_back(std::move(copy));
      decoder_->block(index, one);
      progress_.advance(static_cast<std::uint64_t>(one.windows));
    }
    if (checkpoint_ != nullptr) decoder_->unload_block(index);
  }
  before_.push_back(std::move(now));
  next_ = decoder_->config().layers;
}

ObservedOutput GradientCalibrator::head() {
  if (next_ != decoder_->config().layers || !gradients_.empty())
    throw std::logic_error("gradients by the head come first, once");
  ObservedOutput output = nothing_observed(std::string(kHeadModule), decoder_->config().vocab, false);
  const GradientObserver observer{
      .matrix = [&](const Matrix&, const Array&, const Array& gradient, std::int64_t,
                    std::int64_t rows) { observe_logits(decoder_->backend(), gradient, rows, output); },
      .norm = {}};
  if (checkpoint_ != nullptr) decoder_->load_head(*checkpoint_);
  std::size_t first = 0;
  std::vector<float> losses;
  for (const Hidden& batch : before_.back()) {
    check_cancelled();
    const auto rows = static_cast<std::size_t>(batch.tokens());
    losses.resize(rows);
    const LossTargets targets{.draws = std::span(draws_).subspan(first, rows)};
    gradients_.push_back(decoder_->head_backward(batch, targets, losses, observer));
    first += rows;
    progress_.advance(static_cast<std::uint64_t>(batch.windows));
  }
  if (checkpoint_ != nullptr) decoder_->unload_head();
  before_.pop_back();
  --next_;
  require_finite(output);
  return output;
}

std::vector<ObservedOutput> GradientCalibrator::block(std::int64_t index, bool look) {
  if (index != next_ || gradients_.empty() || index < 0)
    throw std::logic_error(fmt::format("gradients by block {} before block {}", index, next_));
  if (checkpoint_ != nullptr) decoder_->load_block(*checkpoint_, index);
  std::vector<ObservedOutput> outputs;
  std::unordered_map<std::size_t, std::size_t> places;  // in `outputs`, by the matrices' numbers
  GradientObserver observer;
  if (look)
    observer.matrix = [&](const Matrix& matrix, const Array&, const Array& gradient, std::int64_t,
                          std::int64_t rows) {
      const auto [place, is_new] = places.try_emplace(matrix.number, outputs.size());
      if (is_new) outputs.push_back(nothing_observed(matrix.name, matrix.out, matrix.out <= kWidestOutput));
      observe(decoder_->backend(), gradient, rows, outputs[place->second]);
    };
  std::uint64_t tokens = 0;
  for (std::size_t b = 0; b < gradients_.size(); ++b) {
    check_cancelled();
    const Hidden& batch = before_.back()[b];
    tokens += static_cast<std::uint64_t>(batch.tokens());
    decoder_->block_backward(index, batch, gradients_[b], observer);
    progress_.advance(static_cast<std::uint64_t>(batch.windows));
  }
  if (checkpoint_ != nullptr) decoder_->unload_block(index);
  // The embedding needs to know how many tokens there are, not what they were.
  if (index > 0) before_.pop_back();
  --next_;
  for (const ObservedOutput& output : outputs) require_finite(output);
  if (look && layer_config(decoder_->config(), index).is_mixture())
    spread_over_tokens(outputs, matrices(decoder_->config()), tokens);
  return outputs;
}

ObservedOutput GradientCalibrator::embedding() {
  if (next_ != -1) throw std::logic_error("gradients by the embedding come last");
  const Matrix matrix = matrices(decoder_->config()).front();
  ObservedOutput output = nothing_observed(matrix.name, matrix.in, matrix.in <= kWidestOutput);
  const GradientObserver observer{
      .matrix = [&](const Matrix&, const Array&, const Array& gradient, std::int64_t,
                    std::int64_t rows) { observe(decoder_->backend(), gradient, rows, output); },
      .norm = {}};
  if (checkpoint_ != nullptr) decoder_->load_embedding(*checkpoint_);
  for (std::size_t b = 0; b < gradients_.size(); ++b) {
    check_cancelled();
    const Hidden& batch = before_.back()[b];
    decoder_->embed_backward(gradients_[b], batch.tokens(), observer);
    progress_.advance(static_cast<std::uint64_t>(batch.windows));
  }
  if (checkpoint_ != nullptr) decoder_->unload_embedding();
  require_finite(output);
  return output;
}

}  // namespace knapsaq
