#include "knapsaq/export/tokenizer_check.h"

#include <algorithm>
#include <array>
#include <optional>
#include <set>
#include <string_view>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"
#include "knapsaq/base/json_text.h"
#include "knapsaq/base/quote.h"
#include "knapsaq/checkpoint/checkpoint.h"
#include "knapsaq/checkpoint/gguf_file.h"
#include "knapsaq/model/generator.h"
#include "knapsaq/text/tokenizer.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;
using namespace std::string_view_literals;

constexpr std::array kOrdinary{
    "Hello world"sv,
    "a"sv,
    "The quick brown fox jumps over the lazy dog."sv,
    "It's 3333+777=4110, isn't it? They'll say \"no\" (or 'yes')."sv,
    "Numbers: 1 12 123 1234 12345 3.14 1,000,000 2024-12-31 0x1F"sv,
    "DON'T SHOUT! I'VE HEARD, YOU'RE LOUD."sv,
    "CamelCase snake_case kebab-case e-mail@example.org https://example.org/?q=1&r=2#x"sv,
    "for (int i = 0; i < n; ++i) {\n\treturn a[i] * 2;\n}\n"sv,
    "def f(x):\n    if x:\n        return None\n"sv,
    "One line\nand another\n\nA paragraph\n"sv,
    "naïve café — “quoted” … 50 € ± 3 µm x² ½"sv,
    "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich."sv,
    "Привет, мир! Как дела? 123"sv,
    "日本語のテキスト、中文文本。한국어 텍스트 123"sv,
    "مرحبا بالعالم ١٢٣"sv,
    "हिन्दी पाठ"sv,
    "Việt Nam"sv,
    "🦙 emoji 👩‍👩‍👧 😀😀 ok"sv,
    "$x^2 + y_1 \\leq \\frac{1}{2}$ <b>bold</b> [1] {2}"sv,
};

constexpr std::array kUnusual{
    ""sv,
    " "sv,
    "  "sv,
    " one blank in front"sv,
    "  two blanks in front"sv,
    "blanks behind  "sv,
    "a  b   c    d        e"sv,
    "\n"sv,
    "\n\n\n"sv,
    "\n a"sv,
    "\ta tab"sv,
    "lines\r\nof Windows\r\n"sv,
    "a\0b \x01\x7F\x1B[0m"sv,
    "cafe\u0301 A\u030A \u1E9E\u0323"sv,
    "\u00A0nbsp\u3000ideographic\u200Bzero\u2028line\uFEFFmark"sv,
    "\u2581metaspace \u2581"sv,
    "<0x0A> <0xFF> byte tokens"sv,
    "ﬁ ＡＢＣ İstanbul ǅ K"sv,
    "\U0010FFFF \uE000 \U0001F1E9\U0001F1EA"sv,
};

/// Number of tokens of one kind that are tried: reserved tokens number thousands, all alike.
constexpr std::size_t kOfAKind = 4;

void add_tokens_of(const std::vector<const AddedToken*>& kind, std::set<std::string>& tokens) {
  for (std::size_t i = 0; i < kind.size(); ++i)
    if (i < kOfAKind || i + kOfAKind >= kind.size()) tokens.insert(kind[i]->content);
}

std::optional<Tokenizer> tokenizer_of(const fs::path& folder) {
  try {
    return Tokenizer::load(folder);
  } catch (const InputError&) {
    return std::nullopt;
  }
}

}  // namespace

std::vector<TrialText> trial_texts(const TokenizerParts& parts) {
  std::vector<TrialText> texts;
  for (const std::string_view text : kOrdinary) texts.push_back({std::string(text), true});
  for (const std::string_view text : kUnusual) texts.push_back({std::string(text), false});
  std::vector<const AddedToken*> special;
  std::vector<const AddedToken*> plain;
  std::vector<const AddedToken*> flagged;
  for (const AddedToken& token : parts.added) {
    (token.special ? special : plain).push_back(&token);
    if (token.normalized || token.strip_left || token.strip_right || token.single_word)
      flagged.push_back(&token);
  }
  std::set<std::string> tokens;
  for (const auto* kind : {&special, &plain, &flagged}) add_tokens_of(*kind, tokens);
  for (const std::string& token : tokens)
    for (const char* form :
         {"{0}", "a{0}b", "a {0} b", "a  {0}  b", "{0}{0}b", " {0}", "{0} b\n", "A{0}.\n{0}"})
      texts.push_back({fmt::format(fmt::runtime(form), token), false});
  return texts;
}

TokenizerDifference compare_tokenizers(const TokenizerModel& source, const TokenizerModel& other,
                                       std::span<const TrialText> texts) {
  TokenizerDifference difference;
  difference.texts = texts.size();
  for (const TrialText& trial : texts)
    if (source.encode(trial.text, true) != other.encode(trial.text, true))
      (trial.ordinary ? difference.ordinary : difference.unusual).push_back(trial.text);
  return difference;
}

std::string describe(std::span<const std::string> differing, std::size_t texts) {
  constexpr std::size_t kShown = 3;
  std::string shown;
  for (const std::string& text : differing.first(std::min(kShown, differing.size())))
    shown += (shown.empty() ? "" : ", ") + in_quotes(text);
  return fmt::format("{} of {} trial texts, such as {}", differing.size(), texts, shown);
}

std::vector<std::int32_t> ends_of_text(const fs::path& folder, std::optional<std::int32_t> eos) {
  nlohmann::json config;
  constexpr std::uint64_t kLargest = std::uint64_t{16} << 20;
  if (is_gguf_file(folder)) {
    config = Checkpoint::open(folder).config();
  } else if (const fs::path path = folder / "config.json"; fs::exists(path)) {
    try {
      config = parse_python_json(read_file(path, kLargest));
    } catch (const InputError& error) {
      throw InputError(fmt::format("{}: {}", path.string(), error.what()));
    }
  }
  return stop_tokens(config, folder, eos);
}

void check_carried_tokenizer(const fs::path& source, const fs::path& out) {
  const auto fail = [&](const std::string& what) {
    throw InputError(fmt::format(
        "{}: the tokenizer cannot be carried over: {}; save it as tokenizer.json (save_pretrained of "
        "Transformers' tokenizer)",
        source.string(), what));
  };
  const std::optional<Tokenizer> ours = tokenizer_of(source);
  if (!ours) return;  // CarriedFiles has copied the existing files
  const std::optional<Tokenizer> theirs = tokenizer_of(out);
  if (!theirs) fail("what was written of it is not read");
  const std::vector<TrialText> texts = trial_texts(ours->model().parts());
  const TokenizerDifference difference = compare_tokenizers(ours->model(), theirs->model(), texts);
  // Other programs have no words for some of what is in GGUF metadata, which Knapsaq reads itself.
  const bool is_gguf = is_gguf_file(source) || fs::exists(source / kGgufMetadataName);
  if (is_gguf ? !difference.ordinary.empty() : !difference.none()) {
    const auto& first = difference.ordinary.empty() ? difference.unusual : difference.ordinary;
    fail("it would give other ids for " + describe(first, difference.texts));
  }
  const TokenizerParts& a = ours->model().parts();
  const TokenizerParts& b = theirs->model().parts();
  if (a.bos != b.bos || a.eos != b.eos || a.pad != b.pad || a.unknown != b.unknown)
    fail("other tokens would begin or end a text");
  if (ends_of_text(source, ours->eos()) != ends_of_text(out, theirs->eos()))
    fail("other tokens would end a text");
}

}  // namespace knapsaq
