#pragma once

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <string>

#include <nlohmann/json.hpp>

#include "knapsaq/base/files.h"
#include "knapsaq/base/float16.h"

namespace knapsaq {

/// Copies a model of one safetensors file and puts `value`, in bf16 the signs of its rows in turn, into all
/// of one fp16 tensor: a weight that is finite and whose products are not.
inline void copy_with_huge_weight(const std::filesystem::path& from, const std::filesystem::path& to,
                                  const std::string& tensor, float value = 3e38f) {
  std::filesystem::copy(from, to, std::filesystem::copy_options::recursive);
  const std::filesystem::path path = to / "model.safetensors";
  const std::string bytes = read_file(path);
  std::uint64_t size = 0;
  std::memcpy(&size, bytes.data(), sizeof size);
  auto header = nlohmann::json::parse(bytes.substr(sizeof size, size));
  std::string data = bytes.substr(sizeof size + size);
  auto& entry = header.at(tensor);
  if (entry.at("dtype") != "F16" && entry.at("dtype") != "BF16")
    throw std::invalid_argument("copy_with_huge_weight: of 16 bits");
  entry["dtype"] = "BF16";
  const auto begin = entry.at("data_offsets")[0].get<std::size_t>();
  const auto end = entry.at("data_offsets")[1].get<std::size_t>();
  const auto width = entry.at("shape").back().get<std::size_t>();
  for (std::size_t i = 0; begin + i * sizeof(std::uint16_t) < end; ++i) {
    const std::uint16_t number = float_to_bfloat16(i / width % 2 == 0 ? value : -value);
    std::memcpy(data.data() + begin + i * sizeof number, &number, sizeof number);
  }
  const std::string text = header.dump();
  size = text.size();
  write_file(path, std::string(reinterpret_cast<const char*>(&size), sizeof size) + text + data);
}

}  // namespace knapsaq
