#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace knapsaq {

/// How a long text is cut into windows that a model can see, and which of their tokens count. The three
/// protocols give different numbers for the same model and text; never compare across them.
enum class Protocol : std::uint8_t {
  gptq,    ///< windows without overlap, every token but the first scored (GPTQ, AWQ, AMQ)
  stride,  ///< a window that slides by `stride` and scores what is new (Hugging Face's guide, MXQ)
  llama    ///< windows without overlap, second half scored, each starting with BOS (llama-perplexity)
};

/// Throws UsageError for anything but "gptq", "stride", "llama".
Protocol parse_protocol(std::string_view name);
std::string_view name_of(Protocol protocol);

/// One window of the token sequence.
struct Window {
  std::int64_t begin = 0;         ///< its first token
  std::int64_t length = 0;        ///< tokens in it
  std::int64_t first_target = 1;  ///< position inside the window of the first token that is scored; >= 1
  double weight = 0;              ///< what the mean over its scored tokens counts for in the text's mean

  std::int64_t targets() const { return length - first_target; }
};

/// What an evaluation is about; zeros mean the protocol's default.
struct WindowOptions {
  Protocol protocol = Protocol::gptq;
  std::int64_t window =
      0;  ///< tokens; default: gptq 2048, stride 1024, llama 512, at most what the model can see
  std::int64_t stride = 0;  ///< for `stride` only; default: half a window
  std::int64_t limit = 0;   ///< the first so many windows only; 0: all
};

/// Puts defaults in the place of zeros; `max_positions` is what the model can see. Throws UsageError for
/// values that make no sense: a window of fewer than 2 tokens (llama: 4), one longer than max_positions, a
/// stride longer than the window or given to another protocol.
WindowOptions resolve(WindowOptions options, std::int64_t max_positions);

/// The windows of a text of `tokens` tokens. `options` are resolved.
/// - gptq: floor(T / W) windows; mean over W-1 targets, all windows weigh the same (AMQ's eval.py).
/// - stride: for i = 0, S, 2S, ..: the window ends at min(i+S, T), starts at max(i+S-W, 0), its last min(S,
/// T-i)
///   tokens are scored and the mean weighs as many; the very first token has nothing before it and is left
///   out of the mean but kept in the weight, as MXQ's harness does.
/// - llama: floor(T / W) windows; targets W/2+1 .. W-1.
/// Throws InputError if the text is too short for one window.
std::vector<Window> plan_windows(std::int64_t tokens, const WindowOptions& options);

}  // namespace knapsaq
