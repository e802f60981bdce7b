#include "knapsaq/tune/tunable_model.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>

#include <fmt/core.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/threads.h"
#include "knapsaq/model/architecture.h"
#include "knapsaq/model/expected_tensors.h"

namespace knapsaq {
namespace {

/// Vectors move as little as the scales of four bits: most norms of a layer belong to many weights.
constexpr int kVectorBits = 4;

float root_mean_square(std::span<const float> values) {
  double sum = 0;
  for (const float value : values) sum += static_cast<double>(value) * static_cast<double>(value);
  return static_cast<float>(std::sqrt(sum / static_cast<double>(values.size())));
}

TunableVector make_vector(const Checkpoint& checkpoint, const std::string& tensor,
                          std::span<const float> sizes) {
  std::vector<float> start = checkpoint.floats(tensor);
  std::vector<float> units(start.size());
  for (std::size_t i = 0; i < units.size(); ++i) units[i] = tuning_unit(sizes[i], kVectorBits);
  return {tensor, checkpoint.spec(tensor).type, std::move(start), std::move(units)};
}

std::string_view module_of(std::string_view tensor) { return tensor.substr(0, tensor.rfind('.')); }

}  // namespace

/// A quantized matrix.
struct TunableModel::Part {
  Matrix matrix;
  std::unique_ptr<TunableMatrix> numbers;
  std::size_t begin = 0;  ///< of its parameters
  std::vector<float> sums;
  Array gradient;  ///< by the weights, of a product that comes in slices of rows
  std::optional<TunableVector> bias;
  std::size_t bias_begin = 0;
  std::vector<double> bias_sums;
};

/// The vectors of a norm; see GradientObserver::norm.
struct TunableModel::NormPart {
  std::string module;
  std::vector<TunableVector> vectors;  ///< scale, and shift if it has one
  std::size_t begin = 0;
  std::vector<double> sums;  ///< of all vectors
};

TunableModel::TunableModel(const Checkpoint& checkpoint, Decoder& decoder) : decoder_(decoder) {
  require_quantized(checkpoint, decoder.config());
  for (const Matrix& matrix : matrices(decoder.config())) {
    if (!checkpoint.packing(matrix.name)) continue;
    Part& part = parts_.emplace_back();
    part.matrix = matrix;
    part.numbers = make_tunable(checkpoint.stored(matrix.name));
    part.sums.resize(part.numbers->sums());
    part.begin = parameters_;
    parameters_ += part.numbers->parameters();
    if (!matrix.bias) continue;
    // Where all are 0 nothing says how large one may be: they stay.
    const std::vector<float> start = checkpoint.floats(matrix.name + ".bias");
    part.bias = make_vector(checkpoint, matrix.name + ".bias",
                            std::vector<float>(start.size(), root_mean_square(start)));
    part.bias_sums.resize(start.size());
    part.bias_begin = parameters_;
    parameters_ += start.size();
  }
  const std::vector<Matrix> all = matrices(decoder.config());
  for (const ExpectedTensor& tensor : dense_tensors(decoder.config())) {
    const std::string_view module = module_of(tensor.name);
    const bool is_norm =
        tensor.shape.size() == 1 && std::ranges::find(all, module, &Matrix::name) == all.end();
    if (!is_norm || !tensor.name.ends_with(".weight")) continue;
    NormPart& norm = norms_.emplace_back();
    norm.module = module;
    norm.begin = parameters_;
    const std::vector<float> scale = checkpoint.floats(tensor.name);
    // What a norm gives has the size of its scale: shifts are relative to that.
    norm.vectors.push_back(make_vector(checkpoint, tensor.name, scale));
    if (const std::string shift = norm.module + ".bias"; checkpoint.contains(shift))
      norm.vectors.push_back(make_vector(checkpoint, shift, scale));
    norm.sums.resize(norm.vectors.size() * scale.size());
    parameters_ += norm.sums.size();
  }
}

TunableModel::~TunableModel() = default;

void TunableModel::set(std::span<const float> parameters) {
  if (parameters.size() != parameters_) throw std::invalid_argument("TunableModel: another number");
  parallel_for(parts_.size(), [&](std::size_t i) {
    Part& part = parts_[i];
    part.numbers->set(parameters.subspan(part.begin, part.numbers->parameters()));
    if (part.bias) part.bias->set(parameters.subspan(part.bias_begin, part.bias->parameters()));
  });
  for (const Part& part : parts_)
    decoder_.place(part.matrix.number,
                   decoder_.prepare(part.matrix.number, part.numbers->matrix(),
                                    part.bias ? std::span(part.bias->values()) : std::span<const float>()));
  for (NormPart& norm : norms_) {
    std::size_t begin = norm.begin;
    for (TunableVector& vector : norm.vectors) {
      vector.set(parameters.subspan(begin, vector.parameters()));
      begin += vector.parameters();
      decoder_.set_norm(vector.tensor(), vector.values());
    }
  }
}

double TunableModel::add_gradient(const ReferencedWindows& reference, std::int64_t first, std::int64_t last) {
  const std::int64_t rows = (last - first) * reference.length;
  const auto tokens =
      std::span(reference.tokens)
          .subspan(static_cast<std::size_t>(first * reference.length), static_cast<std::size_t>(rows));
  const Array full = decoder_.backend().view(reference.head_inputs, first * reference.length, rows);
  LossTargets targets;
  targets.reference = &full;
  targets.reference_head = reference.head.get();
  GradientObserver observer;
  observer.matrix = [&](const Matrix& matrix, const Array& x, const Array& gradient, std::int64_t begin,
                        std::int64_t count) {
    const auto found =
        std::ranges::find(parts_, matrix.number, [](const Part& part) { return part.matrix.number; });
    if (found == parts_.end()) return;
    if (x.empty())
      return add_lookup_gradient(*found, gradient, tokens.first(static_cast<std::size_t>(count)));
    add_weight_gradient(*found, x, gradient, begin, count, rows);
  };
  observer.norm = [&](std::string_view module, std::span<const float> scale, std::span<const float> shift) {
    if (scale.empty() && shift.empty()) return;
    const auto found = std::ranges::find(norms_, module, &NormPart::module);
    if (found == norms_.end()) throw std::logic_error("gradient of an unknown norm: " + std::string(module));
    if (scale.size() + shift.size() != found->sums.size())
      throw std::logic_error("gradient of another size: " + std::string(module));
    for (std::size_t i = 0; i < scale.size(); ++i) found->sums[i] += static_cast<double>(scale[i]);
    for (std::size_t i = 0; i < shift.size(); ++i)
      found->sums[scale.size() + i] += static_cast<double>(shift[i]);
  };
  std::vector<float> losses(static_cast<std::size_t>(rows));
  return decoder_.backward(tokens, last - first, reference.length, targets, losses, observer);
}

/// The gradient by the weights is complete after the last slice; then it becomes sums.
void TunableModel::add_weight_gradient(Part& part, const Array& x, const Array& gradient, std::int64_t first,
                                       std::int64_t rows, std::int64_t all_rows) {
  Backend& backend = decoder_.backend();
  const std::int64_t cols = part.matrix.in;
  if (part.gradient.empty()) part.gradient = backend.allocate(part.matrix.out, cols, Element::full);
  backend.add_product_of_columns(gradient, x, rows, part.gradient);
  if (part.bias) {
    constexpr std::int64_t kRows = 64;  // downloaded at a time
    std::vector<float> some;
    for (std::int64_t begin = 0; begin < rows; begin += kRows) {
      const std::int64_t count = std::min(kRows, rows - begin);
      some.resize(static_cast<std::size_t>(count * part.matrix.out));
      backend.download(gradient, begin, some);
      for (std::size_t i = 0; i < some.size(); ++i)
        part.bias_sums[i % part.bias_sums.size()] += static_cast<double>(some[i]);
    }
  }
  if (first + rows < all_rows) return;
  // Pieces of rows that share no group; large enough that handing them out costs nothing.
  const std::int64_t together = part.numbers->rows_together();
  const std::int64_t piece = (16 + together - 1) / together * together;
  parallel_for(static_cast<std::size_t>((part.matrix.out + piece - 1) / piece), [&](std::size_t index) {
    const std::int64_t begin = static_cast<std::int64_t>(index) * piece;
    std::vector<float> row(static_cast<std::size_t>(cols));
    for (std::int64_t r = begin; r < std::min(begin + piece, part.matrix.out); ++r) {
      backend.download(part.gradient, r, row);
      part.numbers->add_sums(r, row, part.sums);
    }
  });
  part.gradient = {};
}

/// Of an embedding: the gradient by a row is the sum over the tokens that looked it up.
void TunableModel::add_lookup_gradient(Part& part, const Array& gradient,
                                       std::span<const std::int32_t> tokens) {
  std::vector<std::int64_t> order(tokens.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, {}, [&](std::int64_t i) { return tokens[static_cast<std::size_t>(i)]; });
  const auto cols = static_cast<std::size_t>(part.matrix.in);
  std::vector<float> row(cols);
  std::vector<float> sum(cols);
  for (std::size_t i = 0; i < order.size();) {
    const std::int32_t token = tokens[static_cast<std::size_t>(order[i])];
    std::ranges::fill(sum, 0.0f);
    for (; i < order.size() && tokens[static_cast<std::size_t>(order[i])] == token; ++i) {
      decoder_.backend().download(gradient, order[i], row);
      for (std::size_t k = 0; k < cols; ++k) sum[k] += row[k];
    }
    part.numbers->add_sums(token, sum, part.sums);
  }
}

void TunableModel::take_gradient(float factor, std::span<float> out) {
  if (out.size() != parameters_) throw std::invalid_argument("TunableModel: another number");
  parallel_for(parts_.size(), [&](std::size_t i) {
    Part& part = parts_[i];
    part.numbers->gradient(part.sums, out.subspan(part.begin, part.numbers->parameters()));
    std::ranges::fill(part.sums, 0.0f);
    part.gradient = {};  // of a pass that did not come to its end
    if (!part.bias) return;
    part.bias->gradient(part.bias_sums, out.subspan(part.bias_begin, part.bias->parameters()));
    std::ranges::fill(part.bias_sums, 0.0);
  });
  for (NormPart& norm : norms_) {
    std::size_t at = 0;
    for (const TunableVector& vector : norm.vectors) {
      vector.gradient(std::span(norm.sums).subspan(at, vector.parameters()),
                      out.subspan(norm.begin + at, vector.parameters()));
      at += vector.parameters();
    }
    std::ranges::fill(norm.sums, 0.0);
  }
  for (float& value : out) value *= factor;
}

Replacements TunableModel::replacements() const {
  Replacements all;
  for (const Part& part : parts_) {
    all.matrices.emplace(part.matrix.name, &part.numbers->matrix());
    if (part.bias) all.vectors.emplace(part.bias->tensor(), part.bias->values());
  }
  for (const NormPart& norm : norms_)
    for (const TunableVector& vector : norm.vectors) all.vectors.emplace(vector.tensor(), vector.values());
  return all;
}

void require_quantized(const Checkpoint& checkpoint, const ModelConfig& config) {
  for (const Matrix& matrix : matrices(config))
    if (checkpoint.packing(matrix.name)) return;
  throw UsageError(fmt::format(
      "{}: no matrix of it is quantized, so there is nothing to tune: give a folder that knapsaq wrote",
      checkpoint.folder().string()));
}

}  // namespace knapsaq
