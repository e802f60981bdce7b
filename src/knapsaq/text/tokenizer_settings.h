#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "knapsaq/text/added_tokens.h"

namespace knapsaq {

/// The settings beside a tokenizer's vocabulary: tokenizer_config.json, special_tokens_map.json,
/// added_tokens.json, and the ids of config.json. Each may be absent.
struct TokenizerSettings {
  std::string tokenizer_class;  ///< without the "Fast" of its name
  std::string model_type;       ///< of config.json
  std::optional<bool> add_bos;
  std::optional<bool> add_eos;
  std::optional<bool> add_prefix_space;
  std::optional<bool> legacy;
  std::optional<std::string> bos;
  std::optional<std::string> eos;
  std::optional<std::string> pad;
  std::optional<std::string> unknown;
  std::optional<std::int32_t> bos_id;  ///< of config.json, if no file assigns roles to tokens
  std::optional<std::int32_t> eos_id;
  /// Texts with a role (bos, pad, ...): special wherever their id comes from.
  std::vector<std::string> special;
  /// Tokens with ids, in the order of their ids.
  std::vector<AddedToken> added;
};

/// Throws InputError, naming the file, if one is damaged.
TokenizerSettings read_tokenizer_settings(const std::filesystem::path& folder);

}  // namespace knapsaq
