// compressed-tensors, format pack-quantized: Knapsaq's words unchanged, zero points as integers.

#include <algorithm>
#include <array>
#include <map>

#include <fmt/format.h>

#include "knapsaq/export/affine_folder.h"
#include "knapsaq/export/formats.h"
#include "knapsaq/export/integer_zeros.h"
#include "knapsaq/export/module_patterns.h"
#include "knapsaq/export/words.h"

namespace knapsaq {
namespace {

using nlohmann::ordered_json;

std::string obstacle(const PackedMatrix& matrix) {
  if (matrix.cols % matrix.group != 0)
    return fmt::format("its rows of {} weights are not whole groups of {}; use smaller groups or b{}row",
                       matrix.cols, matrix.group, matrix.bits);
  return "";
}

/// One of config_groups: QuantizationScheme and its QuantizationArgs.
ordered_json group_json(const AffineForm& form, const std::vector<std::string>& targets) {
  return {{"targets", targets},
          {"format", "pack-quantized"},
          {"weights",
           {{"num_bits", form.bits},
            {"type", "int"},
            {"symmetric", form.symmetric},
            {"strategy", form.group == 0 ? "channel" : "group"},
            {"group_size", form.group == 0 ? ordered_json() : ordered_json(form.group)},
            {"dynamic", false},
            {"actorder", nullptr},
            {"block_structure", nullptr},
            {"observer", "minmax"},
            {"observer_kwargs", ordered_json::object()}}},
          {"input_activations", nullptr},
          {"output_activations", nullptr}};
}

std::vector<std::string> targets(std::span<const BlockModule> modules, std::int64_t blocks) {
  // Engines put their own prefixes before "layers", and a model without its head has none.
  std::vector<std::string> patterns = block_patterns(modules, blocks, "(.*\\.)?layers\\.");
  for (std::string& pattern : patterns) pattern.insert(0, "re:").push_back('$');
  return patterns;
}

class CompressedTensorsWriter final : public AffineFolderWriter {
 public:
  std::string_view name() const override { return "compressed-tensors"; }

 private:
  AffineRules rules() const override { return {obstacle}; }
  void check_architecture(const ModelConfig&) const override {}  // the format names no architectures

  bool some_readers_fuse() const override { return true; }
  std::vector<std::string> notes(const std::vector<PlannedLinear>& plan, const ModelConfig&) const override {
    std::vector<std::string> lines;
    const auto asymmetric = [](const PlannedLinear& planned) {
      return planned.quantized && !planned.form.symmetric;
    };
    if (std::ranges::any_of(plan, asymmetric))
      lines.emplace_back(
          "some linears have zero points: vLLM takes these at 4 and 8 bits only, and Transformers 5.23 with "
          "compressed-tensors 0.20 does not load them; schemes that end in s are taken by both");
    return lines;
  }

  std::vector<TensorSpec> tensors(const PlannedLinear& planned) const override {
    const Matrix& linear = planned.linear;
    const AffineForm& form = planned.form;
    const std::int64_t groups = form.group == 0 ? 1 : linear.in / form.group;
    std::vector<TensorSpec> specs{
        {linear.name + ".weight_packed", DType::I32, {linear.out, (linear.in * form.bits + 31) / 32}},
        {linear.name + ".weight_scale", DType::F16, {linear.out, groups}},
        {linear.name + ".weight_shape", DType::I64, {2}}};
    if (!form.symmetric)
      specs.push_back(
          {linear.name + ".weight_zero_point", DType::I32, {(linear.out * form.bits + 31) / 32, groups}});
    return specs;
  }

  void write_linear(const PlannedLinear& planned, const PackedMatrix& matrix, std::span<const PlannedLinear>,
                    CheckpointWriter& writer) const override {
    const std::array<std::int64_t, 2> shape{matrix.rows, matrix.cols};
    writer.write(std::as_bytes(std::span(matrix.codes)));
    writer.write(std::as_bytes(std::span(matrix.scales)));
    writer.write(std::as_bytes(std::span(shape)));
    if (planned.form.symmetric) return;
    const std::vector<std::uint32_t> along_rows =
        pack_zeros(integer_zeros(matrix).zeros.zeros, matrix.rows, matrix.bits);
    std::vector<std::uint32_t> zeros(along_rows.size());
    const std::int64_t groups = matrix.groups();
    transpose_words(along_rows, groups, static_cast<std::int64_t>(zeros.size()) / groups, zeros);
    writer.write(std::as_bytes(std::span(zeros)));
  }

  void describe(const std::vector<PlannedLinear>& plan, const ModelConfig& config, ordered_json& json,
                const std::filesystem::path&) const override {
    std::map<AffineForm, std::vector<BlockModule>> modules;
    std::vector<BlockModule> dense;
    for (const PlannedLinear& planned : plan) {
      if (!planned.linear.in_block()) continue;
      (planned.quantized ? modules[planned.form] : dense).push_back(take_apart(planned.linear.name));
    }

    ordered_json groups;
    for (const auto& [form, those] : modules)
      groups[fmt::format("group_{}", groups.size())] = group_json(form, targets(those, config.layers));
    std::vector<std::string> ignore = targets(dense, config.layers);
    ignore.emplace_back("lm_head");
    // Towers of a multimodal model have layers, too, whose linears may have the same names.
    if (json.contains("text_config")) ignore.emplace_back("re:.*(vision|visual|audio|multi_modal|mtp).*");
    json["quantization_config"] = {{"quant_method", "compressed-tensors"},
                                   {"format", "pack-quantized"},
                                   {"quantization_status", "compressed"},
                                   {"global_compression_ratio", nullptr},
                                   {"kv_cache_scheme", nullptr},
                                   {"ignore", ignore},
                                   {"config_groups", groups}};
  }
};

}  // namespace

const Writer& compressed_tensors_writer() {
  static const CompressedTensorsWriter instance;
  return instance;
}

}  // namespace knapsaq
