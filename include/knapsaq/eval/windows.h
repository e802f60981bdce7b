#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace knapsaq {

/// How a long text is divided into windows that a model can read, and which of their tokens count. The three
/// protocols give different numbers for the same model and text; never compare across them.
enum class Protocol : std::uint8_t {
  gptq,    ///< windows without overlap, every token but the first scored (GPTQ, AWQ, AMQ)
  stride,  ///< a window that slides by `stride`; scores the new tokens (Hugging Face's guide, MXQ)
  llama    ///< windows without overlap, second half scored, each starting with BOS (llama-perplexity)
};

/// Throws UsageError for anything but "gptq", "stride", "llama".
Protocol parse_protocol(std::string_view name);
std::string_view name_of(Protocol protocol);

/// One window of the token sequence.
struct Window {
  std::int64_t begin = 0;         ///< its first token
  std::int64_t length = 0;        ///< number of tokens
  std::int64_t first_target = 1;  ///< position inside the window of the first token that is scored; >= 1
  double weight = 0;              ///< weight of its mean in the text's mean

  std::int64_t targets() const { return length - first_target; }
};

/// Options of an evaluation; zeros mean the protocol's default.
struct WindowOptions {
  Protocol protocol = Protocol::gptq;
  std::int64_t window =
      0;  ///< tokens; default: gptq 2048, stride 1024, llama 512, at most the model's positions
  std::int64_t stride = 0;  ///< for `stride` only; default: half a window
  std::int64_t limit = 0;   ///< scores only this many windows from the first; 0: all
};

/// Replaces zeros by defaults; `max_positions` is the model's. Throws UsageError for invalid values: a window
/// of fewer than 2 tokens (llama: 4), one longer than max_positions, a stride longer than the window or given
/// to another protocol.
WindowOptions resolve(WindowOptions options, std::int64_t max_positions);

/// The windows of a text of `tokens` tokens. `options` are resolved.
/// - gptq: floor(T / W) windows; mean over W-1 targets, all windows have equal weight (AMQ's eval.py).
/// - stride: for i = 0, S, 2S, ..: the window ends at min(i+S, T) and starts at max(i+S-W, 0); its last
///   min(S, T-i) tokens are scored, and their number is the weight of the mean. The very first token has no
///   context: it is excluded from the mean but counted in the weight, as in MXQ's harness.
/// - llama: floor(T / W) windows; targets W/2+1 .. W-1.
/// Throws InputError if the text is too short for one window.
std::vector<Window> plan_windows(std::int64_t tokens, const WindowOptions& options);

}  // namespace knapsaq
