#pragma once

// The tiny models of tests/data/model/families (tools/make_family_references.py).

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "test_models.h"

namespace knapsaq {

inline std::filesystem::path family_model(std::string_view name = "") {
  return std::filesystem::path(KNAPSAQ_TEST_DATA) / "model" / "families" / name;
}

/// The folders of all families, by name.
inline std::vector<std::filesystem::path> family_models() {
  std::vector<std::filesystem::path> folders;
  for (const auto& entry : std::filesystem::directory_iterator(family_model()))
    folders.push_back(entry.path());
  std::sort(folders.begin(), folders.end());
  return folders;
}

/// tiny_models() and family_models().
inline std::vector<std::filesystem::path> all_models() {
  std::vector<std::filesystem::path> folders = tiny_models();
  const std::vector<std::filesystem::path> families = family_models();
  folders.insert(folders.end(), families.begin(), families.end());
  return folders;
}

/// What stands in a folder's reference.json.
inline nlohmann::json reference_of(const std::filesystem::path& folder) {
  std::ifstream file(folder / "reference.json");
  return nlohmann::json::parse(file);
}

/// Whether tokens choose experts: rounding may then choose another one, and what follows is another model's.
/// Only the tokens of reference.json leave no doubt.
inline bool chooses_experts(const std::filesystem::path& folder) {
  return reference_of(folder).contains("margin");
}

/// A length up to which the rotation of a position does not depend on how many there are; at most `most`.
inline std::int64_t steady_length(const std::filesystem::path& folder, std::int64_t most) {
  std::ifstream file(folder / "config.json");
  const std::string config((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  for (const char* kind : {"\"dynamic\"", "\"longrope\"", "\"su\""})
    if (config.find(kind) != config.npos) return std::min<std::int64_t>(most, 30);
  return most;
}

/// A folder's name as the name of a test.
inline std::string name_of_folder(const ::testing::TestParamInfo<std::filesystem::path>& folder) {
  std::string name = folder.param.filename().string();
  std::replace_if(
      name.begin(), name.end(), [](char c) { return c == '-' || c == '.'; }, '_');
  return name;
}

}  // namespace knapsaq
