// GPTQ's container with `dynamic`: GPTQModel, SGLang, older vLLM.

#include <map>
#include <tuple>

#include <fmt/format.h>

#include "knapsaq/base/files.h"
#include "knapsaq/export/formats.h"
#include "knapsaq/export/gptq_folder.h"
#include "knapsaq/export/module_patterns.h"

namespace knapsaq {
namespace {

using nlohmann::ordered_json;

/// Adds the fused modules all of whose parts are among `modules`: engines that fuse look them up in `dynamic`
/// under the fused name.
std::vector<BlockModule> with_fused(const std::vector<BlockModule>& modules) {
  std::vector<BlockModule> all = modules;
  std::map<std::tuple<std::int64_t, std::string, std::string_view>, std::size_t> shards;
  for (const BlockModule& module : modules) {
    const FusedModule* fused = fused_module(module.leaf);
    if (fused == nullptr) continue;
    if (++shards[{module.block, module.parent, fused->name}] == fused->shards)
      all.push_back({module.before, module.block, module.parent, std::string(fused->name)});
  }
  return all;
}

ordered_json form_json(const AffineForm& form) {
  return {{"bits", form.bits},
          {"group_size", gptq_group_size(form)},
          {"sym", form.symmetric},
          {"desc_act", false}};
}

class GptqWriter final : public GptqFolderWriter {
 public:
  GptqWriter() : GptqFolderWriter(true) {}
  std::string_view name() const override { return "gptq"; }

 private:
  void describe(const std::vector<PlannedLinear>& plan, const ModelConfig& config, ordered_json& json,
                const std::filesystem::path& folder) const override {
    const AffineForm usual = usual_form(plan);
    std::map<AffineForm, std::vector<BlockModule>> modules;
    std::vector<BlockModule> dense;
    for (const PlannedLinear& planned : plan) {
      if (!planned.linear.in_block()) continue;
      if (!planned.quantized)
        dense.push_back(take_apart(planned.linear.name));
      else if (planned.form != usual)
        modules[planned.form].push_back(take_apart(planned.linear.name));
    }
    // Every key begins with its sign: some readers remove two characters without checking.
    ordered_json dynamic = ordered_json::object();
    for (const std::string& pattern : block_patterns(with_fused(dense), config.layers))
      dynamic[fmt::format("-:^{}$", pattern)] = ordered_json::object();
    for (const auto& [form, those] : modules)
      for (const std::string& pattern : block_patterns(with_fused(those), config.layers))
        dynamic[fmt::format("+:^{}$", pattern)] = form_json(form);

    const char* format = zero_fields(plan) == ZeroFields::plain ? "gptq_v2" : "gptq";
    // Both spellings of the method and of the format are in use.
    ordered_json quantization{{"quant_method", "gptq"}, {"method", "gptq"}};
    quantization.update(form_json(usual));
    quantization.update(
        {{"lm_head", false}, {"checkpoint_format", format}, {"format", format}, {"pack_dtype", "int32"}});
    if (!dynamic.empty()) quantization["dynamic"] = dynamic;
    write_file(folder / "quantize_config.json", quantization.dump(2) + "\n");
    json["quantization_config"] = std::move(quantization);
  }
};

}  // namespace

const Writer& gptq_writer() {
  static const GptqWriter instance;
  return instance;
}

}  // namespace knapsaq
