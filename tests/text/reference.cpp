#include "reference.h"

#include <array>
#include <bit>
#include <fstream>

#include <fmt/format.h>

namespace knapsaq::text_test {
namespace {

std::string from_base64(std::string_view text) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string bytes;
  unsigned bits = 0;
  unsigned count = 0;
  for (const char c : text) {
    if (c == '=') break;
    bits = bits << 6 | static_cast<unsigned>(kDigits.find(c));
    count += 6;
    if (count < 8) continue;
    count -= 8;
    bytes.push_back(static_cast<char>(bits >> count & 0xFF));
  }
  return bytes;
}

}  // namespace

std::filesystem::path data_folder() { return std::filesystem::path(KNAPSAQ_TEST_DATA) / "text"; }

nlohmann::json read_json(const std::filesystem::path& path) {
  std::ifstream file(path);
  return nlohmann::json::parse(file);
}

const std::vector<std::string>& hard_strings() {
  static const std::vector<std::string> strings = [] {
    std::vector<std::string> read;
    for (const auto& text : read_json(data_folder() / "hard.json"))
      read.push_back(from_base64(text.get<std::string>()));
    return read;
  }();
  return strings;
}

std::string fnv1a(std::string_view bytes) {
  std::uint64_t hash = 0xCBF29CE484222325;
  for (const char byte : bytes) hash = (hash ^ static_cast<unsigned char>(byte)) * 0x100000001B3;
  return fmt::format("{:016x}", hash);
}

std::string fnv1a(std::span<const std::int32_t> ids) {
  std::string bytes;
  for (const std::int32_t id : ids) {
    const auto word = std::bit_cast<std::array<char, 4>>(id);
    bytes.append(word.data(), word.size());
  }
  return fnv1a(bytes);
}

}  // namespace knapsaq::text_test
