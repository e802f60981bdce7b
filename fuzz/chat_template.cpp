// A chat template from anywhere, and messages (behind zero bytes: a role, then its content, and so on), as
// users have them: the engine works in a confined child, which gives parts or one line of error.

#include "knapsaq/text/chat_template.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include <sys/mman.h>
#include <unistd.h>

#include "knapsaq/base/error.h"

// Where Clang counts what is executed; null where it does not.
extern "C" {
extern std::uint8_t __start___sancov_cntrs __attribute__((weak, visibility("hidden")));
extern std::uint8_t __stop___sancov_cntrs __attribute__((weak, visibility("hidden")));
}

namespace {

/// Makes a child count where libFuzzer looks: the pages of the counters become memory that both have.
bool share_counters() {
  if (&__start___sancov_cntrs == nullptr) return false;
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto begin = (reinterpret_cast<std::uintptr_t>(&__start___sancov_cntrs) + page - 1) / page * page;
  const auto end = reinterpret_cast<std::uintptr_t>(&__stop___sancov_cntrs) / page * page;
  if (begin >= end) return false;
  void* const counters = reinterpret_cast<void*>(begin);
  const std::vector<char> counted(static_cast<const char*>(counters),
                                  static_cast<const char*>(counters) + (end - begin));
  if (::mmap(counters, end - begin, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0) ==
      MAP_FAILED)
    std::abort();
  std::memcpy(counters, counted.data(), counted.size());
  return true;
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
  [[maybe_unused]] static const bool shared = share_counters();
  // A child that can do nothing at all would pass every input.
  static const bool works =
      ChatTemplate("{{ 'a' * 3 }}", tokenizer, "file").render({}, true).at(0).text == "aaa";
  if (!works) std::abort();
  std::string_view rest(reinterpret_cast<const char*>(data), size);
  const std::string source = next(rest);
  std::vector<ChatMessage> messages;
  while (!rest.empty()) {
    std::string role = next(rest);
    messages.push_back({std::move(role), next(rest)});
  }
  try {
    static_cast<void>(ChatTemplate(source, tokenizer, "file").render(messages, true));
  } catch (const InputError& error) {
    const std::string_view what = error.what();
    if (!what.starts_with("file: the chat template")) std::abort();
    if (std::ranges::any_of(what, [](char c) { return static_cast<unsigned char>(c) < 0x20; })) std::abort();
  }
  return 0;
}
