// tokenizer_bench FOLDER TEXT: how fast one core turns a text into ids and back. Prints one line of JSON; the
// best of the repeats counts, because other processes can only slow a run down. tools/bench_tokenizers.py
// sets it beside Hugging Face's.

#include <algorithm>
#include <ctime>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "knapsaq/base/error.h"
#include "knapsaq/text/corpus.h"
#include "knapsaq/text/tokenizer.h"

namespace {

/// Processor time: one thread works, and other processes on the machine should not count.
template <class Function>
double seconds(Function&& function) {
  const std::clock_t begin = std::clock();
  function();
  return static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
}

void run(const std::string& folder, const std::string& path, int repeats) {
  const std::string text = knapsaq::read_text_file(path);
  std::optional<knapsaq::Tokenizer> tokenizer;
  const double load = seconds([&] { tokenizer = knapsaq::Tokenizer::load(folder); });
  std::vector<std::int32_t> ids;
  // The first time no piece is known; later ones are what a long text runs at.
  const double first = seconds([&] { ids = tokenizer->encode(text); });
  double encode = first;
  double decode = 1e9;
  for (int i = 0; i < repeats; ++i) {
    encode = std::min(encode, seconds([&] { ids = tokenizer->encode(text); }));
    decode = std::min(decode, seconds([&] { tokenizer->decode(ids); }));
  }
  const double megabytes = static_cast<double>(text.size()) / 1e6;
  fmt::print(
      R"({{"load_ms": {:.0f}, "ids": {}, "first_mb_s": {:.1f}, "encode_mb_s": {:.1f}, "decode_mb_s": {:.1f}}})"
      "\n",
      load * 1e3, ids.size(), megabytes / first, megabytes / encode, megabytes / decode);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Speed of a tokenizer on one core");
  std::string folder;
  std::string text;
  int repeats = 5;
  app.add_option("folder", folder, "folder with the tokenizer's files")->required();
  app.add_option("text", text, "UTF-8 text")->required();
  app.add_option("--repeats", repeats, "how often to measure");
  CLI11_PARSE(app, argc, argv);
  try {
    run(folder, text, repeats);
  } catch (const knapsaq::Error& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
  return 0;
}
