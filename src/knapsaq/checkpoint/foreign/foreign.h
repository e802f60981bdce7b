#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "knapsaq/checkpoint/tensor_table.h"
#include "knapsaq/compute/tensor.h"

namespace knapsaq {

/// A model that another tool has quantized, in the tensors that its own reader would make of it.
struct ForeignModel {
  std::string format;                  ///< for people: "GPTQ, 4 bits in groups of 128"
  std::vector<DerivedTensor> tensors;  ///< at least one
  /// Tensors without a use for weights: how activations are quantized, for example.
  std::vector<std::string> unused;
};

/// What a format is read from.
struct ForeignFiles {
  const nlohmann::json& quantization;  ///< its description; an object, empty if the files have none
  DType type;                          ///< of the model's weights, according to config.json: F16, BF16 or F32
  const TensorTable& tensors;          ///< of the files; has to live as long as the derived tensors
};

/// A format of another tool. It is one file of this folder and one line in foreign_formats.cpp.
struct ForeignFormat {
  std::string_view name;  ///< for people
  /// Whether a description is one of this format: by its quant_method, or by what older versions wrote.
  bool (*recognises)(const nlohmann::json& quantization);
  /// Names and checks all tensors, makes none. Throws InputError without the name of the folder.
  ForeignModel (*read)(const ForeignFiles& files);
};

const ForeignFormat& fp8_format();
const ForeignFormat& mxfp4_format();
const ForeignFormat& compressed_tensors_format();
const ForeignFormat& gptq_format();
const ForeignFormat& awq_format();

std::span<const ForeignFormat* const> foreign_formats();
/// Their names, for messages.
std::string foreign_format_names();

/// The description of the quantization of a folder's model: quantization_config of config.json or of the
/// language model's part of it, an older tool's key, or an older tool's file beside it. Null if there is
/// none. Throws InputError for one that is not an object.
nlohmann::json foreign_description(const nlohmann::json& config, const std::filesystem::path& folder);

}  // namespace knapsaq
