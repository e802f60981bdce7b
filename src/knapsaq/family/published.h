#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace knapsaq {

/// Rows of a published matrix: `repeats` runs of `count` rows, the first from `first` on, the next `stride`
/// rows later, and so on.
struct RowPattern {
  std::int64_t first = 0;
  std::int64_t count = 0;
  std::int64_t stride = 0;
  std::int64_t repeats = 1;
  std::int64_t rows() const { return count * repeats; }
  /// Rows [first, first + count).
  bool is_run() const { return repeats == 1; }
};

/// A module whose rows belong to one module or several ones under Knapsaq's names. Within the library every
/// matrix stands alone and has a name like Llama's, whatever the family: "model.layers.3.self_attn.q_proj",
/// "model.layers.3.mlp.experts.7.down_proj". Reading takes the rows apart (checkpoint/), and formats of
/// others are written with the published names (export/). Its tensors are the module's name with ".weight" or
/// ".bias" appended; each of them is taken apart by rows.
struct PublishedModule {
  struct Part {
    std::string name;  ///< Knapsaq's
    RowPattern rows;   ///< count 0: all of them
  };
  std::string name;
  std::vector<Part> parts;
  /// The tensor holds the experts of a layer, [experts, rows of one, inputs]: rows are counted over all of
  /// them, and its name has no ".weight" (and "_bias" stands for ".bias").
  bool stacked = false;
  std::int64_t stacks = 1;  ///< experts of a stacked one
  /// [.., inputs, rows]: a matrix that is multiplied from the right (gpt-oss).
  bool transposed = false;
};

/// Another name for one module.
PublishedModule renamed(std::string published, std::string name);

/// Modules one below the other: each with its number of rows.
PublishedModule stacked_rows(std::string published,
                             std::span<const std::pair<std::string, std::int64_t>> modules);

}  // namespace knapsaq
