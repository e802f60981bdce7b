// Llama 3's tokenizer.model: lines with a token in base64, a blank and its rank, which is its id.

#include <algorithm>
#include <array>
#include <charconv>

#include <fmt/format.h>

#include "knapsaq/base/error.h"
#include "knapsaq/text/byte_alphabet.h"
#include "knapsaq/text/tokenizer_readers.h"

namespace knapsaq {
namespace {

/// The longest token of Llama 3 has 128 bytes. All splits of a token are tried, so it must not be long.
constexpr std::size_t kLongestToken = 1024;
/// Llama 3 reserves this many ids after its vocabulary.
constexpr int kSpecialTokens = 256;

constexpr std::string_view kBase64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

std::array<std::int8_t, 256> base64_values() {
  std::array<std::int8_t, 256> values{};
  values.fill(-1);
  for (std::size_t i = 0; i < kBase64.size(); ++i) {
    values[static_cast<unsigned char>(kBase64[i])] = static_cast<std::int8_t>(i);
  }
  return values;
}

/// Nullopt if `text` is not base64 with its padding.
std::optional<std::string> from_base64(std::string_view text) {
  static const std::array<std::int8_t, 256> values = base64_values();
  if (text.empty() || text.size() % 4 != 0) return std::nullopt;
  std::size_t padding = 0;
  while (padding < 2 && text.ends_with('=')) {
    text.remove_suffix(1);
    ++padding;
  }
  std::string bytes;
  unsigned bits = 0;
  unsigned count = 0;
  for (const char c : text) {
    const std::int8_t value = values[static_cast<unsigned char>(c)];
    if (value < 0) return std::nullopt;
    bits = (bits << 6 | static_cast<unsigned>(value)) & 0xFFFF;
    count += 6;
    if (count < 8) continue;
    count -= 8;
    bytes.push_back(static_cast<char>(bits >> count & 0xFF));
  }
  return bytes;
}

struct Line {
  std::string_view token;
  std::string_view rank;
};

std::optional<Line> split_line(std::string_view line) {
  const std::size_t blank = line.find(' ');
  if (blank == std::string_view::npos) return std::nullopt;
  return Line{line.substr(0, blank), line.substr(blank + 1)};
}

std::string_view take_line(std::string_view& text) {
  const std::size_t end = std::min(text.find('\n'), text.size());
  std::string_view line = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

/// The tokens that Llama 3 puts after its vocabulary, in order.
std::vector<std::string> special_tokens() {
  std::vector<std::string> tokens = {"<|begin_of_text|>",
                                     "<|end_of_text|>",
                                     "<|reserved_special_token_0|>",
                                     "<|reserved_special_token_1|>",
                                     "<|reserved_special_token_2|>",
                                     "<|reserved_special_token_3|>",
                                     "<|start_header_id|>",
                                     "<|end_header_id|>",
                                     "<|reserved_special_token_4|>",
                                     "<|eot_id|>"};
  for (int i = 5; static_cast<int>(tokens.size()) < kSpecialTokens; ++i) {
    tokens.push_back(fmt::format("<|reserved_special_token_{}|>", i));
  }
  return tokens;
}

}  // namespace

bool looks_like_tiktoken(std::string_view model) {
  const auto line = split_line(take_line(model));
  return line && from_base64(line->token).has_value();
}

TokenizerParts read_tiktoken(std::string_view text, const TokenizerSettings& given,
                             const std::string& where) {
  const auto damaged = [&](std::size_t number, const char* what) {
    throw InputError(fmt::format("{}: line {} {}; the file is damaged", where, number, what));
  };
  // Tokens are kept in the byte alphabet, as in tokenizer.json, and split as bytes.
  const ByteAlphabet& alphabet = ByteAlphabet::instance();
  const auto lines = static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n')) + 1;
  Vocabulary bytes(where, lines);
  Vocabulary vocabulary(where, lines);
  for (std::size_t number = 1; !text.empty(); ++number) {
    const std::string_view raw = take_line(text);
    if (raw.empty()) continue;
    const auto line = split_line(raw);
    const auto token = line ? from_base64(line->token) : std::nullopt;
    if (!token || token->empty()) {
      damaged(number, "is not base64 and a rank");
      continue;
    }
    if (token->size() > kLongestToken) damaged(number, "has a token of more than 1024 bytes");
    std::int64_t rank = -1;
    const auto [end, error] = std::from_chars(line->rank.data(), line->rank.data() + line->rank.size(), rank);
    if (error != std::errc() || end != line->rank.data() + line->rank.size()) damaged(number, "has no rank");
    bytes.add(*token, rank);
    std::string name;
    for (const char c : *token) name += alphabet.character(static_cast<unsigned char>(c));
    vocabulary.add(name, rank);
  }
  for (int byte = 0; byte < 256; ++byte) {
    if (!bytes.find(std::string(1, static_cast<char>(byte)))) {
      throw InputError(fmt::format("{}: no token for the byte {}; the file is damaged", where, byte));
    }
  }
  std::vector<std::int32_t> by_rank;
  for (std::int32_t id = 0; id < bytes.size(); ++id) {
    if (bytes.contains(id)) by_rank.push_back(id);
  }
  const std::vector<MergeRule> merges = merges_of_vocabulary(bytes, by_rank, false);

  TokenizerParts parts;
  std::vector<PreTokenizerStep> steps;
  steps.push_back(split_step(kLlama3Split, where));
  append_byte_level(false, nullptr, where, steps);
  parts.pre_tokenizer = PreTokenizer(std::move(steps));
  parts.decoder = {{.kind = DecoderStep::Kind::kByteLevel, .pattern = {}, .content = {}}};
  const std::int32_t first_special = vocabulary.size();
  parts.bpe = Bpe(std::move(vocabulary), merges, {.byte_level = true, .ignore_merges = true, .unknown = {}});

  TokenizerSettings settings = given;
  if (settings.added.empty()) {
    // Without a tokenizer_config.json that names them: Llama 3's own names.
    std::int32_t id = first_special;
    for (const std::string& content : special_tokens()) {
      parts.added.push_back({.id = checked_id(id++, where), .content = content, .special = true});
    }
  }
  if (!settings.bos) settings.bos = "<|begin_of_text|>";
  if (!settings.eos) settings.eos = "<|end_of_text|>";
  apply_settings(settings, true, true, parts, where);
  return parts;
}

}  // namespace knapsaq
