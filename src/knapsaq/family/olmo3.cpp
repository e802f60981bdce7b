#include <string>
#include <vector>

#include "knapsaq/family/families.h"
#include "knapsaq/family/olmo.h"
#include "knapsaq/family/readers.h"

namespace knapsaq {
namespace {

constexpr double kTheta = 500000;
constexpr std::int64_t kWindow = 4096;

// Places in ModelConfig::ropes.
constexpr int kFull = 0;
constexpr int kSliding = 1;

/// What extends the context belongs to the layers without a window. Transformers 5 writes rope_parameters for
/// each kind of layer; before, rope_scaling stood alone.
std::vector<Rotary> read_ropes(const Fields& fields, const ModelConfig& config) {
  const RopeDefaults defaults{.theta = kTheta};
  constexpr const char* kKinds[] = {"full_attention", "sliding_attention"};
  if (has_ropes_by_kind(fields)) return read_ropes_by_kind(fields, kKinds, config, config.head_dim, defaults);
  const Rotary full = read_rope(fields, config, config.head_dim, defaults);
  Rotary sliding = full;
  sliding.scaling = {};
  return {full, sliding};
}

void read(const Fields& fields, ModelConfig& config) {
  read_mlp_and_norms(fields, config);
  read_olmo_norms(fields, config);
  config.qkv_bias = config.o_bias = fields.flag_or("attention_bias", false);
  config.ropes = read_ropes(fields, config);
  const std::int64_t window =
      fields.is_null("sliding_window") ? 0 : fields.size_or("sliding_window", kWindow);
  std::vector<bool> slides;
  if (fields.has("layer_types")) {
    for (const std::string& type : read_windows(fields, window, config))
      slides.push_back(type == "sliding_attention");
  } else {  // three of four
    for (std::int64_t layer = 0; layer < config.layers; ++layer) slides.push_back((layer + 1) % 4 != 0);
    give_windows(slides, window, config);
  }
  for (std::size_t i = 0; i < slides.size(); ++i) config.blocks[i].rope = slides[i] ? kSliding : kFull;
}

/// Which layers have a window, even if none of the context is beyond it: positions depend on it.
void write_gguf(const ModelConfig& config, nlohmann::ordered_json& keys) {
  std::vector<bool> slides;
  std::int64_t window = config.max_positions;
  for (const LayerConfig& block : config.blocks) {
    slides.push_back(block.rope == kSliding);
    if (block.sliding_window > 0) window = block.sliding_window;
  }
  keys["attention.sliding_window"] = window;
  keys["attention.sliding_window_pattern"] = slides;
}

}  // namespace

const Family kOlmo3 = {.model_type = "olmo3",
                       .architecture = "Olmo3ForCausalLM",
                       .read = read,
                       .gguf = {.architecture = "olmo2",
                                .names = kOlmoGgufNames,
                                .obstacle = olmo_gguf_obstacle,
                                .windows = true,
                                .write = write_gguf}};

}  // namespace knapsaq
