#include "knapsaq/model/generator.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <limits>
#include <stdexcept>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "knapsaq/base/cancellation.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"
#include "knapsaq/base/json_text.h"

namespace knapsaq {
namespace {

// Templates of chats end a prompt with what an answer begins with, up to so many tokens, and have something
// else there when the answer is part of the next prompt (thoughts are left out).
constexpr std::int64_t kOfAnswer = 32;

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

/// Appends the ids of an eos_token_id, which is a number, a list of numbers, null or absent.
void append_ids(const nlohmann::json& json, std::vector<std::int32_t>& ids) {
  if (!json.is_object()) return;
  const auto found = json.find("eos_token_id");
  if (found == json.end()) return;
  const auto append = [&](const nlohmann::json& value) {
    if (!value.is_number_integer()) return;
    const auto id = value.get<std::int64_t>();
    if (id >= 0 && id <= std::numeric_limits<std::int32_t>::max())
      ids.push_back(static_cast<std::int32_t>(id));
  };
  if (found->is_array()) {
    for (const nlohmann::json& value : *found) append(value);
  } else {
    append(*found);
  }
}

}  // namespace

std::string_view name_of(StopReason reason) {
  switch (reason) {
    case StopReason::stop:
      return "stop";
    case StopReason::length:
      return "length";
    case StopReason::context:
      return "context";
    case StopReason::interrupted:
      break;
  }
  return "interrupted";
}

Generator::Generator(Decoder& decoder, std::int64_t context, CacheElement element)
    : decoder_(decoder),
      cache_(decoder.config(), decoder.backend(), 1, context, element),
      logits_(static_cast<std::size_t>(decoder.config().vocab)) {}

void Generator::feed(std::span<const std::int32_t> tokens) {
  decoder_.next(tokens, cache_, logits_);
  held_.insert(held_.end(), tokens.begin(), tokens.end());
}

void Generator::feed_prompt(std::span<const std::int32_t> prompt) {
  const auto feed_up_to = [&](std::int64_t length) {
    if (length > std::ssize(held_))
      feed(prompt.subspan(held_.size(), static_cast<std::size_t>(length) - held_.size()));
  };
  if (cache_.has_states()) {
    for (const std::int64_t before_end : {kOfAnswer, std::int64_t{1}}) {
      feed_up_to(std::ssize(prompt) - before_end);
      cache_.keep();
    }
  }
  feed_up_to(std::ssize(prompt));
}

Generated Generator::generate(std::span<const std::int32_t> prompt, const GenerationOptions& options,
                              const TokenSink& sink) {
  if (options.max_tokens < 1) throw std::invalid_argument("generate: max_tokens");
  if (prompt.empty()) throw InputError("the prompt has no tokens; give a text");
  check_prompt(std::ssize(prompt), cache_.capacity());
  Sampler sampler(options.sampler);

  // The last token is computed again even if it is in the cache: its logits are needed.
  const auto same = std::mismatch(held_.begin(), held_.end(), prompt.begin(), prompt.end() - 1).first;
  held_.erase(same, held_.end());
  held_.resize(static_cast<std::size_t>(cache_.reachable(std::ssize(held_))));
  cache_.shorten(std::ssize(held_));

  Generated result;
  result.reused_tokens = std::ssize(held_);
  result.prompt_tokens = std::ssize(prompt) - result.reused_tokens;
  try {
    result.reason = go_on(prompt, sampler, options, sink, result);
  } catch (const Cancelled&) {
    result.reason = StopReason::interrupted;
  }
  // An interrupted step may have lost states.
  held_.resize(static_cast<std::size_t>(cache_.length()));
  return result;
}

StopReason Generator::go_on(std::span<const std::int32_t> prompt, Sampler& sampler,
                            const GenerationOptions& options, const TokenSink& sink, Generated& result) {
  std::int64_t vocabulary = decoder_.config().vocab;
  if (options.vocabulary > 0) vocabulary = std::min(vocabulary, options.vocabulary);
  auto begin = std::chrono::steady_clock::now();
  check_cancelled();
  feed_prompt(prompt);
  for (;;) {
    check_cancelled();
    const std::span<float> logits = std::span(logits_).first(static_cast<std::size_t>(vocabulary));
    for (const std::int32_t id : options.unused)
      if (id >= 0 && id < vocabulary)
        logits[static_cast<std::size_t>(id)] = -std::numeric_limits<float>::infinity();
    const std::int32_t token = sampler.draw(logits);
    if (result.steps == 0) {
      result.prompt_seconds = seconds_since(begin);
      begin = std::chrono::steady_clock::now();
    } else {
      result.step_seconds = seconds_since(begin);
    }
    if (std::find(options.stop.begin(), options.stop.end(), token) != options.stop.end())
      return StopReason::stop;
    result.tokens.push_back(token);
    if (sink) sink(token);
    if (std::ssize(result.tokens) == options.max_tokens) return StopReason::length;
    if (std::ssize(prompt) + std::ssize(result.tokens) == cache_.capacity()) return StopReason::context;
    feed(std::span(&token, 1));
    ++result.steps;
  }
}

std::int64_t context_limit(const ModelConfig& config, std::int64_t requested) {
  if (requested == 0) return config.max_positions;
  // Ids and positions are 32 bits wide.
  if (requested > std::numeric_limits<std::int32_t>::max())
    throw UsageError(fmt::format("a context of {} tokens: at most {} are possible", requested,
                                 std::numeric_limits<std::int32_t>::max()));
  if (config.positions == Positions::learned && requested > config.max_positions)
    throw UsageError(
        fmt::format("a context of {} tokens: this model has learned {} positions and cannot see more",
                    requested, config.max_positions));
  return requested;
}

void check_prompt(std::int64_t tokens, std::int64_t context) {
  if (tokens + 1 > context)
    throw InputError(fmt::format(
        "the prompt has {} tokens and the context room for {}, of which one has to be left for the text: "
        "shorten the prompt, or give a larger --context where the model allows it",
        tokens, context));
}

std::vector<std::int32_t> stop_tokens(const nlohmann::json& config, const std::filesystem::path& folder,
                                      std::optional<std::int32_t> eos) {
  std::vector<std::int32_t> ids;
  if (eos) ids.push_back(*eos);
  append_ids(config, ids);
  const std::filesystem::path path = folder / "generation_config.json";
  if (std::filesystem::exists(path)) {
    // Real ones have some hundred bytes.
    constexpr std::uint64_t kLargest = std::uint64_t{1} << 20;
    try {
      append_ids(parse_python_json(read_file(path, kLargest)), ids);
    } catch (const InputError& error) {
      throw InputError(fmt::format("{}: {}", path.string(), error.what()));
    }
  }
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

std::vector<std::int32_t> stop_tokens(const Checkpoint& checkpoint, std::optional<std::int32_t> eos) {
  return stop_tokens(checkpoint.config(), checkpoint.folder(), eos);
}

}  // namespace knapsaq
