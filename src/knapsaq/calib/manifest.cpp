#include "knapsaq/calib/manifest.h"

#include <set>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"
#include "knapsaq/base/json_text.h"

namespace knapsaq {
namespace {

using nlohmann::json;

constexpr std::string_view kFormat = "knapsaq calibration";
constexpr std::uint64_t kVersion = 1;
// A thousand blocks of ten linears with names of 60 bytes make one megabyte.
constexpr std::uint64_t kLargestManifest = std::uint64_t{64} << 20;
// Far above any model, low enough that products of two stay far below 2^63.
constexpr std::uint64_t kMostBlocks = 1u << 16;
// Of a block: three matrices of each expert, and some more.
constexpr std::uint64_t kMostInputs = 1u << 16;
constexpr std::uint64_t kWidest = 1u << 24;
constexpr std::uint64_t kMostSamples = 1u << 24;
constexpr std::uint64_t kLongestWindow = 1u << 30;

const json& field(const json& object, const char* name) {
  const auto found = object.find(name);
  if (found == object.end()) throw InputError(fmt::format("has no field {}", name));
  return *found;
}

std::uint64_t number(const json& object, const char* name, std::uint64_t smallest, std::uint64_t largest) {
  const json& value = field(object, name);
  if (!value.is_number_unsigned() || value.get<std::uint64_t>() < smallest ||
      value.get<std::uint64_t>() > largest)
    throw InputError(fmt::format("{} is not an integer from {} to {}", name, smallest, largest));
  return value.get<std::uint64_t>();
}

std::string text(const json& value, const char* name) {
  if (!value.is_string() || value.get_ref<const std::string&>().empty())
    throw InputError(fmt::format("{} is not a text", name));
  return value.get<std::string>();
}

const json& list(const json& object, const char* name, std::uint64_t most) {
  const json& value = field(object, name);
  if (!value.is_array() || value.size() > most)
    throw InputError(fmt::format("{} is not a list of at most {}", name, most));
  return value;
}

const json& object_in(const json& value, const char* what) {
  if (!value.is_object()) throw InputError(fmt::format("{} is not an object", what));
  return value;
}

Manifest::Block parse_block(const json& value, std::set<std::string>& seen) {
  Manifest::Block block{.bytes = number(value, "bytes", 0, ~std::uint64_t{0} >> 1),
                        .hash = text(field(value, "hash"), "hash"),
                        .inputs = {},
                        .rows = 0};
  if (value.contains("rows")) block.rows = static_cast<std::int64_t>(number(value, "rows", 1, kWidest));
  for (const json& item : list(value, "inputs", kMostInputs)) {
    object_in(item, "an input");
    Manifest::Input input{.linears = {},
                          .width = static_cast<std::int64_t>(number(item, "width", 1, kWidest))};
    if (item.contains("tokens")) input.tokens = number(item, "tokens", 0, ~std::uint64_t{0} >> 1);
    for (const json& name : list(item, "linears", kMostInputs)) {
      input.linears.push_back(text(name, "a linear"));
      if (!seen.insert(input.linears.back()).second)
        throw InputError(fmt::format("names linear {} twice", in_quotes(input.linears.back())));
    }
    if (input.linears.empty()) throw InputError("has an input without linears");
    block.inputs.push_back(std::move(input));
  }
  return block;
}

Manifest::Outputs parse_outputs(const json& value, std::uint64_t layers, std::uint64_t samples) {
  object_in(value, "outputs");
  Manifest::Outputs outputs{.windows = static_cast<std::int64_t>(number(value, "windows", 1, samples)),
                            .files = {}};
  std::set<std::string> seen;
  for (const json& item : list(value, "files", layers + 2)) {
    object_in(item, "a file of outputs");
    Manifest::OutputFile file{.bytes = number(item, "bytes", 0, ~std::uint64_t{0} >> 1),
                              .hash = text(field(item, "hash"), "hash"),
                              .outputs = {}};
    for (const json& one : list(item, "outputs", kMostInputs)) {
      object_in(one, "an output");
      const json& products = field(one, "products");
      if (!products.is_boolean()) throw InputError("products is neither true nor false");
      file.outputs.push_back({text(field(one, "matrix"), "matrix"),
                              static_cast<std::int64_t>(number(one, "width", 1, kWidest)),
                              products.get<bool>()});
      if (!seen.insert(file.outputs.back().matrix).second)
        throw InputError(fmt::format("names the output of {} twice", in_quotes(file.outputs.back().matrix)));
    }
    outputs.files.push_back(std::move(file));
  }
  return outputs;
}

}  // namespace

std::string output_file_name(std::size_t place) { return fmt::format("outputs-{:05}.safetensors", place); }

std::string block_file_name(std::size_t block) { return fmt::format("block-{:05}.safetensors", block); }

std::string to_json(const Manifest& manifest) {
  const CalibrationSource& source = manifest.source;
  nlohmann::ordered_json out = {{"format", kFormat},
                                {"version", kVersion},
                                {"model", source.model},
                                {"text", source.text},
                                {"tokens_hash", manifest.tokens_hash},
                                {"samples", source.options.samples},
                                {"window", source.options.window},
                                {"seed", source.options.seed},
                                {"held_back", source.options.held_back},
                                {"tokens", manifest.tokens()},
                                {"precision", source.precision == Precision::bf16 ? "bf16" : "fp32"},
                                {"layers", manifest.layers},
                                {"blocks", nlohmann::ordered_json::array()}};
  for (const Manifest::Block& block : manifest.blocks) {
    nlohmann::ordered_json inputs = nlohmann::ordered_json::array();
    for (const Manifest::Input& input : block.inputs) {
      inputs.push_back({{"width", input.width}, {"linears", input.linears}});
      if (input.tokens) inputs.back()["tokens"] = *input.tokens;
    }
    nlohmann::ordered_json entry = {{"bytes", block.bytes}, {"hash", block.hash}, {"inputs", inputs}};
    if (block.rows > 0) entry["rows"] = block.rows;
    out["blocks"].push_back(std::move(entry));
  }
  // Only where they are wanted: earlier versions read calibrations without them.
  if (manifest.outputs) {
    nlohmann::ordered_json files = nlohmann::ordered_json::array();
    for (const Manifest::OutputFile& file : manifest.outputs->files) {
      nlohmann::ordered_json outputs = nlohmann::ordered_json::array();
      for (const Manifest::Output& output : file.outputs)
        outputs.push_back(
            {{"matrix", output.matrix}, {"width", output.width}, {"products", output.products}});
      files.push_back({{"bytes", file.bytes}, {"hash", file.hash}, {"outputs", outputs}});
    }
    out["outputs"] = {{"windows", manifest.outputs->windows}, {"files", files}};
  }
  return out.dump(1) + "\n";
}

Manifest parse_manifest(std::string_view content) {
  const json root = parse_json(content);
  if (!root.is_object() || root.value("format", json()) != kFormat)
    throw InputError("is not the description of a calibration");
  if (const auto version = number(root, "version", 0, ~std::uint64_t{0}); version != kVersion)
    throw InputError(
        fmt::format("is of version {}, this program reads version {}; calibrate again", version, kVersion));
  Manifest manifest;
  manifest.source.model = text(field(root, "model"), "model");
  manifest.source.text = text(field(root, "text"), "text");
  manifest.tokens_hash = text(field(root, "tokens_hash"), "tokens_hash");
  manifest.source.options.samples = static_cast<std::int64_t>(number(root, "samples", 1, kMostSamples));
  manifest.source.options.window = static_cast<std::int64_t>(number(root, "window", 2, kLongestWindow));
  manifest.source.options.seed = number(root, "seed", 0, ~std::uint64_t{0});
  // Calibrations from before this option held nothing back.
  if (root.contains("held_back"))
    manifest.source.options.held_back =
        static_cast<std::int64_t>(number(root, "held_back", 0, ~std::uint64_t{0} >> 1));
  if (number(root, "tokens", 0, ~std::uint64_t{0}) != manifest.tokens())
    throw InputError("tokens is not samples times window");
  const std::string precision = text(field(root, "precision"), "precision");
  if (precision != "bf16" && precision != "fp32") throw InputError("precision is neither bf16 nor fp32");
  manifest.source.precision = precision == "bf16" ? Precision::bf16 : Precision::fp32;
  manifest.layers = static_cast<std::int64_t>(number(root, "layers", 1, kMostBlocks));
  std::set<std::string> seen;
  for (const json& block : list(root, "blocks", static_cast<std::uint64_t>(manifest.layers) + 1))
    manifest.blocks.push_back(parse_block(object_in(block, "a block"), seen));
  if (root.contains("outputs"))
    manifest.outputs = parse_outputs(root["outputs"], static_cast<std::uint64_t>(manifest.layers),
                                     static_cast<std::uint64_t>(manifest.source.options.samples));
  return manifest;
}

Manifest read_manifest(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / kManifestName;
  const std::string content = read_file(path, kLargestManifest);
  try {
    return parse_manifest(content);
  } catch (const InputError& error) {
    throw InputError(path.string() + ": " + error.what());
  }
}

}  // namespace knapsaq
