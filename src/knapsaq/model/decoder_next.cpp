// Generation: further tokens of the sequences in a cache.

#include <algorithm>
#include <bit>
#include <stdexcept>

#include "knapsaq/base/cancellation.h"
#include "knapsaq/base/not_finite_error.h"
#include "knapsaq/model/decoder_impl.h"

namespace knapsaq {
namespace {

/// Logits of the last token of every sequence. `input` and `kept` are memory that is reused from one call to
/// the next.
void last_logits(const DecoderWeights& weights, DecoderPass& pass, const Hidden& hidden, Array& input,
                 Array& kept, std::span<float> logits) {
  Backend& backend = *weights.backend;
  const std::int64_t sequences = hidden.windows;
  const std::int64_t length = hidden.length;
  Hidden last{.state = hidden.state, .windows = sequences, .length = 1};
  if (length > 1 && sequences == 1) {
    last.state = backend.view(hidden.state, length - 1, 1);
  } else if (length > 1) {
    last.state = backend.allocate(sequences, weights.config.hidden, Element::full);
    for (std::int64_t s = 0; s < sequences; ++s) {
      Array to = backend.view(last.state, s, 1);
      backend.copy(backend.view(hidden.state, s * length + length - 1, 1), 1, to);
    }
  }
  if (input.rows() < sequences)
    input = backend.allocate(sequences, weights.config.embedding, Element::working);
  pass.head_input(last, input);
  if (kept.rows() < sequences) kept = backend.allocate(sequences, weights.config.vocab, Element::full);
  pass.multiply_by_head(input, sequences, kept);
  backend.download(kept, 0, logits);
}

}  // namespace

std::vector<float> Decoder::next(std::span<const std::int32_t> tokens, KeyValueCache& cache) {
  std::vector<float> logits(static_cast<std::size_t>(cache.sequences() * impl_->weights.config.vocab));
  next(tokens, cache, logits);
  return logits;
}

void Decoder::next(std::span<const std::int32_t> tokens, KeyValueCache& cache, std::span<float> logits) {
  const DecoderWeights& weights = impl_->weights;
  DecoderPass& pass = impl_->pass;
  const std::int64_t sequences = cache.sequences();
  const std::int64_t count = sequences > 0 ? std::ssize(tokens) / sequences : 0;
  if (count < 1 || count * sequences != std::ssize(tokens))
    throw std::invalid_argument("next: not as many tokens for every sequence");
  if (std::ssize(logits) != sequences * weights.config.vocab)
    throw std::invalid_argument("next: logits of another shape");
  const std::int64_t before = cache.length();
  if (count > cache.capacity() - before) throw std::invalid_argument("next: the cache is full");
  if (!weights.head) throw std::logic_error("the head is not loaded");
  check_length(before + count);
  pass.check_tokens(tokens);
  // Tables that double in size are rebuilt a few times on the way to a long context, and short contexts do
  // not pay for it.
  const auto known = static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(before + count)));
  pass.prepare_rotation(std::min(known, cache.capacity()), cache.capacity());

  /// Leaves the cache unchanged unless everything succeeds; of states, at the last length that was kept.
  struct Step {
    KeyValueCache& cache;
    std::int64_t kept;  ///< number of tokens in the cache afterwards
    explicit Step(KeyValueCache& past) : cache(past), kept(past.length()) {}
    ~Step() { cache.shorten(cache.reachable(kept)); }
    Step(const Step&) = delete;
    Step& operator=(const Step&) = delete;
  };
  Step step(cache);
  Impl::NextState& state = impl_->next;
  const std::int64_t chunk = windows_per_batch(sequences);  // as many rows, the other way round
  pass.finite_pass(logits, [&] {
    // The second pass, which looks for a number that is not finite.
    if (cache.reachable(before) != before)
      throw NotFiniteError(weights.where + ": the model computes no finite logits on this text");
    cache.shorten(before);
    for (std::int64_t first = 0; first < count; first += chunk) {
      const std::int64_t some = std::min(chunk, count - first);
      std::span<const std::int32_t> of_chunk = tokens;
      if (some < count) {
        state.tokens.resize(static_cast<std::size_t>(sequences * some));
        for (std::int64_t s = 0; s < sequences; ++s)
          std::copy_n(tokens.begin() + s * count + first, some, state.tokens.begin() + s * some);
        of_chunk = state.tokens;
      }
      const RowLayout layout{.windows = sequences, .length = some, .past = &cache, .reach = cache.capacity()};
      impl_->embed(of_chunk, layout, state.hidden);
      for (std::int64_t i = 0; i < weights.config.layers; ++i) {
        check_cancelled();
        pass.block(i, state.hidden, layout);
      }
      cache.advance(some);
    }
    last_logits(weights, pass, state.hidden, state.input, state.logits, logits);
  });
  step.kept = before + count;
}

}  // namespace knapsaq
