#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "knapsaq/checkpoint/checkpoint.h"
#include "knapsaq/checkpoint/gguf_file.h"
#include "knapsaq/family/config.h"

namespace knapsaq {

// A recipe: the file that llama.cpp's llama-quantize reads with --tensor-type-file
// (tools/quantize/quantize.cpp and src/llama-quant.cpp there). It holds entries PATTERN=TYPE between blanks
// or lines, without comments. A pattern is a regular expression (std::regex, ECMAScript) in small letters
// that is searched for anywhere in a tensor's name; the first entry that is found decides. Types are ggml's
// names in letters of either case. Embedding and head follow entries as all matrices do, unless
// --token-embedding-type or --output-tensor-type is given. Entries only count if TYPE, the last argument of
// llama-quantize, is a quantized one; what no entry names becomes what TYPE's mixture makes of it. A type
// whose blocks do not fill a row becomes another (fitting(), quant/scheme.h).

/// How a matrix is stored in a GGUF file.
struct TensorType {
  std::string tensor;  ///< "blk.0.attn_q.weight"
  GgufType type;
  std::int64_t weights = 0;
};

/// The types of all matrices in the GGUF file that the writer makes of `model`, or that `model` is, in the
/// order of matrices(config). Throws like Writer::write().
std::vector<TensorType> gguf_types(const Checkpoint& model, const ModelConfig& config, bool requantize);

/// An entry for each matrix, on a line of its own, that no other tensor's name matches.
std::string recipe_of(const std::vector<TensorType>& types);
/// Whether a file with this beginning is one that recipe_of() wrote.
bool is_own_recipe(std::string_view beginning);
/// The last argument for llama-quantize: the type of most weights, which the file is then named after. Throws
/// UsageError if no matrix is in blocks of a GGML type: llama-quantize follows no recipe then.
std::string file_type_of(const std::vector<TensorType>& types);
/// Whether llama-quantize refuses to make these types without an importance matrix.
bool needs_imatrix(const std::vector<TensorType>& types);

/// An entry of a recipe, whoever wrote it.
struct RecipeEntry {
  std::string pattern;  ///< in small letters
  GgufType type;
};
/// Throws InputError, without the file's name, for what is no recipe.
std::vector<RecipeEntry> parse_recipe(std::string_view text);

}  // namespace knapsaq
