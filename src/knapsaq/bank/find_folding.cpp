#include "knapsaq/bank/find_folding.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "knapsaq/bank/folded_inputs.h"
#include "knapsaq/base/cancellation.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/float16.h"
#include "knapsaq/base/threads.h"
#include "knapsaq/model/architecture.h"
#include "knapsaq/model/decoder.h"
#include "knapsaq/quant/local_errors.h"
#include "knapsaq/quant/quantizer.h"

namespace knapsaq {
namespace {

constexpr int kRatios = 20;

// Inputs smaller than this fraction of the mean count as that large. llm-awq only keeps scales above 1e-4. A
// channel that the samples almost never activate (a ReLU that is nearly always 0) would then have a scale so
// small that its weights are rounded to nothing or to a hundred times their size. The first text that does
// activate it suffers: on wiki-opt-3m at 3 bits, the perplexity is 122 instead of 96.
constexpr float kSmallestInput = 0.1f;

std::vector<float> scales_for(std::span<const float> mean_abs, int ratio) {
  const float alpha = static_cast<float>(ratio) / kRatios;
  double mean = 0;
  for (const float x : mean_abs) mean += static_cast<double>(x);
  const float least_input = kSmallestInput * static_cast<float>(mean / static_cast<double>(mean_abs.size()));
  std::vector<float> scales(mean_abs.size(), 1.0f);
  // No input at all: nothing distinguishes the channels.
  if (!(least_input > 0)) return scales;
  for (std::size_t k = 0; k < scales.size(); ++k)
    scales[k] = std::pow(std::max(mean_abs[k], least_input), alpha);
  const auto [least, most] = std::ranges::minmax(scales);
  const float middle = std::sqrt(least * most);
  for (float& s : scales) s /= middle;
  return scales;
}

float rounded_to(DType type, float value) {
  if (type == DType::F16) return half_to_float(float_to_half(value));
  if (type == DType::BF16) return bfloat16_to_float(float_to_bfloat16(value));
  return value;
}

/// A linear of the fold point that is searched.
struct Member {
  Matrix linear;
  std::vector<float> weights;
};

/// The inputs of a half block and its full-precision outputs.
struct HalfBlock {
  Array x;  ///< working
  std::vector<float> output;
};

class FoldingSearch {
 public:
  FoldingSearch(const Checkpoint& checkpoint, const ModelConfig& config, const InputSource& inputs,
                const Samples& samples, const Scheme& scheme, Backend& backend)
      : checkpoint_(checkpoint),
        config_(config),
        inputs_(inputs),
        scheme_(scheme),
        backend_(backend),
        decoder_(Decoder::open(checkpoint, config, backend)) {
    const std::int64_t length = samples.options.window;
    const std::int64_t windows =
        std::clamp<std::int64_t>(kFoldingTokens / length, 1, samples.options.samples);
    decoder_.load_embedding(checkpoint);
    hidden_ = decoder_.embed(std::span(samples.tokens).first(static_cast<std::size_t>(windows * length)),
                             windows, length);
    decoder_.unload_embedding();
    for (const Matrix& linear : linears(config)) linears_[linear.name] = linear;
  }

