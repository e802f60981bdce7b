#include "knapsaq/text/decoder.h"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string_view>

#include "knapsaq/base/utf8.h"
#include "knapsaq/text/byte_alphabet.h"
#include "knapsaq/text/decoder_steps.h"

namespace knapsaq {
namespace {

using Tokens = std::vector<std::string>;

Tokens join(const Tokens& tokens) {
  std::string all;
  for (const std::string& token : tokens) all += token;
  return {std::move(all)};
}

Tokens from_byte_alphabet(const Tokens& tokens) {
  std::string bytes;
  for (const std::string& token : tokens) bytes += byte_level_bytes(token);
  return {replace_invalid_utf8(bytes)};
}

Tokens from_fallback(const Tokens& tokens) {
  Tokens out;
  std::string bytes;
  const auto flush = [&] {
    append_fallback_run(bytes, out);
    bytes.clear();
  };
  for (const std::string& token : tokens) {
    const auto byte = fallback_byte(token);
    if (byte) {
      bytes.push_back(*byte);
    } else {
      flush();
      out.push_back(token);
    }
  }
  flush();
  return out;
}

}  // namespace

std::string byte_level_bytes(const std::string& token) {
  return ByteAlphabet::instance().bytes(token).value_or(token);
}

std::string replaced(std::string_view token, const std::string& pattern, const std::string& content) {
  std::string out;
  std::size_t done = 0;
  for (std::size_t at = token.find(pattern); at != std::string_view::npos; at = token.find(pattern, done)) {
    out.append(token.substr(done, at - done)).append(content);
    done = at + pattern.size();
  }
  return out.append(token.substr(done));
}

std::optional<char> fallback_byte(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return std::nullopt;
  unsigned byte = 0;
  for (const char c : token.substr(3, 2)) {
    const unsigned digit = c >= '0' && c <= '9'   ? static_cast<unsigned>(c - '0')
                           : c >= 'A' && c <= 'F' ? static_cast<unsigned>(c - 'A' + 10)
                           : c >= 'a' && c <= 'f' ? static_cast<unsigned>(c - 'a' + 10)
                                                  : 16;
    if (digit > 15) return std::nullopt;
    byte = byte * 16 + digit;
  }
  return static_cast<char>(byte);
}

void append_fallback_run(const std::string& bytes, std::vector<std::string>& tokens) {
  if (bytes.empty()) return;
  if (find_invalid_utf8(bytes) == bytes.size()) {
    tokens.push_back(bytes);
  } else {
    tokens.insert(tokens.end(), bytes.size(), std::string(kReplacementCharacter));
  }
}

std::string stripped(std::string_view token, const DecoderStep& step) {
  for (std::size_t i = 0; i < step.start && token.starts_with(step.content); ++i)
    token.remove_prefix(step.content.size());
  for (std::size_t i = 0; i < step.stop && token.ends_with(step.content); ++i)
    token.remove_suffix(step.content.size());
  return std::string(token);
}

std::string decode_tokens(const std::vector<DecoderStep>& steps, Tokens tokens) {
  if (steps.empty()) {
    std::string text;
    for (std::size_t i = 0; i < tokens.size(); ++i) text += (i == 0 ? "" : " ") + tokens[i];
    return replace_invalid_utf8(text);
  }
  for (const DecoderStep& step : steps) {
    switch (step.kind) {
      case DecoderStep::Kind::kByteLevel:
        tokens = from_byte_alphabet(tokens);
        break;
      case DecoderStep::Kind::kByteFallback:
        tokens = from_fallback(tokens);
        break;
      case DecoderStep::Kind::kFuse:
        tokens = join(tokens);
        break;
      case DecoderStep::Kind::kReplace:
        for (std::string& token : tokens) token = replaced(token, step.pattern, step.content);
        break;
      case DecoderStep::Kind::kStrip:
        for (std::string& token : tokens) token = stripped(token, step);
        break;
      case DecoderStep::Kind::kMetaspace:
        for (std::size_t i = 0; i < tokens.size(); ++i) {
          tokens[i] = replaced(tokens[i], step.pattern, i == 0 && step.strip_first ? "" : " ");
        }
        break;
    }
  }
  return replace_invalid_utf8(join(tokens).front());
}

}  // namespace knapsaq
