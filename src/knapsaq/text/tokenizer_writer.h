#pragma once

#include <string>

#include <nlohmann/json_fwd.hpp>

#include "knapsaq/text/tokenizer_model.h"

namespace knapsaq {

/// The tokenizer of a GGUF file (read_gguf_tokenizer()) as a tokenizer.json of Hugging Face's library: its
/// vocabulary with ids, merges, added tokens, the steps before and behind, and the special tokens around a
/// text. Whether its readers give the same ids is for the caller to try: user-defined tokens with blanks are
/// merged there, not searched for.
std::string tokenizer_json(const TokenizerParts& parts);

/// The tokenizer_config.json beside it: the tokens with roles. Its class lets Transformers use tokenizer.json
/// as it is.
nlohmann::ordered_json tokenizer_config_json(const TokenizerParts& parts);

}  // namespace knapsaq
