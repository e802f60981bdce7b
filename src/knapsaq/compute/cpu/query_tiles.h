#pragma once

#include <algorithm>
#include <cstdint>

#include "knapsaq/base/threads.h"
#include "knapsaq/compute/backend.h"
#include "knapsaq/compute/cpu/attention_rules.h"
#include "knapsaq/compute/cpu/kernels.h"
#include "knapsaq/compute/cpu/tiles.h"

namespace knapsaq::cpu {

/// Keys and values of all windows in panels, head of keys after head of keys.
template <class T>
struct WindowPanels {
  const T* keys;
  const T* values;
  std::int64_t keys_size;  ///< elements of one head
  std::int64_t values_size;
  std::int64_t padded_length;  ///< as PackedHead
};

/// All queries of the windows of `shape`, at positions shape.past and after, tile by tile on all threads.
template <class T>
void attend_tiles(const Kernels<T>& kernels, const AttentionShape& shape, const Array& q,
                  const WindowPanels<T>& panels, Array& out) {
  const HeadTransform q_transform = query_transform(shape);
  const auto scratch_bytes = static_cast<std::size_t>(kernels.attention_scratch(shape.head_dim));
  // The tiles of one head follow each other (its keys and values stay in the L2 cache), longest first.
  const std::int64_t tiles = (shape.length + kernels.query_tile - 1) / kernels.query_tile;
  const std::int64_t heads_per_key = shape.heads / shape.kv_heads;
  parallel_for(static_cast<std::size_t>(shape.windows * shape.heads * tiles), [&](std::size_t index) {
    const std::int64_t number = static_cast<std::int64_t>(index) / tiles;
    const std::int64_t first = (tiles - 1 - static_cast<std::int64_t>(index) % tiles) * kernels.query_tile;
    const std::int64_t window = number / shape.heads;
    const std::int64_t head = number % shape.heads;
    const std::int64_t packed = window * shape.kv_heads + head / heads_per_key;
    const std::int64_t start = window * shape.length * q.cols() + head * shape.head_dim;
    t_tile.reserve(scratch_bytes);
    kernels.attend({.q = working<T>(q) + start,
                    .q_pitch = q.cols(),
                    .out = working<T>(out) + start,
                    .out_pitch = out.cols(),
                    .past = shape.past,
                    .first = shape.past + first,
                    .count = std::min(kernels.query_tile, shape.length - first),
                    .sliding_window = shape.sliding_window,
                    .softcap = base2_softcap(shape),
                    .sink = sink_of(shape, head),
                    .transform = q_transform,
                    .head = {panels.keys + packed * panels.keys_size,
                             panels.values + packed * panels.values_size, panels.padded_length},
                    .scratch = t_tile.data()});
  });
}

}  // namespace knapsaq::cpu
