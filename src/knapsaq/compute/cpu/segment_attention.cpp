// Attention of segments: sequences of different lengths, some of which go on where another one ends.

#include <algorithm>
#include <vector>

#include "knapsaq/base/threads.h"
#include "knapsaq/compute/cpu/attention.h"
#include "knapsaq/compute/cpu/attention_rules.h"
#include "knapsaq/compute/cpu/tiles.h"

namespace knapsaq::cpu {
namespace {

/// A segment and where it lies.
struct Placed {
  std::int64_t row = 0;  ///< its first one in q, k, v and out
  std::int64_t length = 0;
  std::int64_t parent_row = 0;
  std::int64_t before = 0;  ///< tokens of the parent
  std::int64_t keys = 0;    ///< where its first head is packed
  std::int64_t values = 0;
  std::int64_t keys_size = 0;  ///< of a head
  std::int64_t values_size = 0;
  std::int64_t seen() const { return before + length; }
};

/// A tile of queries: of all heads of a segment.
struct QueryTile {
  std::size_t segment = 0;
  std::int64_t first = 0;  ///< in the segment
};

}  // namespace

// A segment's keys and values are packed with those of its parent in front. That packs the parent once more
// for each of its children, which is little beside the products of their rows: some 10 operations for a
// number of the parent's keys against twice the model's width for every number that the child's rows
// multiply.
template <class T>
void Attention<T>::attend(const AttentionShape& whole, std::span<const Segment> segments, const Array& of_q,
                          const Array& of_k, const Array& of_v, Array& out) {
  const std::int64_t head_dim = whole.head_dim;
  std::vector<Placed> placed;
  placed.reserve(segments.size());
  std::vector<QueryTile> tiles;
  std::int64_t rows = 0;
  std::int64_t longest = 0;
  std::int64_t keys = 0;
  std::int64_t values = 0;
  for (std::size_t i = 0; i < segments.size(); ++i) {
    const Segment& segment = segments[i];
    require(segment.length >= 0, "attend: a segment of negative length");
    Placed one{.row = rows, .length = segment.length};
    if (segment.parent >= 0) {
      const auto parent = static_cast<std::size_t>(segment.parent);
      require(parent < i && segments[parent].parent < 0,
              "attend: a parent has to be an earlier segment without one");
      one.parent_row = placed[parent].row;
      one.before = placed[parent].length;
    }
    one.keys = keys;
    one.values = values;
    one.keys_size = round_up(kernels_.packed_keys_size(one.seen(), head_dim), 32);
    one.values_size = round_up(kernels_.packed_values_size(one.seen(), head_dim), 32);
    if (segment.length > 0) {
      keys += whole.kv_heads * one.keys_size;
      values += whole.kv_heads * one.values_size;
      longest = std::max(longest, one.seen());
    }
    for (std::int64_t first = 0; first < segment.length; first += kernels_.query_tile)
      tiles.push_back({i, first});
    rows += segment.length;
    placed.push_back(one);
  }
  AttentionShape checked = whole;
  checked.past = 0;
  checked.length = longest;
  check_attention(checked, rows, of_q, of_k, of_v, out);
  if (rows == 0) return;
  const auto inputs = row_norms_.apply(whole, rows, of_q, of_k, of_v);
  const AttentionShape& shape = inputs.shape;
  const Array& q = inputs.q;
  const Array& k = inputs.k;
  const Array& v = inputs.v;

  packed_keys_.reserve(static_cast<std::size_t>(keys) * sizeof(T));
  packed_values_.reserve(static_cast<std::size_t>(values) * sizeof(T));
  T* const packed_keys = reinterpret_cast<T*>(packed_keys_.data());
  T* const packed_values = reinterpret_cast<T*>(packed_values_.data());
  const HeadTransform q_transform = query_transform(shape);
  const HeadTransform k_transform = key_transform(shape);
  const std::int64_t scratch = kernels_.attention_scratch(head_dim);

  parallel_for(segments.size() * static_cast<std::size_t>(shape.kv_heads), [&](std::size_t index) {
    const Placed& one = placed[index / static_cast<std::size_t>(shape.kv_heads)];
    if (one.length == 0) return;
    const std::int64_t head = static_cast<std::int64_t>(index) % shape.kv_heads;
    const std::int64_t seen = one.seen();
    // The kernels read the rows of a window at one distance: those of two segments are put together first.
    t_tile.reserve(static_cast<std::size_t>(scratch) +
                   static_cast<std::size_t>(2 * seen * head_dim) * sizeof(T));
    const T* const all_keys = working<T>(k) + head * head_dim;
    const T* const all_values = working<T>(v) + head * head_dim;
    const T* k_rows = all_keys + one.row * k.cols();
    const T* v_rows = all_values + one.row * v.cols();
    std::int64_t k_pitch = k.cols();
    std::int64_t v_pitch = v.cols();
    if (one.before > 0) {
      T* const gathered = reinterpret_cast<T*>(t_tile.data() + scratch);
      for (std::int64_t i = 0; i < seen; ++i) {
        const std::int64_t row = i < one.before ? one.parent_row + i : one.row + i - one.before;
        std::copy_n(all_keys + row * k.cols(), head_dim, gathered + i * head_dim);
        std::copy_n(all_values + row * v.cols(), head_dim, gathered + (seen + i) * head_dim);
      }
      k_rows = gathered;
      v_rows = gathered + seen * head_dim;
      k_pitch = v_pitch = head_dim;
    }
    for (std::int64_t panel = 0; panel * kernels_.panel < seen; ++panel) {
      kernels_.pack_keys(k_transform, k_rows, k_pitch, seen, panel, t_tile.data(),
                         packed_keys + one.keys + head * one.keys_size);
      kernels_.pack_values(head_dim, v_rows, v_pitch, seen, panel,
                           packed_values + one.values + head * one.values_size);
    }
  });

  const std::int64_t heads_per_key = shape.heads / shape.kv_heads;
  parallel_for(tiles.size() * static_cast<std::size_t>(shape.heads), [&](std::size_t index) {
    const QueryTile& tile = tiles[index / static_cast<std::size_t>(shape.heads)];
    const std::int64_t head = static_cast<std::int64_t>(index) % shape.heads;
    const Placed& one = placed[tile.segment];
    const std::int64_t key_head = head / heads_per_key;
    // Positions count from the parent's first token, rows from the segment's own: a parent lies before its
    // children, so that this address is inside the array.
    const std::int64_t start = (one.row - one.before) * q.cols() + head * head_dim;
    t_tile.reserve(static_cast<std::size_t>(scratch));
    kernels_.attend({.q = working<T>(q) + start,
                     .q_pitch = q.cols(),
                     .out = working<T>(out) + start,
                     .out_pitch = out.cols(),
                     .first = one.before + tile.first,
                     .count = std::min(kernels_.query_tile, one.length - tile.first),
                     .sliding_window = shape.sliding_window,
                     .softcap = base2_softcap(shape),
                     .sink = sink_of(shape, head),
                     .transform = q_transform,
                     .head = {packed_keys + one.keys + key_head * one.keys_size,
                              packed_values + one.values + key_head * one.values_size,
                              round_up(one.seen(), kernels_.panel)},
                     .scratch = t_tile.data()});
  });
}

template void Attention<float>::attend(const AttentionShape&, std::span<const Segment>, const Array&,
                                       const Array&, const Array&, Array&);
template void Attention<Bf16>::attend(const AttentionShape&, std::span<const Segment>, const Array&,
                                      const Array&, const Array&, Array&);

}  // namespace knapsaq::cpu
