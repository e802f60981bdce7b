#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
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
    std::optional<std::uint64_t> tokens = {};  ///< that an expert saw; nothing: all of the text
  };
  /// A finished block, or the part after the last block: the input of the output head, and how often the
  /// embedding's rows are looked up.
  struct Block {
    std::uint64_t bytes = 0;  ///< of its file
    std::string hash;         ///< of its file
    std::vector<Input> inputs;
    std::int64_t rows = 0;  ///< of the embedding, whose shares are in the file; 0 in blocks
  };

  /// The gradients by one matrix's output.
  struct Output {
    std::string matrix;
    std::int64_t width = 0;
    bool products = false;  ///< second moments, not only mean squares
  };
  struct OutputFile {
    std::uint64_t bytes = 0;
    std::string hash;
    std::vector<Output> outputs;
  };
  /// Statistics of gradients (OutputStatistics), in files of their own.
  struct Outputs {
    std::int64_t windows = 0;  ///< the first of the samples, which were run backward
    /// The finished ones, in the order of the backward pass: the head, the blocks from the last to the first,
    /// the embedding.
    std::vector<OutputFile> files;
  };

  CalibrationSource source;
  std::string tokens_hash;  ///< Samples::hash
  std::int64_t layers = 0;  ///< blocks that the model has
  /// 0, 1, ..: the finished ones; `layers` blocks, followed by the ends of the model. Calibrations of version
  /// 0.1 lack the ends.
  std::vector<Block> blocks;
  std::optional<Outputs> outputs;  ///< if they are wanted
  /// Whether the statistics of all outputs are finished.
  bool has_outputs() const { return outputs && std::ssize(outputs->files) == layers + 2; }
  /// The block that file `at` of Outputs::files is of; `layers` for the head, one more for the embedding.
  std::size_t place_of_output(std::size_t at) const {
    const auto blocks_of_model = static_cast<std::size_t>(layers);
    return at <= blocks_of_model ? blocks_of_model - at : at;
  }
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

/// "outputs-00003.safetensors", by Manifest::place_of_output().
std::string output_file_name(std::size_t place);
/// Behind a matrix's name: the tensors in these files.
inline constexpr std::string_view kGradientMoment = ".gradient_second_moment";
inline constexpr std::string_view kGradientSquare = ".gradient_mean_square";

std::string to_json(const Manifest& manifest);
/// Throws InputError without the file's name.
Manifest parse_manifest(std::string_view text);
/// parse_manifest() of the file in `folder`; errors include its name.
Manifest read_manifest(const std::filesystem::path& folder);

}  // namespace knapsaq
