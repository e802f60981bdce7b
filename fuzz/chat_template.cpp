// A chat template from anywhere, and messages (behind zero bytes: a role, then its content, and so on). The
// engine reads the template here, where the fuzzer sees how far it gets; what it can read runs as it does for
// users, in a confined child, which gives parts or one line of error.

#include "knapsaq/text/chat_template.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <string>
#include <string_view>
#include <vector>

#include <jinja/lexer.h>
#include <jinja/parser.h>

#include "knapsaq/base/error.h"

namespace {

/// The engine recurses: what nests deeper needs more stack than there is, which only a child may find out.
bool is_shallow(const std::string& source) {
  constexpr std::size_t kLongest = 1500;
  return source.size() < kLongest && std::ranges::count_if(source, [](char c) {
                                       return std::string_view("([{-").find(c) != std::string_view::npos;
                                     }) < 100;
}

bool can_be_read(const std::string& source) {
  try {
    static_cast<void>(jinja::parse_from_tokens(jinja::lexer().tokenize(source)));
    return true;
  } catch (const std::exception&) {
    return false;
  }
}

/// What is in front of the first zero byte, which is taken away with it.
std::string next(std::string_view& rest) {
  const std::size_t end = std::min(rest.find('\0'), rest.size());
  std::string result(rest.substr(0, end));
  rest.remove_prefix(std::min(end + 1, rest.size()));
  return result;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace knapsaq;
  static const Tokenizer tokenizer = Tokenizer::load(KNAPSAQ_TEST_DATA "/text/small/llama2");
  std::string_view rest(reinterpret_cast<const char*>(data), size);
  const std::string source = next(rest);
  std::vector<ChatMessage> messages;
  while (!rest.empty()) {
    std::string role = next(rest);
    messages.push_back({std::move(role), next(rest)});
  }
  if (!is_shallow(source) || !can_be_read(source)) return 0;
  const ChatTemplate chat(source, tokenizer, "file");
  try {
    static_cast<void>(chat.render(messages, true));
  } catch (const InputError& error) {
    const std::string_view what = error.what();
    if (!what.starts_with("file: the chat template")) std::abort();
    if (std::ranges::any_of(what, [](char c) { return static_cast<unsigned char>(c) < 0x20; })) std::abort();
  }
  return 0;
}
