#include "knapsaq/pipeline/text_model.h"

#include <algorithm>
#include <utility>

#include <fmt/core.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/quote.h"
#include "knapsaq/base/units.h"
#include "knapsaq/checkpoint/checkpoint.h"
#include "knapsaq/model/generator.h"
#include "knapsaq/pipeline/runtime.h"
#include "knapsaq/text/chat_template.h"
#include "knapsaq/text/text_stream.h"
#include "knapsaq/text/tokenizer.h"

namespace knapsaq {
namespace {

// Room for a conversation of some pages; the keys and values of a model's whole context can take gigabytes.
constexpr std::int64_t kChatContext = 4096;

std::vector<std::int32_t> prompt_tokens(const Tokenizer& tokenizer, const std::string& prompt) {
  std::vector<std::int32_t> tokens = tokenizer.encode(prompt);
  if (tokens.empty() && tokenizer.bos()) tokens = {*tokenizer.bos()};
  if (tokens.empty())
    throw InputError("the prompt is empty, and this model has no token that begins a text; give a prompt");
  return tokens;
}

std::vector<ChatMessage> messages_of(const std::vector<ChatTurn>& turns) {
  std::vector<ChatMessage> messages;
  for (const ChatTurn& turn : turns) messages.push_back({.role = turn.role, .content = turn.content});
  return messages;
}

std::optional<double> rate(std::int64_t tokens, double seconds) {
  if (tokens == 0 || seconds <= 0) return std::nullopt;
  return static_cast<double>(tokens) / seconds;
}

}  // namespace

struct TextModel::State {
  State(Environment& environment, const std::string& model, const RuntimeOptions& options_)
      : options(options_), session(environment, model) {}

  RuntimeOptions options;
  Session session;
  std::int64_t context_limit = 0;
  std::unique_ptr<Backend> backend;
  std::optional<Decoder> decoder;
  std::optional<Generator> generator;
  std::optional<ChatTemplate> chat;
  bool looked_for_chat = false;

  /// Weights, and a cache for so many tokens. Throws InputError if memory is not enough, before it takes any.
  void prepare(std::int64_t context) {
    if (generator && generator->cache().capacity() >= context) return;
    // A text that grows shall not be computed anew with every turn.
    if (generator) context = std::min(context_limit, std::max(context, 2 * generator->cache().capacity()));
    const CacheElement element = cache_element(options);
    if (!backend) backend = make_runtime_backend(options);
    auto available = backend->available_memory();
    if (!decoder) {
      // Weights take about what they take in the file.
      const std::uint64_t weights = session.checkpoint().tensor_bytes();
      if (available && weights > *available)
        throw InputError(
            fmt::format("the weights need about {} of memory, and {} are free: take a smaller model",
                        format_bytes(weights), format_bytes(*available)));
      if (available) *available -= weights;
    }
    generator.reset();
    check_cache_memory(session.config(), element, 1, context, available);
    if (!decoder)
      decoder.emplace(Decoder::load(session.checkpoint(), session.config(), *backend, session.listener()));
    generator.emplace(*decoder, context, element);
  }

  const ChatTemplate& chat_template() {
    if (!std::exchange(looked_for_chat, true)) chat = ChatTemplate::load(session.path(), session.tokenizer());
    if (!chat)
      throw InputError(fmt::format(
          "{}: no chat template, neither chat_template.jinja nor in tokenizer_config.json or GGUF "
          "metadata: this model is not made for conversations; continue a text with knapsaq "
          "generate",
          session.path().string()));
    return *chat;
  }

  std::int64_t chat_context() const {
    return options.context > 0 ? context_limit : std::min(context_limit, kChatContext);
  }

  GeneratedText generate(std::span<const std::int32_t> prompt, const GenerateOptions& how,
                         std::optional<std::int32_t> stop, std::int64_t context, bool continues,
                         const TextSink& sink) {
    const SamplerOptions sampler = sampler_options(how);
    if (how.max_tokens < 1) throw UsageError("max_tokens has to be at least 1");
    check_prompt(std::ssize(prompt), context_limit);
    prepare(context);
    GenerationOptions generation;
    generation.sampler = sampler;
    generation.max_tokens = how.max_tokens;
    generation.stop = stop_tokens(session.checkpoint(), session.tokenizer().eos());
    if (stop) generation.stop.push_back(*stop);
    generation.vocabulary = session.tokenizer().vocabulary_size();
    generation.unused = session.tokenizer().unused_ids();

    GeneratedText result;
    TextStream stream(session.tokenizer());
    if (continues) stream.begin_after(prompt);
    const auto show = [&](const std::string& piece) {
      result.text += piece;
      if (sink && !piece.empty()) sink(piece);
    };
    Generated found =
        generator->generate(prompt, generation, [&](std::int32_t token) { show(stream.add(token)); });
    show(stream.finish());
    result.tokens = std::move(found.tokens);
    result.reason = name_of(found.reason);
    result.prompt_tokens = std::ssize(prompt);
    result.reused_tokens = found.reused_tokens;
    result.prompt_tokens_per_second = rate(found.prompt_tokens, found.prompt_seconds);
    result.generation_tokens_per_second = rate(found.steps, found.step_seconds);
    result.first_token_seconds = found.prompt_seconds;
    return result;
  }
};

TextModel::TextModel(Environment& environment, const std::string& model, const RuntimeOptions& options)
    : state_(std::make_unique<State>(environment, model, options)) {
  const ExecutionScope scope(environment.execution());
  check(options);
  static_cast<void>(state_->session.tokenizer());
  state_->context_limit = knapsaq::context_limit(state_->session.config(), options.context);
}

TextModel::~TextModel() = default;

Session& TextModel::session() { return state_->session; }
std::int64_t TextModel::context_limit() const { return state_->context_limit; }
std::int64_t TextModel::context() const {
  return state_->generator ? state_->generator->cache().capacity() : 0;
}

GeneratedText TextModel::generate(const std::string& prompt, const GenerateOptions& options,
                                  const TextSink& sink) {
  State& state = *state_;
  const ExecutionScope scope(state.session.execution());
  check(sampler_options(options));
  const std::vector<std::int32_t> tokens = prompt_tokens(state.session.tokenizer(), prompt);
  const std::int64_t length = std::ssize(tokens);
  check_prompt(length, state.context_limit);
  // As much as was asked for, or as can be used.
  const std::int64_t context = state.options.context > 0
                                   ? state.context_limit
                                   : length + std::min(state.context_limit - length, options.max_tokens);
  return state.generate(tokens, options, std::nullopt, context, true, sink);
}

GeneratedText TextModel::chat(const std::vector<ChatTurn>& turns, const GenerateOptions& options,
                              const TextSink& sink) {
  State& state = *state_;
  const ExecutionScope scope(state.session.execution());
  check(sampler_options(options));
  const ChatTemplate& chat = state.chat_template();
  const Tokenizer& tokenizer = state.session.tokenizer();
  const std::vector<std::int32_t> prompt = tokenizer.encode(chat.render(messages_of(turns), true));
  return state.generate(prompt, options, chat.end_of_turn(tokenizer), state.chat_context(), false, sink);
}

void TextModel::check_chat(const std::vector<ChatTurn>& turns) {
  State& state = *state_;
  const ExecutionScope scope(state.session.execution());
  std::vector<ChatMessage> trial = messages_of(turns);
  trial.push_back({.role = "user", .content = "Hello"});
  const ChatTemplate& chat = state.chat_template();
  check_prompt(std::ssize(state.session.tokenizer().encode(chat.render(trial, true))), state.chat_context());
}

}  // namespace knapsaq
