#include "knapsaq/calib/calibrator.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <utility>

#include <fmt/core.h>

#include "knapsaq/base/error.h"

namespace knapsaq {
namespace {

/// NaN and infinity in an input spoil the sum of its absolute values; squares may overflow on their own.
void require_finite(const ObservedInput& input) {
  const auto all_finite = [&](const std::vector<double>& sums) {
    const double share = 1.0 / static_cast<double>(input.sums.rows);
    return std::all_of(sums.begin(), sums.end(),
                       [&](double sum) { return std::isfinite(static_cast<float>(sum * share)); });
  };
  if (!all_finite(input.sums.abs))
    throw InputError(
        fmt::format("the input of linear '{}' holds NaN or infinity on this text: the model is broken, or "
                    "needs --precision fp32",
                    input.first.name));
  if (!all_finite(input.sums.products))
    throw InputError(
        fmt::format("the input of linear '{}' is so large that its squares overflow: the model is broken",
                    input.first.name));
}

}  // namespace

InputStatistics statistics_of(const ObservedInput& input) {
  const InputSums& sums = input.sums;
  const auto width = static_cast<std::size_t>(sums.width);
  const double share = sums.rows == 0 ? 0 : 1.0 / static_cast<double>(sums.rows);
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
    : checkpoint_(checkpoint), progress_(progress), decoder_(Decoder::open(checkpoint, config, backend)) {
  const std::int64_t length = samples.options.window;
  const std::int64_t batch = Decoder::windows_per_batch(length);
  decoder_.load_embedding(checkpoint);
  const std::span<const std::int32_t> tokens = samples.tokens;
  for (std::int64_t first = 0; first < samples.options.samples; first += batch) {
    const std::int64_t count = std::min(batch, samples.options.samples - first);
    batches_.push_back(decoder_.embed(
        tokens.subspan(static_cast<std::size_t>(first * length), static_cast<std::size_t>(count * length)),
        count, length));
  }
  decoder_.unload_embedding();
}

std::vector<ObservedInput> Calibrator::measure(std::int64_t index) { return run(index, true, true); }

std::vector<InputStatistics> Calibrator::observe(std::int64_t index) {
  std::vector<InputStatistics> statistics;
  for (const ObservedInput& input : run(index, true, false)) statistics.push_back(statistics_of(input));
  return statistics;
}

void Calibrator::advance(std::int64_t index) { run(index, false, true); }

std::vector<ObservedInput> Calibrator::run(std::int64_t index, bool look, bool move) {
  if (index != next_) throw std::logic_error(fmt::format("block {} before block {}", index, next_));
  if (loaded_ != index) {
    decoder_.load_block(checkpoint_, index);
    loaded_ = index;
  }
  std::vector<ObservedInput> inputs;
  std::size_t call = 0;
  const InputObserver observer = [&](const Linear& first, const Array& x, std::int64_t rows) {
    if (call == inputs.size()) inputs.push_back({first, InputSums(first.in)});
    decoder_.backend().sum_inputs(x, rows, inputs[call++].sums);
  };
  for (Hidden& batch : batches_) {
    check_cancelled();
    call = 0;
    Backend& backend = decoder_.backend();
    std::vector<float> before;
    if (!move) {
      before.resize(static_cast<std::size_t>(batch.tokens() * batch.state.cols()));
      backend.download(batch.state, 0, before);
    }
    decoder_.block(index, batch, look ? observer : InputObserver());
    if (!move) batch.state = backend.upload(before, batch.tokens(), batch.state.cols());
    progress_.advance(static_cast<std::uint64_t>(batch.windows));
  }
  for (const ObservedInput& input : inputs) require_finite(input);
  if (move) {
    decoder_.unload_block(index);
    loaded_ = -1;
    ++next_;
  }
  return inputs;
}

}  // namespace knapsaq
