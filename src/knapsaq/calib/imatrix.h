#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "knapsaq/calib/input_statistics.h"
#include "knapsaq/model/config.h"

namespace knapsaq {

/// What an importance matrix knows about one weight's inputs.
struct ImatrixEntry {
  std::vector<float> mean_square;  ///< [width], finite, none negative
  std::uint64_t tokens = 0;        ///< in legacy files, which do not say it: the number of chunks
};

/// The entries of a whole imatrix file in memory by llama.cpp's names ("blk.0.attn_q.weight"): of GGUF with
/// general.type "imatrix" (tensors <name>.in_sum2 and <name>.counts), or of llama.cpp's legacy format (.dat).
/// Entries of mixtures of experts, and those that saw no token, are left out. Throws InputError without the
/// file's name, which the caller knows.
std::map<std::string, ImatrixEntry, std::less<>> parse_imatrix(std::span<const std::byte> bytes);

/// llama.cpp's importance matrix as a source of mean squares.
class Imatrix final : public InputSource {
 public:
  /// Throws InputError naming the file if it belongs to another model: if an entry has another width than the
  /// linear, or most linears have none. (llama-imatrix leaves out what no token went through, and some files
  /// lack what their maker did not need.)
  static Imatrix open(const std::filesystem::path& path, const ModelConfig& config);

  /// A matrix without an entry (llama-imatrix leaves out the output head unless it is told otherwise) gets
  /// that of another that multiplies the same input (q, k, v; gate, up), or else mean squares of one: its
  /// columns count alike, as without an imatrix.
  InputStatistics inputs(std::string_view matrix, std::int64_t width) const override;
  /// Names the matrices of which nothing is known.
  std::vector<std::string> notes() const override;
  bool has_second_moments() const override { return false; }
  /// "imatrix <hash of the file>, <tokens> tokens"
  std::string identity() const override;

 private:
  std::string where_;
  std::string identity_;
  std::vector<std::string> missing_;  ///< matrices without an entry, in the order of the forward pass
  std::map<std::string, ImatrixEntry, std::less<>> entries_;
};

/// Where the numbers of an imatrix file that is written come from, for people.
struct ImatrixNotes {
  std::vector<std::string> datasets;  ///< at least one; names of text files, say
  std::uint32_t chunks = 0;
  std::uint32_t chunk_size = 0;  ///< tokens
};

/// Writes imatrix.gguf, as llama-imatrix does, for llama-quantize --imatrix: the sums of the squares of the
/// inputs of every linear and of the output head, and the number of tokens. Throws InputError for models that
/// GGUF has no names for.
void write_imatrix(const InputSource& source, const ModelConfig& config, const ImatrixNotes& notes,
                   const std::filesystem::path& path);

}  // namespace knapsaq
