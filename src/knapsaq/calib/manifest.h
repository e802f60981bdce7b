#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "knapsaq/calib/calibration.h"

namespace knapsaq {

/// calibration.json: what the files of a calibration hold and what they were made from.
struct Manifest {
  /// One distinct input of a block.
  struct Input {
    std::vector<std::string> linears;  ///< that see it; tensors are named after the first
    std::int64_t width = 0;
  };
  /// A finished block, or what is behind the last one: the input of the output head, and how often the
  /// embedding's rows are looked up.
  struct Block {
    std::uint64_t bytes = 0;  ///< of its file
    std::string hash;         ///< of its file
    std::vector<Input> inputs;
    std::int64_t rows = 0;  ///< of the embedding, whose shares are in the file; 0 in blocks
  };

  CalibrationSource source;
  std::string tokens_hash;  ///< Samples::hash
  std::int64_t layers = 0;  ///< blocks that the model has
  /// 0, 1, ..: those that are finished; `layers` blocks, and the ends of the model behind them. Calibrations
  /// of version 0.1 are without the ends.
  std::vector<Block> blocks;
  bool has_ends() const { return std::ssize(blocks) > layers; }

  std::uint64_t tokens() const {
    return static_cast<std::uint64_t>(source.options.samples) *
           static_cast<std::uint64_t>(source.options.window);
  }
};

inline constexpr std::string_view kManifestName = "calibration.json";
/// The tensor with the shares of the embedding's rows.
inline constexpr std::string_view kRowSharesName = "row_shares";
/// "block-00003.safetensors"; the ends of the model come as one block more.
std::string block_file_name(std::size_t block);

std::string to_json(const Manifest& manifest);
/// Throws InputError without the file's name.
Manifest parse_manifest(std::string_view text);
/// parse_manifest() of the file in `folder`, errors with its name.
Manifest read_manifest(const std::filesystem::path& folder);

}  // namespace knapsaq
