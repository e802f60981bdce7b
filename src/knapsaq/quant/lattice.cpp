#include "knapsaq/quant/lattice.h"

#include <algorithm>
#include <atomic>
#include <utility>
#include <vector>

#include "knapsaq/base/cancellation.h"
#include "knapsaq/base/float16.h"
#include "knapsaq/base/threads.h"
#include "knapsaq/compute/ggml_block.h"
#include "knapsaq/quant/block_lattice.h"
#include "knapsaq/quant/group_lattice.h"
#include "knapsaq/quant/groupwise.h"

namespace knapsaq {

namespace {

constexpr float kLargestHalf = 65504.0f;

// Groups that are looked at before all the others, spread over the matrix. One of ordinary weights is enough
// to know; a matrix with many zeros may show them at first.
constexpr std::int64_t kFirstGroups = 64;

// Bits (LatticeFit::evidence) of the first groups together. Few and short groups of ordinary weights may lie
// on a lattice by accident.
constexpr double kEnoughEvidence = 64;

/// Between groups of some columns and rows, as matrices have them.
struct Groups {
  std::int64_t size;
  std::int64_t in_row;
  std::int64_t all;
  Groups(const MatrixView& weights, const Scheme& scheme)
      : size(group_of(scheme, weights.cols)),
        in_row((weights.cols + size - 1) / size),
        all(weights.rows * in_row) {}
  std::span<const float> weights_of(const MatrixView& weights, std::int64_t i) const {
    const std::int64_t first = i % in_row * size;
    return weights.row(i / in_row).subspan(first, std::min(size, weights.cols - first));
  }
};

LatticePoints points_of(const Scheme& scheme) {
  if (const auto type = ggml_type(scheme)) {
    const GgmlRule& how = rule(*type);
    return {how.lowest, how.highest, how.has_offset};
  }
  const int points = 1 << scheme.bits;
  if (scheme.zero == ZeroPoint::symmetric)
    return {-points / 2, points / 2 - 1, false, kLargestHalf / static_cast<float>(points / 2)};
  return {0, points - 1, true};
}

/// The points of groups with a scale each.
class GroupFinder {
 public:
  using Result = LatticeFit;
  explicit GroupFinder(const Scheme& scheme) : points_(points_of(scheme)) {}
  bool fit(std::span<const float> weights, LatticeFit& out) { return lattice_.fit(weights, points_, out); }
  static double evidence(const LatticeFit& fit) { return fit.evidence; }

 private:
  LatticePoints points_;
  GroupLattice lattice_;
};

/// Those of blocks with sub-blocks.
class BlockFinder {
 public:
  using Result = GgmlBlock;
  explicit BlockFinder(const Scheme& scheme) : lattice_(*ggml_type(scheme)) {}
  bool fit(std::span<const float> weights, GgmlBlock& out) { return lattice_.fit(weights, out); }
  double evidence(const GgmlBlock&) const { return lattice_.evidence(); }

 private:
  BlockLattice lattice_;
};

bool has_sub_blocks(const Scheme& scheme) {
  const auto type = ggml_type(scheme);
  return type && rule(*type).highest_scale != 1;
}

bool has_whole_blocks(const MatrixView& weights, const Scheme& scheme) {
  return !ggml_type(scheme) || weights.cols % scheme.group == 0;
}

/// Whether `count` groups lie on the lattice and are enough to know; the i-th is at_group(i).
template <class Finder, class AtGroup>
bool look_at(const MatrixView& weights, const Scheme& scheme, std::int64_t count, AtGroup&& at_group) {
  const Groups groups(weights, scheme);
  Finder finder(scheme);
  typename Finder::Result result;
  double evidence = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    if (!finder.fit(groups.weights_of(weights, at_group(i)), result)) return false;
    evidence += finder.evidence(result);
  }
  return evidence >= kEnoughEvidence;
}

/// Whether the first groups lie on the lattice.
template <class Finder>
bool looks_so(const MatrixView& weights, const Scheme& scheme) {
  // Not in steps of whole rows, so that all columns get their turn.
  const std::int64_t all = Groups(weights, scheme).all;
  const std::int64_t count = std::min(kFirstGroups, all);
  return look_at<Finder>(weights, scheme, count, [&](std::int64_t i) {
    return i * (all - 1) / std::max<std::int64_t>(count - 1, 1);
  });
}

/// Calls store(row, fits of its groups) for all rows, in parallel. False if a group does not fit.
template <class Finder, class Function>
bool for_rows(const MatrixView& weights, const Scheme& scheme, Function&& store) {
  const Groups groups(weights, scheme);
  constexpr std::int64_t kPieceWeights = 16384;
  const std::int64_t rows = std::max<std::int64_t>(kPieceWeights / weights.cols, 1);
  std::atomic<bool> all_fit = true;
  parallel_for(static_cast<std::size_t>((weights.rows + rows - 1) / rows), [&](std::size_t piece) {
    check_cancelled();
    Finder finder(scheme);
    std::vector<typename Finder::Result> fits(static_cast<std::size_t>(groups.in_row));
    const std::int64_t first = static_cast<std::int64_t>(piece) * rows;
    for (std::int64_t row = first; row < std::min(first + rows, weights.rows) && all_fit; ++row) {
      for (std::int64_t g = 0; g < groups.in_row; ++g) {
        if (finder.fit(groups.weights_of(weights, row * groups.in_row + g),
                       fits[static_cast<std::size_t>(g)]))
          continue;
        all_fit = false;
        return;
      }
      store(row, std::span<const typename Finder::Result>(fits));
    }
  });
  return all_fit;
}

GgmlBlock block_of(const LatticeFit& fit) {
  GgmlBlock block;
  block.d = fit.scale;
  block.m = fit.offset;
  block.scales[0] = 1;
  std::ranges::transform(fit.q, block.codes.begin(), [](int q) { return static_cast<std::int8_t>(q); });
  return block;
}
const GgmlBlock& block_of(const GgmlBlock& block) { return block; }

template <class Finder>
std::optional<StoredMatrix> in_blocks(const MatrixView& weights, const Scheme& scheme, GgmlType type) {
  if (!looks_so<Finder>(weights, scheme)) return std::nullopt;
  GgmlMatrix out;
  out.type = type;
  out.rows = weights.rows;
  out.cols = weights.cols;
  out.blocks.resize(static_cast<std::size_t>(weights.rows * out.row_bytes()));
  const auto bytes = static_cast<std::size_t>(info(type).bytes);
  const bool all_fit = for_rows<Finder>(weights, scheme, [&](std::int64_t row, auto fits) {
    std::span<std::byte> to = std::span(out.blocks).subspan(row * out.row_bytes(), out.row_bytes());
    for (const auto& fit : fits) {
      pack_block(type, block_of(fit), to.first(bytes));
      to = to.subspan(bytes);
    }
  });
  if (!all_fit) return std::nullopt;
  return out;
}

std::optional<StoredMatrix> packed(const MatrixView& weights, const Scheme& scheme) {
  if (!looks_so<GroupFinder>(weights, scheme)) return std::nullopt;
  PackedMatrix out;
  out.rows = weights.rows;
  out.cols = weights.cols;
  out.bits = scheme.bits;
  out.group = static_cast<int>(group_of(scheme, weights.cols));
  out.codes.resize(static_cast<std::size_t>(out.rows * out.words_per_row()));
  out.scales.resize(static_cast<std::size_t>(out.rows * out.groups()));
  out.biases.resize(out.scales.size());
  const bool is_symmetric = scheme.zero == ZeroPoint::symmetric;
  const int lowest = points_of(scheme).lowest;
  const bool all_fit =
      for_rows<GroupFinder>(weights, scheme, [&](std::int64_t row, std::span<const LatticeFit> fits) {
        auto at = static_cast<std::size_t>(row * out.groups());
        std::vector<std::uint8_t> codes;
        for (const LatticeFit& fit : fits) {
          out.scales[at] = fit.scale;
          // A power of two times an fp16 number, exact below points_of()'s largest scale.
          out.biases[at] = is_symmetric
                               ? float_to_half(0.0f + half_to_float(fit.scale) * static_cast<float>(lowest))
                               : fit.offset;
          ++at;
          for (const int q : fit.q) codes.push_back(static_cast<std::uint8_t>(q - lowest));
        }
        pack_codes(codes, out.bits,
                   std::span(out.codes).subspan(row * out.words_per_row(), out.words_per_row()));
      });
  if (!all_fit) return std::nullopt;
  return out;
}

}  // namespace

