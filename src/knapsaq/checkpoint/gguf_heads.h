#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "knapsaq/family/config.h"

namespace knapsaq {

/// The value heads of the delta rule in llama.cpp's order. Hugging Face's has the value heads of one key head
/// side by side (h reads key head h / r, r of them share one); llama.cpp repeats the key heads as a whole (h
/// reads h % key heads), so its converter has value head j of key head k at j * key_heads + k.
class GgufHeads {
 public:
  /// Of this model; nothing is in another order where it has no delta rule, or as many key heads as value
  /// heads.
  explicit GgufHeads(const ModelConfig& config);

  /// The rows of one of Knapsaq's tensors (or values of a vector) in llama.cpp's order, as indices of the own
  /// rows; empty: as they are.
  std::vector<std::int64_t> rows(std::string_view tensor) const;
  /// The same for its columns.
  std::vector<std::int64_t> columns(std::string_view tensor) const;

 private:
  Recurrence delta_;
};

}  // namespace knapsaq