  /// Searches the fold points of one block, after those of all blocks before it.
  void run(std::int64_t block, std::span<const FoldPoint> points, Folding& folding, Progress& progress) {
    decoder_.load_block(checkpoint_, block);
    std::map<std::string, Array, std::less<>> seen;
    decoder_.block(block, hidden_, [&](const Matrix& first, const Array& x, std::int64_t rows) {
      const bool wanted = std::ranges::any_of(
          points, [&](const FoldPoint& point) { return point.norm && point.linears.front() == first.name; });
      if (wanted) seen[first.name] = copy(x, rows);
    });
    for (const FoldPoint& point : points) {
      std::vector<Member> members;
      for (const std::string& name : point.linears)
        members.push_back({linears_.at(name), checkpoint_.floats(name + ".weight")});
      const InputStatistics inputs = inputs_.inputs(point.linears.front(), point.width);
      std::optional<HalfBlock> half;
      if (point.norm) half = half_block(point, seen.at(point.linears.front()));
      int best = 0;
      double least = std::numeric_limits<double>::infinity();
      std::vector<double> plain;  // errors without scales
      for (int ratio = 0; ratio < kRatios; ++ratio) {
        check_cancelled();
        const std::vector<double> errors =
            errors_of(point, members, inputs, scales_for(inputs.mean_abs, ratio), half);
        progress.advance(1);
        if (ratio == 0) plain = errors;
        const double sum = relative_sum(errors, plain, half.has_value());
        if (!(sum < least)) continue;
        least = sum;
        best = ratio;
      }
      if (half) restore(point);
      if (best == 0) continue;
      std::vector<float> scales = scales_for(inputs.mean_abs, best);
      if (point.norm) make_exact(point, scales);
      folding.set(point.name, std::move(scales));
    }
    decoder_.unload_block(block);
  }

 private:
  Array copy(const Array& x, std::int64_t rows) {
    std::vector<float> values(static_cast<std::size_t>(rows * x.cols()));
    backend_.download(x, 0, values);
    Array out = backend_.allocate(rows, x.cols(), x.element());
    backend_.convert(backend_.upload(values, rows, x.cols()), rows, out);
    return out;
  }

  /// Or what a layer has instead.
  bool is_attention(const FoldPoint& point) const {
    const auto role = role_of(point.linears.front());
    return role == Role::q || role == Role::mixer_in;
  }

  std::vector<float> output(const FoldPoint& point, const Array& x) {
    const Array out = is_attention(point)
                          ? decoder_.attention_output(point.block, x, hidden_.windows, hidden_.length)
                          : decoder_.mlp_output(point.block, x, hidden_.tokens());
    std::vector<float> values(static_cast<std::size_t>(hidden_.tokens() * config_.hidden));
    backend_.download(out, 0, values);
    return values;
  }

  HalfBlock half_block(const FoldPoint& point, Array x) {
    std::vector<float> values = output(point, x);
    return {std::move(x), std::move(values)};
  }

  /// W s, quantized.
  std::pair<std::vector<float>, StoredMatrix> quantized(const Member& member,
                                                        std::span<const float> scales) const {
    std::vector<float> folded = member.weights;
    for (std::size_t i = 0; i < folded.size(); i += scales.size())
      for (std::size_t k = 0; k < scales.size(); ++k) folded[i + k] *= scales[k];
    StoredMatrix stored =
        quantize(member.linear.name, {member.linear.out, member.linear.in, folded}, scheme_);
    return {std::move(folded), std::move(stored)};
  }

  /// tr(dW H dW^T) of every member quantized with these scales, and the squared error of the half block's
  /// output if there is one.
  std::vector<double> errors_of(const FoldPoint& point, std::span<const Member> members,
                                const InputStatistics& inputs, std::span<const float> scales,
                                const std::optional<HalfBlock>& half) {
    const InputStatistics folded_inputs = scaled(inputs, scales);
    std::vector<double> errors;
    for (const Member& member : members) {
      auto [values, stored] = quantized(member, scales);
      const std::int64_t cols = member.linear.in;
      errors.push_back(local_errors({member.linear.out, cols, values}, stored, &folded_inputs).hessian);
      if (!half) continue;
      // Clang 14 does not let a lambda capture structured bindings implicitly.
      parallel_for(static_cast<std::size_t>(member.linear.out),
                   [&, &values = values, &stored = stored](std::size_t row) {
                     const auto width = static_cast<std::size_t>(cols);
                     const std::span<float> out = std::span(values).subspan(row * width, width);
                     dequantize_row(stored, static_cast<std::int64_t>(row), out);
                     for (std::size_t k = 0; k < width; ++k) out[k] /= scales[k];
                   });
      decoder_.replace(member.linear.name,
                       TensorView{DType::F32, {member.linear.out, cols}, std::as_bytes(std::span(values))});
    }
    if (half) errors.push_back(squared_distance(output(point, half->x), half->output));
    return errors;
  }

