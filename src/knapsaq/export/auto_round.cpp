// AutoRound: GPTQ's container with another description, which Transformers loads with different bits per
// linear.

#include <algorithm>

#include "knapsaq/export/formats.h"
#include "knapsaq/export/gptq_folder.h"
#include "knapsaq/export/module_patterns.h"

namespace knapsaq {
namespace {

using nlohmann::ordered_json;

class AutoRoundWriter final : public GptqFolderWriter {
 public:
  AutoRoundWriter() : GptqFolderWriter(false) {}
  std::string_view name() const override { return "auto-round"; }

 private:
  void describe(const std::vector<PlannedLinear>& plan, const ModelConfig&, ordered_json& json,
                const std::filesystem::path&) const override {
    const AffineForm usual = usual_form(plan);
    ordered_json extra = ordered_json::object();
    for (const PlannedLinear& planned : plan) {
      const std::string& name = planned.linear.name;
      if (!planned.linear.in_block()) continue;
      if (!planned.quantized) {
        extra[name] = {{"bits", 16}, {"act_bits", 16}};
        continue;
      }
      const AffineForm& form = planned.form;
      if (form.bits != usual.bits) extra[name]["bits"] = form.bits;
      if (form.group != usual.group) extra[name]["group_size"] = gptq_group_size(form);
      if (form.symmetric != usual.symmetric) extra[name]["sym"] = form.symmetric;
    }
    const auto linear =
        std::ranges::find_if(plan, [](const PlannedLinear& planned) { return planned.linear.in_block(); });
    std::string blocks = take_apart(linear->linear.name).before;
    blocks.pop_back();  // the dot
    json["quantization_config"] = {
        {"quant_method", "auto-round"},
        {"packing_format", zero_fields(plan) == ZeroFields::plain ? "auto_round" : "auto_round:auto_gptq"},
        {"bits", usual.bits},
        {"group_size", gptq_group_size(usual)},
        {"sym", usual.symmetric},
        {"data_type", "int"},
        {"block_name_to_quantize", blocks}};
    if (!extra.empty()) json["quantization_config"]["extra_config"] = extra;
  }
};

}  // namespace

const Writer& auto_round_writer() {
  static const AutoRoundWriter instance;
  return instance;
}

}  // namespace knapsaq
