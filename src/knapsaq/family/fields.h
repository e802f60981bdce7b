#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

namespace knapsaq {

/// Every size of a decoder is at most this (vocabularies reach 2^18, MLPs 2^16), and products of two of them
/// times the layers stay far inside 64 bits.
inline constexpr std::int64_t kLargestSize = std::int64_t{1} << 24;
inline constexpr std::int64_t kMostLayers = 10'000;
inline constexpr std::int64_t kLargestHead = 4096;

/// Throws InputError: "config.json: ..".
[[noreturn]] void fail_config(const std::string& reason);

/// Fields of one JSON object of config.json, checked as they are read: what is missing or senseless is
/// InputError.
class Fields {
 public:
  /// The object must outlive this.
  explicit Fields(const nlohmann::json& object) : object_(object) {}

  /// Whether the field is present and not null.
  bool has(const char* name) const { return object_.contains(name) && !object_[name].is_null(); }
  /// Whether the field is present as null: "none", where an absent field means the default.
  bool is_null(const char* name) const { return object_.contains(name) && object_[name].is_null(); }
  const nlohmann::json& get(const char* name) const;

  std::int64_t size(const char* name, std::int64_t largest = kLargestSize, std::int64_t smallest = 1) const;
  std::int64_t size_or(const char* name, std::int64_t fallback, std::int64_t largest = kLargestSize,
                       std::int64_t smallest = 1) const {
    return has(name) ? size(name, largest, smallest) : fallback;
  }
  bool flag_or(const char* name, bool fallback) const;
  /// A number that is finite and above zero as a float too.
  float positive(const char* name) const { return positive(name, get(name)); }
  float positive_or(const char* name, double fallback) const {
    return has(name) ? positive(name) : static_cast<float>(fallback);
  }
  /// A list of this many of them.
  std::vector<float> positives(const char* name, std::int64_t count) const;
  std::string text_or(const char* name, std::string_view fallback) const;
  /// A list of this many texts, each one of `allowed`.
  std::vector<std::string> texts(const char* name, std::int64_t count,
                                 const std::vector<std::string_view>& allowed) const;

 private:
  static float positive(const char* name, const nlohmann::json& value);

  const nlohmann::json& object_;
};

}  // namespace knapsaq
