#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "knapsaq/calib/calibration.h"

namespace knapsaq {

/// calibration.json: the content of a calibration's files and its sources.
struct Manifest {
  /// One distinct input of a block.
  struct Input {
    std::vector<std::string> linears;  ///< that have it; tensors are named after the first
    std::int64_t width = 0;
  };
  /// A finished block, or the part after the last block: the input of the output head, and how often the
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
  /// 0, 1, ..: the finished ones; `layers` blocks, followed by the ends of the model. Calibrations of version
  /// 0.1 lack the ends.
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
/// "block-00003.safetensors"; the ends of the model count as one more block.
std::string block_file_name(std::size_t block);

std::string to_json(const Manifest& manifest);
/// Throws InputError without the file's name.
Manifest parse_manifest(std::string_view text);
/// parse_manifest() of the file in `folder`; errors include its name.
Manifest read_manifest(const std::filesystem::path& folder);

}  // namespace knapsaq
