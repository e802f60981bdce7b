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
  /// A finished block.
  struct Block {
    std::uint64_t bytes = 0;  ///< of its file
    std::string hash;         ///< of its file
    std::vector<Input> inputs;
  };

  CalibrationSource source;
  std::string tokens_hash;    ///< Samples::hash
  std::int64_t layers = 0;    ///< blocks that the model has
  std::vector<Block> blocks;  ///< 0, 1, ..: those that are finished

  std::uint64_t tokens() const {
    return static_cast<std::uint64_t>(source.options.samples) *
           static_cast<std::uint64_t>(source.options.window);
  }
};

inline constexpr std::string_view kManifestName = "calibration.json";
/// "block-00003.safetensors"
std::string block_file_name(std::size_t block);

std::string to_json(const Manifest& manifest);
/// Throws InputError without the file's name.
Manifest parse_manifest(std::string_view text);
/// parse_manifest() of the file in `folder`, errors with its name.
Manifest read_manifest(const std::filesystem::path& folder);

}  // namespace knapsaq
