#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "knapsaq/checkpoint/gguf_file.h"

namespace knapsaq {

/// The metadata of a GGUF file, checked on access. Every function throws InputError, naming file and key, for
/// a value of another kind. Functions that return an optional return nullopt if there is no such key.
class GgufFields {
 public:
  /// `where` names the file in errors. Both must outlive this.
  GgufFields(const GgufMetadata& metadata, const std::string& where) : metadata_(metadata), where_(where) {}

  /// Of any integer type; above 2^63 - 1 is an error. A list of equal numbers (one for every layer) is that
  /// number; a list of different ones is an error.
  std::optional<std::int64_t> integer(std::string_view key) const;
  /// Of either floating-point type, or an integer.
  std::optional<double> number(std::string_view key) const;
  std::optional<bool> flag(std::string_view key) const;
  std::optional<std::string> text(std::string_view key) const;
  /// Null if there is no such key.
  const std::vector<std::string>* texts(std::string_view key) const;
  const std::vector<float>* floats(std::string_view key) const;
  const std::vector<bool>* flags(std::string_view key) const;
  /// Of either 32-bit type.
  std::optional<std::vector<std::int64_t>> integers(std::string_view key) const;

  std::int64_t required_integer(std::string_view key) const;
  double required_number(std::string_view key) const;
  std::string required_text(std::string_view key) const;

  [[noreturn]] void fail(std::string_view key, std::string_view reason) const;

 private:
  template <class T>
  const std::vector<T>* list(std::string_view key, std::string_view kind) const;

  const GgufMetadata& metadata_;
  const std::string& where_;
};

}  // namespace knapsaq