bool can_hold_lattice(const Scheme& scheme) {
  if (const auto type = ggml_type(scheme)) return rule(*type).levels.empty() && rule(*type).grid == nullptr;
  return scheme != nf4_scheme() && scheme.meta_bits == 16 && scheme.zero != ZeroPoint::integer;
}

std::optional<StoredMatrix> on_lattice(const MatrixView& weights, const Scheme& scheme) {
  if (!can_hold_lattice(scheme) || weights.values.empty() || !has_whole_blocks(weights, scheme))
    return std::nullopt;
  const auto type = ggml_type(scheme);
  if (!type) return packed(weights, scheme);
  return has_sub_blocks(scheme) ? in_blocks<BlockFinder>(weights, scheme, *type)
                                : in_blocks<GroupFinder>(weights, scheme, *type);
}

SampledRows sample_rows(const TensorView& weights) {
  constexpr std::int64_t kRows = 8;
  if (weights.shape.size() != 2 || !is_weight_type(weights.type)) return {};
  const std::int64_t all = weights.shape[0];
  SampledRows sample{std::min(kRows, all), weights.shape[1], {}};
  sample.values.resize(static_cast<std::size_t>(sample.rows * sample.cols));
  for (std::int64_t i = 0; i < sample.rows; ++i) {
    const std::int64_t row = i * (all - 1) / std::max<std::int64_t>(sample.rows - 1, 1);
    read_floats(weights, row * sample.cols, std::span(sample.values).subspan(i * sample.cols, sample.cols));
  }
  if (first_not_finite(sample.values)) return {};
  return sample;
}

bool lies_on_lattice(const MatrixView& weights, const Scheme& scheme) {
  if (!can_hold_lattice(scheme) || weights.values.empty() || !has_whole_blocks(weights, scheme)) return false;
  const std::int64_t all = Groups(weights, scheme).all;
  const auto each = [](std::int64_t i) { return i; };
  return has_sub_blocks(scheme) ? look_at<BlockFinder>(weights, scheme, all, each)
                                : look_at<GroupFinder>(weights, scheme, all, each);
}

std::span<const Scheme> lattice_schemes() {
  static const std::vector<Scheme> schemes = [] {
    std::vector<Scheme> made;
    for (const GgmlTypeInfo& type : ggml_types()) made.push_back(parse_scheme(type.name));
    for (const int bits : kAffineWidths) {
      for (const int group : {32, 64, 128}) {
        for (const ZeroPoint zero : {ZeroPoint::symmetric, ZeroPoint::real})
          made.push_back({"rtn", bits, group, zero});
      }
    }
    std::erase_if(made, [](const Scheme& scheme) { return !can_hold_lattice(scheme); });
    // Where bits are equal, GGML's types come first, then symmetric schemes.
    std::ranges::stable_sort(made, {}, [](const Scheme& scheme) { return nominal_bits(scheme, 0); });
    return made;
  }();
  return schemes;
}

}  // namespace knapsaq
