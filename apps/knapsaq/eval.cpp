#include <chrono>
#include <memory>

#include <CLI/CLI.hpp>
#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "command.h"
#include "knapsaq/base/units.h"
#include "knapsaq/checkpoint/checkpoint.h"
#include "knapsaq/compute/backend.h"
#include "knapsaq/eval/perplexity.h"
#include "knapsaq/model/config.h"
#include "knapsaq/model/decoder.h"
#include "knapsaq/text/corpus.h"
#include "knapsaq/text/tokenizer.h"

namespace knapsaq::command {
namespace {

struct Options {
  Common common;
  std::string model;
  std::string text;
  std::string protocol = "gptq";
  WindowOptions windows;
  std::string precision = "bf16";
};

void run(const Options& options) {
  start(options.common);
  WindowOptions requested = options.windows;
  requested.protocol = parse_protocol(options.protocol);

  const Checkpoint checkpoint = Checkpoint::open(options.model);
  const ModelConfig config = parse_model_config(checkpoint.config());
  const WindowOptions windows = resolve(requested, config.max_positions);
  const Tokenizer tokenizer = Tokenizer::load(options.model);
  const std::vector<std::int32_t> tokens = tokenizer.encode(read_text_file(options.text));
  plan_windows(std::ssize(tokens),
               windows);  // a text that is too short is refused before the model is loaded

  const auto backend = make_cpu_backend(options.precision == "fp32" ? Precision::fp32 : Precision::bf16);
  Decoder decoder = Decoder::load(checkpoint, config, *backend, progress());
  const auto begin = std::chrono::steady_clock::now();
  const Perplexity result = perplexity(
      tokens, windows, tokenizer.adds_bos() ? tokenizer.bos() : std::nullopt,
      [&](std::span<const std::int32_t> batch, std::int64_t count, std::int64_t length,
          std::span<float> out) { decoder.losses(batch, count, length, out); },
      progress());
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();

  if (options.common.json) {
    nlohmann::ordered_json json = {{"model", options.model},
                                   {"text", options.text},
                                   {"protocol", name_of(windows.protocol)},
                                   {"window", windows.window},
                                   {"precision", options.precision},
                                   {"perplexity", result.perplexity},
                                   {"nll", result.nll},
                                   {"nll_standard_error", result.standard_error},
                                   {"tokens", result.tokens},
                                   {"windows", result.windows},
                                   {"seconds", seconds}};
    if (windows.protocol == Protocol::stride) json["stride"] = windows.stride;
    print(json);
    return;
  }
  fmt::print(
      "perplexity {:.4f}   nll {:.5f} +- {:.5f}   {} tokens in {} windows of {}, protocol {}, {}, {}\n",
      result.perplexity, result.nll, result.standard_error, result.tokens, result.windows, windows.window,
      name_of(windows.protocol), options.precision, format_seconds(seconds));
}

}  // namespace

void add_eval(CLI::App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand("eval", "Measure a model's perplexity on a text");
  verb->add_option("model", options->model,
                   "Model folder in Hugging Face layout, quantized or not, or GGUF file")
      ->required();
  verb->add_option("--text", options->text, "Text file (UTF-8)")->required();
  verb->add_option("--protocol", options->protocol, "gptq, stride or llama; see docs/commands.md")
      ->capture_default_str();
  verb->add_option("--window", options->windows.window,
                   "Tokens in a window; default: gptq 2048, stride 1024, llama 512");
  verb->add_option("--stride", options->windows.stride,
                   "Tokens between windows of protocol stride; default: half a window");
  verb->add_option("--windows", options->windows.limit, "Score the first N windows only; 0: all");
  verb->add_option("--precision", options->precision, "Arithmetic of the forward pass: bf16 or fp32")
      ->check(CLI::IsMember({"bf16", "fp32"}))
      ->capture_default_str();
  add_common(*verb, options->common);
  verb->footer("Example:\n  knapsaq eval MODEL --text wiki.test.raw --protocol gptq --window 512");
  verb->callback([options] { run(*options); });
}

}  // namespace knapsaq::command