  /// Each error relative to the one without scales: the mean over the linears, and the half block's.
  static double relative_sum(std::span<const double> errors, std::span<const double> plain, bool half) {
    const auto part = [&](std::size_t i) { return plain[i] > 0 ? errors[i] / plain[i] : 1.0; };
    const std::size_t linears = errors.size() - (half ? 1 : 0);
    double sum = 0;
    for (std::size_t i = 0; i < linears; ++i) sum += part(i);
    return sum / static_cast<double>(linears) + (half ? part(linears) : 0.0);
  }

  void restore(const FoldPoint& point) {
    for (const std::string& name : point.linears)
      decoder_.replace(name, checkpoint_.tensor(name + ".weight"));
  }

  static double squared_distance(std::span<const float> a, std::span<const float> b) {
    // Pieces whose sums are added in order: the result does not depend on the threads.
    constexpr std::size_t kPiece = 1 << 16;
    std::vector<double> sums((a.size() + kPiece - 1) / kPiece);
    parallel_for(sums.size(), [&](std::size_t piece) {
      double sum = 0;
      for (std::size_t i = piece * kPiece; i < std::min((piece + 1) * kPiece, a.size()); ++i) {
        const double d = static_cast<double>(a[i]) - static_cast<double>(b[i]);
        sum += d * d;
      }
      sums[piece] = sum;
    });
    double total = 0;
    for (const double sum : sums) total += sum;
    return total;
  }

  /// Moves the scales so that weight / s is exact in the type of the checkpoint's norm.
  void make_exact(const FoldPoint& point, std::vector<float>& scales) const {
    const std::string name = point.name + ".weight";
    const DType type = checkpoint_.tensor(name).type;
    const std::vector<float> norm = checkpoint_.floats(name);
    for (std::size_t k = 0; k < scales.size(); ++k) {
      const float folded = rounded_to(type, norm[k] / scales[k]);
      const float exact = norm[k] / folded;
      if (exact > 0 && std::isfinite(exact)) scales[k] = exact;
    }
  }

  const Checkpoint& checkpoint_;
  const ModelConfig& config_;
  const InputSource& inputs_;
  Scheme scheme_;
  Backend& backend_;
  Decoder decoder_;
  Hidden hidden_;
  std::map<std::string, Matrix, std::less<>> linears_;
};

}  // namespace

std::string folding_origin(const InputSource& inputs, const Scheme& scheme) {
  return fmt::format("awq {}, {}", to_string(scheme), inputs.identity());
}

Folding find_folding(const Checkpoint& checkpoint, const ModelConfig& config, std::string_view fingerprint,
                     const InputSource& inputs, const Samples& samples, const Scheme& scheme,
                     Backend& backend, Progress& progress) {
  const Quantizer& method = quantizer(scheme.method);
  method.check(scheme);
  if (method.needs() != Needs::nothing)
    throw UsageError(
        fmt::format("scales to fold are searched with a scheme that needs no statistics, as "
                    "rtn:b{}g{}, not {}",
                    scheme.bits, scheme.group, to_string(scheme)));
  if (!inputs.has_second_moments())
    throw UsageError("the search for scales to fold needs a calibration, not only mean squares");

  const std::vector<FoldPoint> points = fold_points(config);
  Folding folding(config, std::string(fingerprint), folding_origin(inputs, scheme));
  ProgressScope scope(progress, "searching scales", points.size() * kRatios, "trials");
  FoldingSearch search(checkpoint, config, inputs, samples, scheme, backend);
  for (std::int64_t block = 0; block < config.layers; ++block) {
    std::vector<FoldPoint> some;
    std::ranges::copy_if(points, std::back_inserter(some),
                         [&](const FoldPoint& p) { return p.block == block; });
    search.run(block, some, folding, progress);
  }
  return folding;
}

}  // namespace knapsaq
