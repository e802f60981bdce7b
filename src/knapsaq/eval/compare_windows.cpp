#include "knapsaq/eval/compare_windows.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <vector>

#include "knapsaq/base/cancellation.h"
#include "knapsaq/base/not_finite_error.h"

namespace knapsaq {
namespace {

/// What follows each token of `count` windows, -1 where it is not scored.
std::vector<std::int32_t> targets_of(const ReferencedWindows& reference, std::int64_t first,
                                     std::int64_t count) {
  const std::int64_t length = reference.length;
  std::vector<std::int32_t> targets(static_cast<std::size_t>(count * length), -1);
  for (std::int64_t w = 0; w < count; ++w)
    for (std::int64_t t = reference.first_target; t < length; ++t)
      targets[static_cast<std::size_t>(w * length + t - 1)] =
          reference.tokens[static_cast<std::size_t>((first + w) * length + t)];
  return targets;
}

/// Appends the rows of `count` windows that are scored. `inputs`: what the candidate's head multiplies.
void compare_batch(Backend& backend, const ReferencedWindows& reference, std::int64_t first,
                   std::int64_t count, const Array& inputs, const Weight* head, bool jsd,
                   std::vector<RowComparison>& result) {
  const std::int64_t rows = count * reference.length;
  const std::vector<std::int32_t> targets = targets_of(reference, first, count);
  std::vector<RowComparison> compared(static_cast<std::size_t>(rows));
  const Compared candidate{&inputs, compared, head};
  backend.compare(backend.view(reference.head_inputs, first * reference.length, rows),
                  reference.output_head(), targets, jsd, std::span(&candidate, 1));
  for (std::size_t r = 0; r < targets.size(); ++r)
    if (targets[r] >= 0) result.push_back(compared[r]);
}

}  // namespace

double WindowsComparison::perplexity() const { return std::exp(loss); }

std::vector<RowComparison> compare_rows(Decoder& decoder, const ReferencedWindows& reference,
                                        std::int64_t windows, bool jsd, Progress& progress) {
  if (windows < 1 || windows > reference.windows)
    throw std::invalid_argument("compare_rows: more windows than there are");
  Backend& backend = decoder.backend();
  const std::int64_t length = reference.length;
  const std::int64_t batch = decoder.windows_per_batch(length);
  ProgressScope scope(progress, "comparing", static_cast<std::uint64_t>(windows * length), "tokens");
  std::vector<RowComparison> result;
  result.reserve(static_cast<std::size_t>(windows * reference.targets()));
  for (std::int64_t first = 0; first < windows; first += batch) {
    check_cancelled();
    const std::int64_t count = std::min(batch, windows - first);
    const std::int64_t rows = count * length;
    const auto tokens =
        std::span<const std::int32_t>(reference.tokens)
            .subspan(static_cast<std::size_t>(first * length), static_cast<std::size_t>(rows));
    Hidden hidden = decoder.embed(tokens, count, length);
    for (std::int64_t block = 0; block < decoder.config().layers; ++block) decoder.block(block, hidden);
    Array inputs = backend.allocate(rows, decoder.head()->in(), Element::working);
    decoder.head_input(hidden, inputs);

    compare_batch(backend, reference, first, count, inputs, decoder.head().get(), jsd, result);
    scope.advance(static_cast<std::uint64_t>(rows));
  }
  return result;
}

std::vector<RowComparison> reference_rows(Backend& backend, const ReferencedWindows& reference,
                                          Progress& progress) {
  const std::int64_t length = reference.length;
  const std::int64_t batch = std::max<std::int64_t>(1, backend.batch_rows() / length);
  ProgressScope scope(progress, "reference's losses", static_cast<std::uint64_t>(reference.windows * length),
                      "tokens");
  std::vector<RowComparison> result;
  result.reserve(static_cast<std::size_t>(reference.windows * reference.targets()));
  for (std::int64_t first = 0; first < reference.windows; first += batch) {
    check_cancelled();
    const std::int64_t count = std::min(batch, reference.windows - first);
    const Array inputs = backend.view(reference.head_inputs, first * length, count * length);
    compare_batch(backend, reference, first, count, inputs, nullptr, false, result);
    scope.advance(static_cast<std::uint64_t>(count * length));
  }
  return result;
}

WindowsComparison compare_windows(Decoder& decoder, const ReferencedWindows& reference, std::int64_t windows,
                                  Progress& progress) {
  const std::vector<RowComparison> rows = compare_rows(decoder, reference, windows, false, progress);
  WindowsComparison result;
  result.tokens = std::ssize(rows);
  for (const RowComparison& row : rows) {
    result.kl += static_cast<double>(row.kl);
    result.loss += static_cast<double>(row.loss);
    result.agreement += row.agrees ? 1 : 0;
  }
  if (!std::isfinite(result.kl) || !std::isfinite(result.loss)) {
    decoder.require_finite(reference.tokens, reference.windows, reference.length);
    throw NotFiniteError("the model's divergence from the full model is not finite");
  }
  const auto scored = static_cast<double>(result.tokens);
  result.kl /= scored;
  result.loss /= scored;
  result.agreement /= scored;
  return result;
}

}  // namespace knapsaq
