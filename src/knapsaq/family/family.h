#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "knapsaq/family/config.h"
#include "knapsaq/family/fields.h"
#include "knapsaq/family/gguf.h"
#include "knapsaq/family/published.h"

namespace knapsaq {

/// Transformers' defaults for fields that are absent; absent and null differ.
struct FamilyDefaults {
  bool tied = false;
  std::int64_t heads = 0;     ///< 0: has to be given
  std::int64_t kv_heads = 0;  ///< 0: as many as heads
  std::int64_t head_dim = 0;  ///< 0: hidden / heads
  std::int64_t vocab = 0;     ///< 0: has to be given
  std::int64_t max_positions = 2048;
};

/// What differs between the families of models, as data and two functions. A family is one file of this
/// folder and one line in registry.cpp. docs/adding-a-model.md shows a whole one.
struct Family {
  /// Of the language model in config.json: "qwen3", "gemma3_text".
  std::string_view model_type;
  /// Of a language model that stands alone: "Qwen3ForCausalLM". A multimodal model, whose config.json has the
  /// language model's part as text_config, is of this family if that part's model_type is.
  std::string_view architecture;
  FamilyDefaults defaults = {};
  /// Reads the family's own fields. Done before: hidden, embedding (= hidden), layers, heads, kv_heads,
  /// head_dim, vocab, max_positions, tied. Everything else has ModelConfig's defaults.
  void (*read)(const Fields& fields, ModelConfig& config) = nullptr;
  /// Modules that published files name or fuse in another way than Knapsaq (see published.h); null: none.
  std::vector<PublishedModule> (*published)(const ModelConfig& config) = nullptr;
  /// Other spellings that files have, for reading only.
  std::vector<PublishedModule> (*also_read)(const ModelConfig& config) = nullptr;
  /// Beginnings of the names of tensors that are no part of the language model and are carried to every
  /// output in Hugging Face layout as they are: "mtp.".
  std::span<const std::string_view> carried = {};
  GgufFamily gguf = {};
};

/// All families, in the order in which messages name them.
std::span<const Family* const> families();

/// The family that config.json names. Throws InputError for an unsupported one, naming the supported ones,
/// and if none is named.
const Family& find_family(const nlohmann::json& config);
/// Of a configuration that was parsed.
const Family& family_of(const ModelConfig& config);

/// Reads config.json in the current notation and in that of Transformers 5. Throws InputError for an
/// unsupported architecture (naming the supported ones), for a missing field, and for values outside sensible
/// bounds.
ModelConfig parse_model_config(const nlohmann::json& config);

}  // namespace knapsaq
