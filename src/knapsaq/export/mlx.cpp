// MLX: the native layout (checkpoint/affine_layout.h) without Knapsaq's extensions.

#include <algorithm>
#include <stdexcept>

#include <fmt/format.h>

#include "knapsaq/export/affine_folder.h"
#include "knapsaq/export/formats.h"
#include "knapsaq/export/mlx_memory.h"

namespace knapsaq {
namespace {

using nlohmann::ordered_json;

std::string obstacle(const PackedMatrix& matrix) {
  if (matrix.meta_bits != 16)
    return fmt::format("its scales and zero points are quantized (m{}g{}); use schemes without /m",
                       matrix.meta_bits, matrix.meta_group);
  if (matrix.group != 32 && matrix.group != 64 && matrix.group != 128)
    return fmt::format("MLX has no groups of {} weights; use groups of 32, 64 or 128", matrix.group);
  if (matrix.cols % matrix.group != 0)
    return fmt::format("its rows of {} weights are not whole groups of {}; use smaller groups", matrix.cols,
                       matrix.group);
  return "";
}

class MlxWriter final : public AffineFolderWriter {
 public:
  std::string_view name() const override { return "mlx"; }

 private:
  AffineRules rules() const override { return {obstacle, false, false, true}; }

  void check_architecture(const ModelConfig& config) const override { check_mlx_architecture(config); }

  std::vector<std::string> notes(const std::vector<PlannedLinear>&,
                                 const ModelConfig& config) const override {
    if (config.sliding_window == 0) return {};
    return {
        fmt::format("mlx-lm has no sliding window for this architecture: beyond {} tokens its results differ",
                    config.sliding_window)};
  }

  static AffineShape shape(const PlannedLinear& planned) {
    return {planned.linear.out, planned.linear.in, planned.form.bits, planned.form.group};
  }

  std::vector<TensorSpec> tensors(const PlannedLinear& planned) const override {
    return affine_tensors(planned.linear.name, shape(planned));
  }

  void write_linear(const PlannedLinear&, const PackedMatrix& matrix, std::span<const PlannedLinear>,
                    CheckpointWriter& writer) const override {
    for (const std::span<const std::byte> bytes : affine_bytes(matrix)) writer.write(bytes);
  }

  void describe(const std::vector<PlannedLinear>& plan, const ModelConfig& config, ordered_json& json,
                const std::filesystem::path&) const override {
    // mlx-lm's Llama and Qwen2 read only the older notation of the rotary settings, and its Llama assumes
    // that a model is tied unless stated otherwise.
    if (const auto found = json.find("rope_parameters"); found != json.end() && found->is_object()) {
      if (!json.contains("rope_scaling") && config.ropes.front().scaling.kind != RopeScaling::Kind::none)
        json["rope_scaling"] = *found;
    }
    json["rope_theta"] = config.ropes.front().theta;
    json["tie_word_embeddings"] = config.tied;

    const PlannedLinear* usual = nullptr;
    const AffineForm most = usual_form(plan);
    ordered_json quantization;
    for (const PlannedLinear& planned : plan) {
      if (!planned.quantized) continue;
      quantization[planned.linear.name] = affine_config(shape(planned));
      if (planned.form == most) usual = &planned;
    }
    if (usual == nullptr) throw std::logic_error("mlx: a plan without a quantized linear");
    quantization["bits"] = most.bits;
    quantization["group_size"] = shape(*usual).effective_group();
    quantization["mode"] = "affine";
    json["quantization"] = quantization;
    json["quantization_config"] = quantization;
  }
};

}  // namespace

const Writer& mlx_writer() {
  static const MlxWriter instance;
  return instance;
}

}  // namespace knapsaq
