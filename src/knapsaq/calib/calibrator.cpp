#include "knapsaq/calib/calibrator.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <utility>

#include <fmt/core.h>

#include "knapsaq/base/cancellation.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/not_finite_error.h"
#include "knapsaq/calib/expert_statistics.h"
#include "knapsaq/compute/tensor.h"
#include "knapsaq/model/architecture.h"

namespace knapsaq {
namespace {

/// Finite inputs may have squares that overflow.
void require_finite(const ObservedInput& input) {
  const double share = input.share();
  if (!std::ranges::all_of(input.sums.products,
                           [&](double sum) { return std::isfinite(static_cast<float>(sum * share)); }))
    throw NotFiniteError(fmt::format(
        "the input of '{}'{} is so large that its squares overflow: a weight before it is broken "
        "or too large",
        input.first.name, input.first.in_block() ? fmt::format(" in block {}", input.first.block) : ""));
}

}  // namespace

InputStatistics statistics_of(const ObservedInput& input) {
  const InputSums& sums = input.sums;
  const auto width = static_cast<std::size_t>(sums.width);
  const double share = input.share();
  InputStatistics statistics{.name = input.first.name,
                             .width = sums.width,
                             .tokens = sums.rows,
                             .mean_square = std::vector<float>(width),
                             .mean_abs = std::vector<float>(width),
                             .max_abs = sums.max_abs,
                             .second_moment = std::vector<float>(width * width)};
  const double* product = sums.products.data();
  for (std::size_t i = 0; i < width; ++i) {
    for (std::size_t j = 0; j <= i; ++j) {
      const auto value = static_cast<float>(*product++ * share);
      statistics.second_moment[i * width + j] = value;
      statistics.second_moment[j * width + i] = value;
    }
    statistics.mean_square[i] = statistics.second_moment[i * width + i];
    statistics.mean_abs[i] = static_cast<float>(sums.abs[i] * share);
  }
  return statistics;
}

Calibrator::Calibrator(const Checkpoint& checkpoint, const ModelConfig& config, const Samples& samples,
                       Backend& backend, Progress& progress)
    : checkpoint_(&checkpoint),
      progress_(progress),
      own_(Decoder::open(checkpoint, config, backend)),
      decoder_(&*own_) {
  decoder_->load_embedding(checkpoint);
  embed(samples);
  decoder_->unload_embedding();
}

Calibrator::Calibrator(Decoder& loaded, const Samples& samples, Progress& progress)
    : checkpoint_(nullptr), progress_(progress), decoder_(&loaded) {
  embed(samples);
}

void Calibrator::embed(const Samples& samples) {
  const std::int64_t length = samples.options.window;
  const std::int64_t batch = decoder_->windows_per_batch(length);
  const std::span<const std::int32_t> tokens = samples.tokens;
  for (std::int64_t first = 0; first < samples.options.samples; first += batch) {
    const std::int64_t count = std::min(batch, samples.options.samples - first);
    batches_.push_back(decoder_->embed(
        tokens.subspan(static_cast<std::size_t>(first * length), static_cast<std::size_t>(count * length)),
        count, length));
  }
}

std::vector<ObservedInput> Calibrator::measure(std::int64_t index) { return run(index, true); }

ObservedInput Calibrator::measure_head(const Matrix& head) {
  if (next_ != decoder_->config().layers) throw std::logic_error("the head before the last block");
  if (checkpoint_ != nullptr) decoder_->load_head(*checkpoint_);
  Backend& backend = decoder_->backend();
  ObservedInput observed{head, InputSums(head.in), 0};
  for (const Hidden& batch : batches_) {
    check_cancelled();
    Array x = backend.allocate(batch.tokens(), head.in, Element::working);
    decoder_->head_input(batch, x);
    backend.sum_inputs(x, batch.tokens(), observed.sums);
    progress_.advance(static_cast<std::uint64_t>(batch.windows));
  }
  if (checkpoint_ != nullptr) decoder_->unload_head();
  require_finite(observed);
  return observed;
}

void Calibrator::advance(std::int64_t index) { run(index, false); }

void Calibrator::explain(std::int64_t index, Hidden& batch, std::span<const float> before) {
  batch.state = decoder_->backend().upload(before, batch.tokens(), batch.state.cols());
  decoder_->look_for_not_finite(true);
  decoder_->block(index, batch);
  throw NotFiniteError(fmt::format("the output of block {} is not finite on this text", index));
}

std::vector<ObservedInput> Calibrator::run(std::int64_t index, bool look) {
  if (index != next_) throw std::logic_error(fmt::format("block {} before block {}", index, next_));
  if (checkpoint_ != nullptr) decoder_->load_block(*checkpoint_, index);
  std::vector<ObservedInput> inputs;
  std::size_t call = 0;
  const InputObserver observer = [&](const Matrix& first, const Array& x, std::int64_t rows) {
    if (call == inputs.size()) inputs.push_back({first, InputSums(first.in), 0});
    decoder_->backend().sum_inputs(x, rows, inputs[call++].sums);
  };
  Backend& backend = decoder_->backend();
  std::vector<float> before;
  std::vector<float> after;
  for (Hidden& batch : batches_) {
    check_cancelled();
    call = 0;
    before.resize(static_cast<std::size_t>(batch.tokens() * batch.state.cols()));
    after.resize(before.size());
    backend.download(batch.state, 0, before);
    decoder_->block(index, batch, look ? observer : InputObserver());
    // Any number inside a block that is not finite reaches the residual stream. Two copies and a check of it
    // cost nothing beside the products.
    backend.download(batch.state, 0, after);
    if (first_not_finite(after)) explain(index, batch, before);
    progress_.advance(static_cast<std::uint64_t>(batch.windows));
  }
  for (const ObservedInput& input : inputs) require_finite(input);
  lend_to_experts(inputs);
  if (checkpoint_ != nullptr) decoder_->unload_block(index);
  ++next_;
  return inputs;
}

}  // namespace knapsaq
