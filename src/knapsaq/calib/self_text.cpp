#include "knapsaq/calib/self_text.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "knapsaq/base/cancellation.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/not_finite_error.h"
#include "knapsaq/base/random.h"
#include "knapsaq/base/threads.h"
#include "knapsaq/base/units.h"
#include "knapsaq/model/architecture.h"
#include "knapsaq/model/kv_cache.h"

namespace knapsaq {
namespace {

// Windows that grow together. Every batch is a whole one, its last windows thrown away if need be: products
// of another number of rows may sum in another order, and a window must not depend on how many are wanted.
constexpr std::int64_t kBatch = 64;

constexpr std::int64_t kDefaultWindow = 512;

std::string_view name_of(SelfTextUse use) {
  switch (use) {
    case SelfTextUse::search:
      return "search";
    case SelfTextUse::heldout:
      return "held out";
    case SelfTextUse::tuning:
      return "tuning";
    case SelfTextUse::tuning_heldout:
      return "tuning held out";
    case SelfTextUse::calibration:
      break;
  }
  return "calibration";
}

/// The random numbers of one window: seeds, uses and windows are hashed into each other.
Random window_random(std::uint64_t seed, SelfTextUse use, std::int64_t window) {
  const std::uint64_t of_seed = Random(seed).bits();
  const std::uint64_t of_use = Random(of_seed + static_cast<std::uint64_t>(use)).bits();
  return Random(of_use + static_cast<std::uint64_t>(window));
}

/// An index with probability softmax(logits), by the inverse of the cumulative distribution; none of
/// `unused`.
std::int32_t draw(std::span<const float> given, std::span<const std::int32_t> unused, Random& random) {
  std::vector<float> logits(given.begin(), given.end());
  for (const std::int32_t id : unused)
    logits[static_cast<std::size_t>(id)] = -std::numeric_limits<float>::infinity();
  const float largest = *std::max_element(logits.begin(), logits.end());
  std::vector<float> weights(logits.size());
  double sum = 0;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    weights[i] = std::exp(logits[i] - largest);
    sum += static_cast<double>(weights[i]);
  }
  if (!std::isfinite(sum))
    throw NotFiniteError("the model's logits hold NaN or infinity: a weight is broken or too large");
  double rest = random.uniform() * sum;
  std::size_t last = 0;  // with any weight: where rounding lets the walk pass the end
  for (std::size_t i = 0; i < weights.size(); ++i) {
    if (weights[i] == 0) continue;
    last = i;
    rest -= static_cast<double>(weights[i]);
    if (rest < 0) break;
  }
  return static_cast<std::int32_t>(last);
}

/// One window on its way.
struct Sequence {
  Random random;
  std::int32_t token = 0;  ///< its last

  void begin(const DocumentTokens& documents) {
    if (documents.start) {
      token = *documents.start;
      return;
    }
    const auto used = static_cast<std::uint64_t>(documents.vocabulary) - documents.unused.size();
    token = static_cast<std::int32_t>(random.below(used));
    for (const std::int32_t id : documents.unused)
      if (id <= token) ++token;
  }
  void grow(const DocumentTokens& documents, std::span<const float> logits) {
    const bool ended = documents.end && token == *documents.end;
    token =
        ended && documents.starts_again
            ? *documents.start
            : draw(logits.first(static_cast<std::size_t>(documents.vocabulary)), documents.unused, random);
  }
};

}  // namespace

