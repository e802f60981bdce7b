#include "knapsaq/eval/windows.h"

#include <algorithm>

#include <fmt/core.h>

#include "knapsaq/base/error.h"

namespace knapsaq {
namespace {

struct ProtocolFacts {
  Protocol protocol;
  std::string_view name;
  std::int64_t default_window;
  std::int64_t smallest_window;  ///< the smallest that leaves a token to score
};

constexpr ProtocolFacts kProtocols[] = {{Protocol::gptq, "gptq", 2048, 2},
                                        {Protocol::stride, "stride", 1024, 2},
                                        {Protocol::llama, "llama", 512, 4}};

const ProtocolFacts& facts(Protocol protocol) { return kProtocols[static_cast<std::size_t>(protocol)]; }

}  // namespace

Protocol parse_protocol(std::string_view name) {
  for (const ProtocolFacts& known : kProtocols)
    if (known.name == name) return known.protocol;
  throw UsageError(fmt::format("'{}' is not a protocol: choose gptq, stride or llama", name));
}

std::string_view name_of(Protocol protocol) { return facts(protocol).name; }

WindowOptions resolve(WindowOptions options, std::int64_t max_positions) {
  const ProtocolFacts& known = facts(options.protocol);
  if (options.window == 0) options.window = std::min(known.default_window, max_positions);
  if (options.window < known.smallest_window)
    throw UsageError(
        fmt::format("a window of {} tokens leaves nothing to score: protocol {} needs at least {}",
                    options.window, known.name, known.smallest_window));
  if (options.window > max_positions)
    throw UsageError(
        fmt::format("a window of {} tokens is more than the {} that the model can see: give --window {}",
                    options.window, max_positions, max_positions));
  if (options.limit < 0) throw UsageError("the number of windows cannot be negative");
  if (options.protocol == Protocol::stride) {
    if (options.stride == 0) options.stride = std::max<std::int64_t>(options.window / 2, 1);
    if (options.stride < 1 || options.stride > options.window)
      throw UsageError(fmt::format("a stride of {} does not fit a window of {}: give 1 to {}", options.stride,
                                   options.window, options.window));
  } else if (options.stride != 0) {
    throw UsageError(fmt::format("--stride is for protocol stride, not for {}", known.name));
  }
  return options;
}

std::vector<Window> plan_windows(std::int64_t tokens, const WindowOptions& options) {
  std::vector<Window> windows;
  const std::int64_t width = options.window;
  const auto full = [&] { return options.limit > 0 && std::ssize(windows) == options.limit; };
  if (options.protocol == Protocol::stride) {
    if (tokens < 2) throw InputError(fmt::format("the text has {} tokens: at least 2 are needed", tokens));
    for (std::int64_t i = 0; i < tokens && !full(); i += options.stride) {
      const std::int64_t end = std::min(i + options.stride, tokens);
      Window window;
      window.begin = std::max<std::int64_t>(i + options.stride - width, 0);
      window.length = end - window.begin;
      window.first_target = std::max<std::int64_t>(i - window.begin, 1);
      window.weight = static_cast<double>(end - i);
      // A stride of 1 (or a text of 1 token) makes a first window in which nothing can be predicted.
      if (window.targets() > 0) windows.push_back(window);
    }
    return windows;
  }
  if (tokens < width)
    throw InputError(
        fmt::format("the text has {} tokens, fewer than one window of {}: give a longer text or --window {}",
                    tokens, width, tokens));
  const bool half = options.protocol == Protocol::llama;
  for (std::int64_t begin = 0; begin + width <= tokens && !full(); begin += width) {
    Window window{begin, width, half ? width / 2 + 1 : 1, 0};
    window.weight = static_cast<double>(half ? window.targets() : width);
    windows.push_back(window);
  }
  return windows;
}

}  // namespace knapsaq
