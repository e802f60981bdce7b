#pragma once

#include <cstdlib>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <string_view>

#include <unistd.h>

namespace knapsaq {

/// An empty folder for one test, removed afterwards.
class Scratch {
 public:
  Scratch() {
    std::string name = (std::filesystem::temp_directory_path() / "knapsaq-test-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("cannot make a scratch folder");
    path_ = name;
  }
  ~Scratch() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(std::string_view name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

/// `shared/` beside the project: material that is not part of it. Empty when it is not there; tests that need
/// it then skip with a message.
inline std::filesystem::path shared_folder() {
  const std::filesystem::path folder = std::filesystem::path(KNAPSAQ_SOURCE_DIR) / ".." / "shared";
  return std::filesystem::exists(folder) ? folder : std::filesystem::path();
}

}  // namespace knapsaq
