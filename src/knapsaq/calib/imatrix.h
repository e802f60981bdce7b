#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "knapsaq/calib/input_statistics.h"
#include "knapsaq/checkpoint/gguf_names.h"
#include "knapsaq/family/config.h"

namespace knapsaq {

/// The content of an importance matrix for one weight.
struct ImatrixEntry {
  std::vector<float> mean_square;  ///< [width], finite, none negative
  std::uint64_t tokens = 0;        ///< in legacy files, which do not contain it: the number of chunks
};

/// The entries of a whole imatrix file in memory by llama.cpp's names ("blk.0.attn_q.weight"): of GGUF with
/// general.type "imatrix" (tensors <name>.in_sum2 and <name>.counts), or of llama.cpp's legacy format (.dat).
/// Entries of mixtures of experts, and those without tokens, are omitted. Throws InputError without the
/// file's name, which the caller knows.
std::map<std::string, ImatrixEntry, std::less<>> parse_imatrix(std::span<const std::byte> bytes);

/// llama.cpp's importance matrix as a source of mean squares.
class Imatrix final : public InputSource {
 public:
  /// Throws InputError, naming the file, if it belongs to another model: if an entry has another width than
  /// the linear, or most linears have none. (llama-imatrix omits linears that no token reached, and some
  /// files lack entries that their maker did not need.)
  static Imatrix open(const std::filesystem::path& path, const ModelConfig& config);

  /// A matrix without an entry (llama-imatrix omits the output head by default) gets the entry of another
  /// matrix with the same input (q, k, v; gate, up), or else mean squares of one: its columns then have equal
  /// weight, as without an imatrix.
  InputStatistics inputs(std::string_view matrix, std::int64_t width) const override;
  /// Names the matrices without any entry.
  std::vector<std::string> notes() const override;
  bool has_second_moments() const override { return false; }
  /// "imatrix <hash of the file>, <tokens> tokens"
  std::string identity() const override;

 private:
  std::shared_ptr<const GgufNames> names_;
  std::string where_;
  std::string identity_;
  std::vector<std::string> missing_;  ///< matrices without an entry, in the order of the forward pass
  std::map<std::string, ImatrixEntry, std::less<>> entries_;
};

/// The origin of the numbers in a written imatrix file, for people.
struct ImatrixNotes {
  std::vector<std::string> datasets;  ///< at least one; for example names of text files
  std::uint32_t chunks = 0;
  std::uint32_t chunk_size = 0;  ///< tokens
};

/// Writes imatrix.gguf like llama-imatrix, for llama-quantize --imatrix: the sums of the squares of the
/// inputs of every linear and of the output head, and the number of tokens. Throws InputError for models that
/// GGUF has no names for.
void write_imatrix(const InputSource& source, const ModelConfig& config, const ImatrixNotes& notes,
                   const std::filesystem::path& path);

}  // namespace knapsaq
