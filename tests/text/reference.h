#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

namespace knapsaq::text_test {

/// tests/data/text, which tools/make_tokenizer_references.py wrote.
std::filesystem::path data_folder();
nlohmann::json read_json(const std::filesystem::path& path);

/// The hard strings, as bytes.
const std::vector<std::string>& hard_strings();

/// 64-bit FNV-1a as 16 hexadecimal digits: of bytes, and of ids as little-endian 32-bit words.
std::string fnv1a(std::string_view bytes);
std::string fnv1a(std::span<const std::int32_t> ids);

}  // namespace knapsaq::text_test
