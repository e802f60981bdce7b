#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "knapsaq/pipeline/session.h"

namespace knapsaq {

class ChatTemplate;

/// How a model is run token by token: its weights stay packed.
struct RuntimeOptions {
  /// What packed weights are multiplied by: "int8" (fastest), "bf16", or "fp32" (exact).
  std::string activations = "int8";
  std::string cache = "fp16";  ///< keys and values of the tokens so far: "fp16" or "int8"
  std::int64_t context = 0;    ///< tokens that the cache has room for; 0: what is needed
};

/// How tokens are drawn: divided by the temperature, cut to the `top_k` most likely, cut to the nucleus of
/// `top_p`, drawn from what is left.
struct GenerateOptions {
  std::int64_t max_tokens = 128;
  double temperature = 0;  ///< 0: always the most likely token; 1: the model's own distribution
  std::int64_t top_k = 0;  ///< 0: all
  double top_p = 1;        ///< the fewest most likely tokens with at least this probability together
  std::uint64_t seed = 0;  ///< the same seed gives the same text
};

struct GeneratedText {
  std::string text;  ///< without the prompt
  std::vector<std::int32_t> tokens;
  std::string reason;  ///< why it ended: "stop", "length", "context" or "interrupted"
  std::int64_t prompt_tokens = 0;
  std::int64_t reused_tokens = 0;                  ///< of the prompt, which were computed for the text before
  std::optional<double> prompt_tokens_per_second;  ///< none where nothing was computed
  std::optional<double> generation_tokens_per_second;  ///< none where nothing was measured
  double first_token_seconds = 0;
};

/// A turn of a conversation.
struct ChatTurn {
  std::string role;  ///< "system", "user" or "assistant"
  std::string content;
};

/// Hears the text piece by piece, as soon as it is certain.
using TextSink = std::function<void(const std::string& piece)>;

/// A model that continues texts. It keeps what it computed: a prompt that begins as the text before costs
/// only what differs. Used by one thread at a time.
class TextModel {
 public:
  /// Opens the model; weights are loaded with the first text. Throws UsageError for options without meaning.
  TextModel(Environment& environment, const std::string& model, const RuntimeOptions& options = {});
  ~TextModel();
  TextModel(const TextModel&) = delete;
  TextModel& operator=(const TextModel&) = delete;

  Session& session();
  /// Tokens that a text may have.
  std::int64_t context_limit() const;
  /// Tokens that the cache has room for now; 0 before the first text.
  std::int64_t context() const;

  /// Continues a text; an empty one begins with the model's first token, if it has one. Throws UsageError for
  /// options without meaning, InputError for a prompt that leaves no room, and, before it takes any, if
  /// memory is not enough. An interrupt is no exception: what was drawn until then is returned.
  GeneratedText generate(const std::string& prompt, const GenerateOptions& options = {},
                         const TextSink& sink = {});

  /// The turn that follows. Throws InputError for a model without a chat template.
  GeneratedText chat(const std::vector<ChatTurn>& turns, const GenerateOptions& options = {},
                     const TextSink& sink = {});
  /// Throws InputError if the model has no chat template, if the template cannot render these turns and a
  /// short question, or if they leave no room: before the weights are loaded.
  void check_chat(const std::vector<ChatTurn>& turns);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace knapsaq
