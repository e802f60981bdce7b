#pragma once

// Where the models are that tests work on: the embedded ones, and tiny ones with references of Transformers.

#include <algorithm>
#include <filesystem>
#include <string_view>
#include <vector>

namespace knapsaq {

/// A file or folder of the embedded assets.
inline std::filesystem::path asset(std::string_view name) {
  return std::filesystem::path(KNAPSAQ_SOURCE_DIR) / "assets" / name;
}

/// One of the models that tools/make_decoder_references.py made.
inline std::filesystem::path tiny_model(std::string_view name = "") {
  return std::filesystem::path(KNAPSAQ_TEST_DATA) / "model" / "decoder" / name;
}

/// All of them, by name.
inline std::vector<std::filesystem::path> tiny_models() {
  std::vector<std::filesystem::path> folders;
  for (const auto& entry : std::filesystem::directory_iterator(tiny_model())) folders.push_back(entry.path());
  std::sort(folders.begin(), folders.end());
  return folders;
}

}  // namespace knapsaq
