#include "knapsaq/family/rope.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "knapsaq/base/quote.h"

namespace knapsaq {
namespace {

using nlohmann::json;

/// As Transformers does: to whole numbers downwards.
std::int64_t rotated_numbers(std::int64_t head_dim, double share) {
  if (share == 1 && head_dim % 2 != 0)
    fail_config(fmt::format("head_dim {} is odd; rotary positions need pairs", head_dim));
  const auto numbers = static_cast<std::int64_t>(static_cast<double>(head_dim) * share);
  if (numbers < 2 || numbers > head_dim || numbers % 2 != 0)
    fail_config(
        fmt::format("rotary positions on {} of a head's {} numbers, which need pairs", numbers, head_dim));
  return numbers;
}

float number_or(const Fields& rope, const char* name, float fallback) {
  return rope.positive_or(name, static_cast<double>(fallback));
}

void read_yarn(const Fields& rope, RopeScaling& scaling) {
  scaling.kind = RopeScaling::Kind::yarn;
  scaling.factor = rope.positive("factor");
  scaling.attention_factor = number_or(rope, "attention_factor", 0);
  scaling.beta_fast = number_or(rope, "beta_fast", 32);
  scaling.beta_slow = number_or(rope, "beta_slow", 1);
  // Zero is Transformers' "not given", too.
  for (const auto& [name, field] :
       {std::pair{"mscale", &scaling.mscale}, {"mscale_all_dim", &scaling.mscale_all_dim}})
    if (rope.has(name) && rope.get(name) != 0) *field = rope.positive(name);
  scaling.truncate = rope.flag_or("truncate", true);
  if (scaling.beta_fast <= scaling.beta_slow) fail_config("beta_fast is not above beta_slow");
}

void read_longrope(const Fields& rope, std::int64_t max_positions, std::int64_t rotated,
                   RopeScaling& scaling) {
  scaling.kind = RopeScaling::Kind::longrope;
  scaling.short_factor = rope.positives("short_factor", rotated / 2);
  scaling.long_factor = rope.positives("long_factor", rotated / 2);
  scaling.attention_factor = number_or(rope, "attention_factor", 0);
  const double grown =
      static_cast<double>(max_positions) / static_cast<double>(scaling.original_max_positions);
  scaling.factor = rope.positive_or("factor", grown);
}

}  // namespace

Rotary read_rope_parameters(const json& object, const Fields& fields, const ModelConfig& config,
                            std::int64_t head_dim, const RopeDefaults& defaults) {
  if (!object.is_object()) fail_config("rope_scaling or rope_parameters is not an object");
  const Fields rope(object);
  Rotary rotary;
  rotary.theta = rope.positive_or("rope_theta", fields.positive_or("rope_theta", defaults.theta));
  const double share =
      rope.positive_or("partial_rotary_factor",
                       static_cast<double>(fields.positive_or("partial_rotary_factor", defaults.rotated)));
  rotary.rotated = rotated_numbers(head_dim, share);
  RopeScaling& scaling = rotary.scaling;
  // The length before it was extended; older files have it beside rope_scaling, or leave it to the length
  // itself.
  const auto original = [&] {
    constexpr const char* kName = "original_max_position_embeddings";
    return rope.has(kName) ? rope.size(kName) : fields.size_or(kName, config.max_positions);
  };

  const std::string type = rope.text_or("rope_type", rope.text_or("type", "default"));
  if (type == "default") return rotary;
  if (type == "linear") {
    scaling.kind = RopeScaling::Kind::linear;
    scaling.factor = rope.positive("factor");
  } else if (type == "llama3") {
    scaling.kind = RopeScaling::Kind::llama3;
    scaling.factor = rope.positive("factor");
    scaling.low_freq_factor = rope.positive("low_freq_factor");
    scaling.high_freq_factor = rope.positive("high_freq_factor");
    scaling.original_max_positions = rope.size("original_max_position_embeddings");
    if (scaling.high_freq_factor <= scaling.low_freq_factor)
      fail_config("high_freq_factor is not above low_freq_factor");
  } else if (type == "yarn") {
    scaling.original_max_positions = original();
    read_yarn(rope, scaling);
  } else if (type == "dynamic") {
    scaling.kind = RopeScaling::Kind::dynamic;
    scaling.original_max_positions = original();
    scaling.factor = rope.positive("factor");
  } else if (type == "longrope" || type == "su") {
    scaling.original_max_positions = original();
    read_longrope(rope, config.max_positions, rotary.rotated, scaling);
  } else if (type == "proportional") {
    // Gemma 4: the share says how many pairs turn, and all of the head takes part.
    scaling.kind = RopeScaling::Kind::proportional;
    scaling.factor = number_or(rope, "factor", 1);
    scaling.proportion = static_cast<float>(share);
    rotary.rotated = head_dim;
  } else if (type == "divisors") {
    scaling.kind = RopeScaling::Kind::frequency_factors;
    scaling.frequency_factors = rope.positives("divisors", rotary.rotated / 2);
  } else {
    fail_config(
        fmt::format("rotary positions of type {} are not supported; supported are default, linear, dynamic, "
                    "yarn, longrope, llama3 and proportional",
                    in_quotes(type)));
  }
  return rotary;
}

Rotary read_rope(const Fields& fields, const ModelConfig& config, std::int64_t head_dim,
                 const RopeDefaults& defaults) {
  static const json kNothing = json::object();
  const bool old_spelling = fields.has("rope_scaling") && !fields.get("rope_scaling").empty();
  const json& object = old_spelling                    ? fields.get("rope_scaling")
                       : fields.has("rope_parameters") ? fields.get("rope_parameters")
                                                       : kNothing;
  if (!old_spelling && has_ropes_by_kind(fields))
    fail_config("rope_parameters differ between kinds of layers, which this family does not have");
  return read_rope_parameters(object, fields, config, head_dim, defaults);
}

bool has_ropes_by_kind(const Fields& fields) {
  if (!fields.has("rope_parameters")) return false;
  const json& object = fields.get("rope_parameters");
  return object.is_object() &&
         std::ranges::any_of(object, [](const json& value) { return value.is_object(); });
}

std::vector<Rotary> read_ropes_by_kind(const Fields& fields, std::span<const char* const> kinds,
                                       const ModelConfig& config, std::int64_t head_dim,
                                       const RopeDefaults& defaults) {
  static const json kNothing = json::object();
  const Fields all(fields.get("rope_parameters"));
  std::vector<Rotary> ropes;
  for (const char* kind : kinds)
    ropes.push_back(
        read_rope_parameters(all.has(kind) ? all.get(kind) : kNothing, fields, config, head_dim, defaults));
  return ropes;
}

}  // namespace knapsaq