DocumentTokens document_tokens(const Tokenizer& tokenizer, const nlohmann::json& config_json,
                               const ModelConfig& config) {
  DocumentTokens documents;
  documents.vocabulary =
      static_cast<std::int32_t>(std::min<std::int64_t>(tokenizer.vocabulary_size(), config.vocab));
  for (const std::int32_t id : tokenizer.unused_ids())
    if (id < documents.vocabulary) documents.unused.push_back(id);
  const auto known = [&](std::optional<std::int32_t> id) {
    return id && *id >= 0 && *id < documents.vocabulary ? id : std::nullopt;
  };
  documents.end = known(tokenizer.eos());
  documents.start = known(tokenizer.bos());
  if (!documents.start && config_json.is_object()) {
    const auto found = config_json.find("bos_token_id");
    if (found != config_json.end() && found->is_number_integer()) {
      const auto id = found->get<std::int64_t>();
      if (id >= 0 && id < documents.vocabulary) documents.start = static_cast<std::int32_t>(id);
    }
  }
  if (!documents.start) documents.start = documents.end;
  // Where one token is both, the end of a document is the start of the next already.
  documents.starts_again = tokenizer.adds_bos() && documents.start && documents.start != documents.end;
  return documents;
}

SampleOptions resolve_self(SampleOptions options, std::int64_t max_positions) {
  if (options.window == 0) options.window = std::min(kDefaultWindow, max_positions);
  return resolve(options, max_positions);
}

Samples self_text(Decoder& decoder, const DocumentTokens& documents, const SampleOptions& options,
                  SelfTextUse use, Progress& progress) {
  const std::int64_t window = options.window;
  const std::int64_t vocab = decoder.config().vocab;
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(options.samples * window));
  KeyValueCache cache(decoder.config(), decoder.backend(), kBatch, window);
  ProgressScope scope(progress, "sampling text", tokens.size(), "tokens");
  for (std::int64_t first = 0; first < options.samples; first += kBatch) {
    const std::int64_t wanted = std::min(kBatch, options.samples - first);
    cache.clear();
    std::vector<Sequence> sequences;
    for (std::int64_t i = 0; i < kBatch; ++i) {
      sequences.push_back({window_random(options.seed, use, first + i)});
      sequences.back().begin(documents);
    }
    std::vector<std::int32_t> column(static_cast<std::size_t>(kBatch));
    for (std::int64_t t = 0; t < window; ++t) {
      check_cancelled();
      for (std::size_t i = 0; i < sequences.size(); ++i) column[i] = sequences[i].token;
      for (std::int64_t i = 0; i < wanted; ++i)
        tokens[static_cast<std::size_t>((first + i) * window + t)] = column[static_cast<std::size_t>(i)];
      scope.advance(static_cast<std::uint64_t>(wanted));
      if (t + 1 == window) break;
      const std::vector<float> logits = decoder.next(column, cache);
      parallel_for(static_cast<std::size_t>(wanted), [&](std::size_t i) {
        sequences[i].grow(documents, std::span(logits).subspan(i * static_cast<std::size_t>(vocab),
                                                               static_cast<std::size_t>(vocab)));
      });
    }
  }
  return make_samples(std::move(tokens), options, fmt::format("self {} seed {}", name_of(use), options.seed));
}

std::uint64_t self_text_memory(const ModelConfig& config, const Backend& backend, std::int64_t window) {
  const std::uint64_t bytes = backend.size_of(Element::working);
  std::int64_t parameters = 2 * config.vocab * config.embedding;  // the table and the head
  for (const Matrix& linear : linears(config)) parameters += linear.parameters();
  // Logits exist twice, where they are computed and where they are drawn from.
  const auto logits = static_cast<std::uint64_t>(2 * kBatch * config.vocab) * sizeof(float);
  return static_cast<std::uint64_t>(parameters) * bytes +
         KeyValueCache::bytes(config, bytes == 2 ? CacheElement::half : CacheElement::working, kBatch,
                              window) +
         logits;
}

void check_self_text_memory(const ModelConfig& config, const Backend& backend, std::int64_t window,
                            std::optional<std::uint64_t> available) {
  const std::uint64_t needed = self_text_memory(config, backend, window);
  if (!available || needed <= *available) return;
  throw UsageError(
      fmt::format("sampling text from the model itself needs all of it in memory, about {}, and {} are free: "
                  "give --text FILE, which needs one block at a time",
                  format_bytes(needed), format_bytes(*available)));
}

}  // namespace knapsaq
