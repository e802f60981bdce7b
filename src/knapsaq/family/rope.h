#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "knapsaq/family/config.h"
#include "knapsaq/family/fields.h"

namespace knapsaq {

/// What config.json says about rotary positions where it says something else than Transformers' defaults.
struct RopeDefaults {
  double theta = 10000;
  /// Share of a head's numbers that is rotated.
  double rotated = 1;
};

/// Rotary positions that config.json describes at its top level, in both notations: rope_theta, rope_scaling
/// (which takes precedence, as in Transformers) and partial_rotary_factor, or rope_parameters. Throws
/// InputError for kinds that are not supported and for numbers without sense.
Rotary read_rope(const Fields& fields, const ModelConfig& config, std::int64_t head_dim,
                 const RopeDefaults& defaults = {});

/// The same from one object of rope_parameters, for models whose layers differ (Gemma 3); `fields` has
/// what an object may lack.
Rotary read_rope_parameters(const nlohmann::json& object, const Fields& fields, const ModelConfig& config,
                            std::int64_t head_dim, const RopeDefaults& defaults = {});

/// Whether rope_parameters has an object for every kind of layer.
bool has_ropes_by_kind(const Fields& fields);
/// These objects, in the order of `kinds`; a kind without one has the defaults.
std::vector<Rotary> read_ropes_by_kind(const Fields& fields, std::span<const char* const> kinds,
                                       const ModelConfig& config, std::int64_t head_dim,
                                       const RopeDefaults& defaults = {});

}  // namespace knapsaq
