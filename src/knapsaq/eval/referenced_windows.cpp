#include "knapsaq/eval/referenced_windows.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "knapsaq/base/cancellation.h"
#include "knapsaq/base/error.h"

namespace knapsaq {

ReferencedWindows reference_windows(Decoder& decoder, std::vector<std::int32_t> tokens, std::int64_t windows,
                                    std::int64_t length, Progress& progress) {
  if (length < 2) throw UsageError("a window needs at least two tokens: the second is the first that counts");
  if (windows < 0 || static_cast<std::int64_t>(tokens.size()) != windows * length)
    throw std::invalid_argument("reference_windows: tokens are not windows x length");
  Backend& backend = decoder.backend();
  ReferencedWindows result{std::move(tokens),
                           windows,
                           length,
                           backend.allocate(windows * length, decoder.head()->in(), Element::working),
                           decoder.head(),
                           decoder.config().logit_softcap};
  ProgressScope scope(progress, "reference", static_cast<std::uint64_t>(windows * length), "tokens");
  const std::int64_t batch = decoder.windows_per_batch(length);
  std::vector<float> values;
  for (std::int64_t first = 0; first < windows; first += batch) {
    check_cancelled();
    const std::int64_t count = std::min(batch, windows - first);
    const auto some =
        std::span<const std::int32_t>(result.tokens)
            .subspan(static_cast<std::size_t>(first * length), static_cast<std::size_t>(count * length));
    Hidden hidden = decoder.embed(some, count, length);
    for (std::int64_t block = 0; block < decoder.config().layers; ++block) decoder.block(block, hidden);
    Array part = backend.view(result.head_inputs, first * length, count * length);
    decoder.head_input(hidden, part);
    values.resize(static_cast<std::size_t>(part.rows() * part.cols()));
    backend.download(part, 0, values);
    if (first_not_finite(values)) decoder.require_finite(some, count, length);
    scope.advance(static_cast<std::uint64_t>(count * length));
  }
  return result;
}

}  // namespace knapsaq
