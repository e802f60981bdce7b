#include <array>

#include <fmt/format.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"
#include "knapsaq/base/json_text.h"
#include "knapsaq/checkpoint/foreign/foreign.h"

namespace knapsaq {
namespace {

using nlohmann::json;

constexpr std::uint64_t kLargestFile = std::uint64_t{16} << 20;

/// Keys of config.json: today's, and that of compressed-tensors before Transformers knew it.
constexpr std::array<const char*, 2> kKeys{"quantization_config", "compression_config"};
/// Files that AutoGPTQ and AutoAWQ wrote before Transformers knew them.
constexpr std::array<const char*, 2> kFiles{"quantize_config.json", "quant_config.json"};

}  // namespace

std::span<const ForeignFormat* const> foreign_formats() {
  static const std::array<const ForeignFormat*, 5> formats{
      &fp8_format(), &mxfp4_format(), &compressed_tensors_format(), &gptq_format(), &awq_format()};
  return formats;
}

std::string foreign_format_names() {
  std::string names;
  for (const ForeignFormat* format : foreign_formats())
    names += (names.empty()                        ? ""
              : format == foreign_formats().back() ? " and "
                                                   : ", ") +
             std::string(format->name);
  return names;
}

json foreign_description(const json& config, const std::filesystem::path& folder) {
  const json* text = &config;
  for (int level = 0; level < 2; ++level) {
    for (const char* key : kKeys) {
      const auto found = text->find(key);
      if (found == text->end() || found->is_null()) continue;
      if (!found->is_object())
        throw InputError(fmt::format("{}: {} is not an object", (folder / "config.json").string(), key));
      return *found;
    }
    // The language model's part of a multimodal one.
    const auto part = text->find("text_config");
    if (part == text->end() || !part->is_object()) break;
    text = &*part;
  }
  for (const char* name : kFiles) {
    const std::filesystem::path path = folder / name;
    if (!std::filesystem::exists(path)) continue;
    const std::string content = read_file(path, kLargestFile);
    json found;
    try {
      found = parse_python_json(content);
    } catch (const InputError& error) {
      throw InputError(fmt::format("{}: {}", path.string(), why_no_json(content, error.what())));
    }
    if (!found.is_object()) throw InputError(path.string() + ": is not a JSON object");
    return found;
  }
  return nullptr;
}

}  // namespace knapsaq
