#include "knapsaq/export/linear_plan.h"

#include <algorithm>
#include <map>
#include <set>
#include <tuple>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "knapsaq/base/cancellation.h"
#include "knapsaq/base/error.h"
#include "knapsaq/checkpoint/stored_layout.h"
#include "knapsaq/export/integer_zeros.h"
#include "knapsaq/model/architecture.h"
#include "knapsaq/model/expected_tensors.h"
#include "knapsaq/quant/quantizer.h"

namespace knapsaq {
namespace {

AffineForm form_of(const PackedMatrix& matrix, bool symmetric) {
  return {matrix.bits, matrix.group >= matrix.cols ? 0 : matrix.group, symmetric};
}

/// The plain scheme nearest to a linear's stored form, with groups that fill its rows.
Scheme refit_scheme(const StoredShape& stored, const AffineRules& rules) {
  int bits = 4;
  int group = 64;  // NF4's
  if (const auto* affine = std::get_if<AffineShape>(&stored)) {
    bits = affine->bits;
    group = affine->group;
  } else if (const auto* ggml = std::get_if<GgmlShape>(&stored)) {
    bits = info(ggml->type).bits;
    group = 32;  // each of their scales covers 16, 32 or 64 weights
  }
  bits = *std::ranges::lower_bound(rules.widths, bits);
  Scheme scheme{"rtn", bits, group};
  if (rules.integer_zeros) scheme.zero = bits == 8 ? ZeroPoint::symmetric : ZeroPoint::integer;
  if (group == 0 && rules.row_groups) return scheme;
  for (const int smaller : {128, 64, 32}) {
    scheme.group = smaller;
    if ((group == 0 || smaller <= group) && cols_of(stored) % smaller == 0) break;
  }
  return scheme;
}

/// The reason why the format cannot hold this matrix; empty if it can.
std::string obstacle_to(const PackedMatrix& matrix, std::string_view format, const AffineRules& rules) {
  if (std::ranges::find(rules.widths, matrix.bits) == rules.widths.end())
    return fmt::format("{} has no codes of {} bits; use schemes of {} bits", format, matrix.bits,
                       fmt::join(rules.widths, ", "));
  return rules.obstacle(matrix);
}

/// If engines fuse a symmetric linear with an asymmetric one of the same bits and groups, both are described
/// as asymmetric, which is valid for both: the engines need one description.
void agree_with_siblings(std::vector<PlannedLinear>& plan) {
  using Key = std::tuple<std::int64_t, Fusion, int, int>;
  std::set<Key> asymmetric;
  const auto key = [](const PlannedLinear& planned) {
    return Key{planned.linear.block, fusion_of(planned.linear.role), planned.form.bits, planned.form.group};
  };
  for (const PlannedLinear& planned : plan)
    if (planned.quantized && !planned.form.symmetric) asymmetric.insert(key(planned));
  for (PlannedLinear& planned : plan) {
    const Key own = key(planned);
    if (planned.quantized && std::get<1>(own) != Fusion::none && asymmetric.contains(own))
      planned.form.symmetric = false;
  }
}

}  // namespace

std::vector<PlannedLinear> plan_linears(const Checkpoint& model, const ModelConfig& config,
                                        std::string_view format, const AffineRules& rules,
                                        const ExportOptions& options, std::vector<std::string>& changes,
                                        Progress& progress) {
  std::vector<PlannedLinear> plan;
  const std::vector<Matrix> all = matrices(config);
  ProgressScope scope(progress, "checking", all.size(), "matrices");
  for (const Matrix& linear : all) {
    check_cancelled();
    scope.advance(1);
    PlannedLinear& planned = plan.emplace_back();
    planned.linear = linear;
    const auto packing = model.packing(linear.name);
    if (!packing) continue;
    if (!linear.in_block() && !rules.ends) {
      if (!options.requantize)
        throw UsageError(
            fmt::format("{} ({}) cannot be carried by {}, whose readers want embedding and head dense: "
                        "quantize with --for and an engine that reads this format, or allow "
                        "--requantize, which writes them in F16",
                        linear.name, packing->scheme, format));
      planned.unpacked = true;
      changes.push_back(fmt::format("{}: {} written in F16: {} keeps embedding and head dense", linear.name,
                                    packing->scheme, format));
      continue;
    }
    planned.quantized = true;
    const StoredMatrix stored = model.stored(linear.name);
    std::string obstacle;
    if (const auto* packed = std::get_if<PackedMatrix>(&stored)) {
      const IntegerZerosResult zeros = integer_zeros(*packed);
      planned.form = form_of(*packed, rules.integer_zeros && zeros.obstacle.empty() && zeros.zeros.symmetric);
      obstacle = obstacle_to(*packed, format, rules);
      if (obstacle.empty() && rules.integer_zeros) obstacle = zeros.obstacle;
    } else {
      obstacle = fmt::format("its blocks are of another kind; use affine schemes, such as b4g64{}",
                             rules.integer_zeros ? "s" : "");
    }
    if (obstacle.empty()) continue;

    const std::string name = fmt::format("{} ({})", linear.name, packing->scheme);
    if (!options.requantize)
      throw UsageError(fmt::format("{} cannot be carried exactly by {}: {}, or allow --requantize", name,
                                   format, obstacle));
    const Scheme scheme = refit_scheme(packing->shape, rules);
    planned.refit = scheme;
    const PackedMatrix fitted = load_planned(model, planned);
    planned.form = form_of(fitted, rules.integer_zeros && integer_zeros(fitted).zeros.symmetric);
    std::string still = obstacle_to(fitted, format, rules);
    if (still.empty() && rules.integer_zeros) still = integer_zeros(fitted).obstacle;
    if (!still.empty())
      throw UsageError(
          fmt::format("{} cannot be carried by {}, not even quantized once more: {}", name, format, still));
    changes.push_back(fmt::format("{}: {} quantized once more as {}: {}", linear.name, packing->scheme,
                                  to_string(scheme), obstacle.substr(0, obstacle.find(';'))));
  }
  if (std::ranges::none_of(plan, &PlannedLinear::quantized))
    throw UsageError(fmt::format("{}: no linear is quantized; quantize the model first: knapsaq quantize",
                                 model.folder().string()));
  agree_with_siblings(plan);
  return plan;
}

PackedMatrix load_planned(const Checkpoint& model, const PlannedLinear& planned) {
  StoredMatrix stored = model.stored(planned.linear.name);
  if (!planned.refit) return std::get<PackedMatrix>(std::move(stored));
  const std::int64_t rows = rows_of(stored);
  const std::int64_t cols = cols_of(stored);
  std::vector<float> values(static_cast<std::size_t>(rows * cols));
  for (std::int64_t r = 0; r < rows; ++r)
    dequantize_row(stored, r, std::span(values).subspan(r * cols, cols));
  return std::get<PackedMatrix>(quantize(planned.linear.name, {rows, cols, values}, *planned.refit));
}

std::string fusion_note(const std::vector<PlannedLinear>& plan) {
  std::map<std::pair<std::int64_t, Fusion>, const PlannedLinear*> first;
  for (const PlannedLinear& planned : plan) {
    const Fusion fusion = fusion_of(planned.linear.role);
    if (fusion == Fusion::none) continue;
    const auto [slot, is_new] = first.try_emplace({planned.linear.block, fusion}, &planned);
    const PlannedLinear& other = *slot->second;
    if (is_new || (planned.quantized == other.quantized && planned.form == other.form)) continue;
    return fmt::format(
        "vLLM and SGLang will not load it: they run {} and {} as one matrix, and these are stored "
        "differently; "
        "quantize with --tie vllm",
        other.linear.name, planned.linear.name);
  }
  return "";
}

AffineForm usual_form(const std::vector<PlannedLinear>& plan) {
  std::map<AffineForm, int> uses;
  for (const PlannedLinear& planned : plan)
    if (planned.quantized) ++uses[planned.form];
  return std::ranges::max_element(uses, {}, [](const auto& use) { return use.second; })->first;
}

}  // namespace knapsaq
