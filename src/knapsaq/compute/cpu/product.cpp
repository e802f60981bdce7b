#include "knapsaq/compute/cpu/product.h"

#include <algorithm>
#include <cmath>
#include <unordered_map>

#include <omp.h>

#include "knapsaq/base/float16.h"
#include "knapsaq/base/threads.h"

namespace knapsaq::cpu {
namespace {

using dnnl::memory;

// Widest output that is multiplied at once. 2048 columns of 128 rows in fp32 are the 1 MiB of an L2 cache;
// wider matrices (MLPs, output heads) are cut evenly. oneDNN's kernels work on blocks of 64 columns.
constexpr std::int64_t kMaxChunk = 2048;
constexpr std::int64_t kColumnBlock = 64;
// The rows for which the layout of a weight is chosen: those of a full tile.
constexpr std::int64_t kTypicalRows = 128;

// Columns of a tile of X^T X: both operands of 2048 rows in bf16 (1 MiB each) and the result stay in the
// L2 cache. A width of few columns is cut finer, so that its pairs of tiles are enough for several
// threads.
constexpr std::int64_t kGramTile = 256;
constexpr std::int64_t kSmallGramTile = 64;

// Columns of b in add_product_of_columns(): of 2048 rows in bf16, 2 MiB that all strips of a read.
constexpr std::int64_t kGradientColumns = 512;

std::int64_t round_up(std::int64_t n, std::int64_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}

/// oneDNN runs (and generates code for) one thread inside: the calling one.
class SingleThread {
 public:
  SingleThread() : before_(omp_get_max_threads()) {
    if (before_ != 1) omp_set_num_threads(1);
  }
  ~SingleThread() {
    if (before_ != 1) omp_set_num_threads(before_);
  }
  SingleThread(const SingleThread&) = delete;
  SingleThread& operator=(const SingleThread&) = delete;

 private:
  int before_;
};

dnnl::matmul::primitive_desc describe(const dnnl::engine& engine, const memory::desc& in,
                                      const memory::desc& weight, const memory::desc& bias,
                                      const memory::desc& out) {
  dnnl::primitive_attr attributes;
  // The library's own scratchpad belongs to the thread that made the primitive.
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
#if DNNL_VERSION_MAJOR >= 3
  return {engine, in, weight, bias, out, attributes};
#else
  return {dnnl::matmul::desc(in, weight, bias, out), attributes, engine};
#endif
}

thread_local AlignedBytes t_scratchpad;
thread_local AlignedBytes t_gram;
thread_local AlignedBytes t_left;

}  // namespace

const Products::Program& Products::program(const Key& key, const memory::desc* layout) {
  const std::lock_guard lock(mutex_);
  const auto [first, last] = programs_.equal_range(key);
  const auto found = std::find_if(
      first, last, [&](const auto& entry) { return layout == nullptr || entry.second.weight == *layout; });
  if (found != last) return found->second;

  const auto [rows, cols, depth, full, has_bias] = key;
  const memory::desc in({rows, depth}, working_, memory::format_tag::ab);
  const memory::desc weight =
      layout != nullptr ? *layout : memory::desc({depth, cols}, working_, memory::format_tag::any);
  const memory::desc bias =
      has_bias ? memory::desc({1, cols}, memory::data_type::f32, memory::format_tag::ab) : memory::desc();
  const memory::desc out({rows, cols}, full ? memory::data_type::f32 : working_, memory::format_tag::ab);
  const SingleThread single;
  const auto description = describe(engine_, in, weight, bias, out);
  Program program{dnnl::matmul(description),    in, description.weights_desc(), bias, out,
                  description.scratchpad_desc()};
  return programs_.emplace(key, std::move(program))->second;
}

std::unique_ptr<DenseWeight> Products::empty(std::int64_t out, std::int64_t in, std::vector<float> bias) {
  auto weight = std::make_unique<DenseWeight>(out, in, std::move(bias));
  const std::int64_t pieces = (out + kMaxChunk - 1) / kMaxChunk;
  const std::int64_t width = pieces == 1 ? out : round_up((out + pieces - 1) / pieces, kColumnBlock);
  for (std::int64_t first = 0; first < out; first += width) {
    const std::int64_t cols = std::min(width, out - first);
    const memory::desc chosen = layout(cols, in, !weight->bias().empty());
    weight->chunks().push_back({first, cols, chosen, AlignedBytes(chosen.get_size())});
  }
  return weight;
}

std::unique_ptr<DenseWeight> Products::prepare(std::int64_t out, std::int64_t in, std::vector<float> bias,
                                               const RowReader& read, bool round_to_bf16) {
  auto weight = empty(out, in, std::move(bias));
  parallel_for(weight->chunks().size(), [&](std::size_t index) {
    DenseWeight::Chunk& chunk = weight->chunks()[index];
    // Some layouts are padded.
    chunk.data.clear();
    std::vector<float> values(static_cast<std::size_t>(chunk.cols * in));
    read(chunk.first, chunk.cols, values.data());
    std::vector<std::uint16_t> rounded;
    if (working_ == memory::data_type::bf16) {
      rounded.resize(values.size());
      std::transform(values.begin(), values.end(), rounded.begin(), float_to_bfloat16);
    } else if (round_to_bf16) {
      for (float& value : values) value = bfloat16_to_float(float_to_bfloat16(value));
    }
    void* plain = rounded.empty() ? static_cast<void*>(values.data()) : rounded.data();
    reorder(plain, chunk.cols, in, chunk.layout, chunk.data.data());
  });
  return weight;
}

std::unique_ptr<DenseWeight> Products::transposed(const DenseWeight& weight,
                                                  std::unique_ptr<DenseWeight> memory) {
  const std::int64_t in = weight.in();
  const std::size_t size = memory::data_type_size(working_);
  // W as plain rows, which are the columns of what a product with W^T multiplies by.
  plain_.reserve(static_cast<std::size_t>(weight.out() * in) * size);
  parallel_for(weight.chunks().size(), [&](std::size_t index) {
    const DenseWeight::Chunk& chunk = weight.chunks()[index];
    move(chunk.layout, chunk.data.data(), {{in, chunk.cols}, working_, memory::format_tag::ba},
         plain_.data() + static_cast<std::size_t>(chunk.first * in) * size);
  });
  auto result = memory != nullptr ? std::move(memory) : empty(in, weight.out(), {});
  parallel_for(result->chunks().size(), [&](std::size_t index) {
    DenseWeight::Chunk& chunk = result->chunks()[index];
    chunk.data.clear();
    reorder_columns(plain_.data(), in, chunk.first, chunk.cols, weight.out(), chunk.layout,
                    chunk.data.data());
  });
  return result;
}

void Products::run(const ProductOperand& matrix, std::int64_t rows, const void* in, void* out, bool full) {
  if (own_ != nullptr)
    return own_(static_cast<const float*>(in), rows, matrix.in, static_cast<const float*>(matrix.data),
                matrix.cols, matrix.bias, static_cast<float*>(out));
  const Program& ready = program({rows, matrix.cols, matrix.in, full, matrix.bias != nullptr}, matrix.layout);
  multiply(ready, in, matrix.data, matrix.bias, out);
}

dnnl::memory::desc Products::layout(std::int64_t cols, std::int64_t in, bool has_bias) {
  if (own_ != nullptr) return {{in, cols}, working_, memory::format_tag::BA16a16b};
  return program({kTypicalRows, cols, in, true, has_bias}, nullptr).weight;
}

void Products::move(const memory::desc& from_layout, const void* from, const memory::desc& to_layout,
                    void* to) {
  const SingleThread single;
  memory source(from_layout, engine_, const_cast<void*>(from));  // oneDNN takes no pointers to const
  memory target(to_layout, engine_, to);
  dnnl::stream stream(engine_);
  dnnl::reorder(source, target).execute(stream, source, target);
  stream.wait();
}

void Products::reorder(const void* plain, std::int64_t cols, std::int64_t in, const memory::desc& layout,
                       void* to) {
  // W row by row is the transpose of what the product multiplies by.
  move({{in, cols}, working_, memory::format_tag::ba}, plain, layout, to);
}

void Products::reorder_columns(const void* b, std::int64_t pitch, std::int64_t first, std::int64_t cols,
                               std::int64_t in, const memory::desc& layout, void* to) {
  const std::size_t offset = static_cast<std::size_t>(first) * memory::data_type_size(working_);
  move({{in, cols}, working_, memory::dims{pitch, 1}}, static_cast<const std::byte*>(b) + offset, layout, to);
}

void Products::transpose(const void* from, std::int64_t pitch, std::int64_t first, std::int64_t cols,
                         std::int64_t rows, void* to) {
  const std::size_t offset = static_cast<std::size_t>(first) * memory::data_type_size(working_);
  move({{cols, rows}, working_, memory::dims{1, pitch}}, static_cast<const std::byte*>(from) + offset,
       {{cols, rows}, working_, memory::format_tag::ab}, to);
}

void Products::add_product_of_columns(const void* a, std::int64_t a_cols, const void* b, std::int64_t b_cols,
                                      std::int64_t rows, float* sum) {
  if (rows == 0 || a_cols == 0 || b_cols == 0) return;
  const std::size_t size = memory::data_type_size(working_);
  struct Right {
    std::int64_t first, cols;
    memory::desc layout;
    AlignedBytes data;
  };
  std::vector<Right> rights;
  for (std::int64_t first = 0; first < b_cols; first += kGradientColumns) {
    const std::int64_t cols = std::min(kGradientColumns, b_cols - first);
    memory::desc chosen = layout(cols, rows, false);
    AlignedBytes data(chosen.get_size());
    rights.push_back({first, cols, std::move(chosen), std::move(data)});
  }
  parallel_for(rights.size(), [&](std::size_t index) {
    Right& right = rights[index];
    right.data.clear();  // some layouts are padded
    reorder_columns(b, b_cols, right.first, right.cols, rows, right.layout, right.data.data());
  });
  const std::int64_t strips = (a_cols + kTypicalRows - 1) / kTypicalRows;
  parallel_for(static_cast<std::size_t>(strips), [&](std::size_t index) {
    const std::int64_t first = static_cast<std::int64_t>(index) * kTypicalRows;
    const std::int64_t cols = std::min(kTypicalRows, a_cols - first);
    t_left.reserve(static_cast<std::size_t>(cols * rows) * size);
    transpose(a, a_cols, first, cols, rows, t_left.data());
    for (const Right& right : rights) {
      t_gram.reserve(static_cast<std::size_t>(cols * right.cols) * sizeof(float));
      const auto* product = reinterpret_cast<const float*>(t_gram.data());
      run({.first = 0,
           .cols = right.cols,
           .in = rows,
           .layout = &right.layout,
           .data = right.data.data(),
           .bias = nullptr},
          cols, t_left.data(), t_gram.data(), true);
      for (std::int64_t r = 0; r < cols; ++r) {
        float* target = sum + (first + r) * b_cols + right.first;
        for (std::int64_t c = 0; c < right.cols; ++c) target[c] += product[r * right.cols + c];
      }
    }
  });
}

std::optional<BlockedLayout> blocked(const memory::desc& layout) {
#if DNNL_VERSION_MAJOR >= 3
  const auto strides = layout.get_strides();
  const auto blocks = layout.get_inner_blks();
  const auto dims = layout.get_inner_idxs();
  const auto sizes = layout.get_dims();
  const auto padded = layout.get_padded_dims();
  const std::size_t count = blocks.size();
#else
  const auto& blocking = layout.data.format_desc.blocking;
  if (layout.data.format_kind != dnnl_blocked) return std::nullopt;
  const auto& strides = blocking.strides;
  const auto& blocks = blocking.inner_blks;
  const auto& dims = blocking.inner_idxs;
  const auto& sizes = layout.data.dims;
  const auto& padded = layout.data.padded_dims;
  const auto count = static_cast<std::size_t>(blocking.inner_nblks);
#endif
  const bool plain = count == 2 && blocks[0] == 16 && dims[0] == 0 &&
                     (blocks[1] == 64 || blocks[1] == kDensePanel) && dims[1] == 1;
  const bool pairs = count == 3 && blocks[0] == 16 && dims[0] == 0 && blocks[1] == 64 && dims[1] == 1 &&
                     blocks[2] == 2 && dims[2] == 0;
  if ((!plain && !pairs) || sizes[0] != padded[0]) return std::nullopt;
  return BlockedLayout{pairs, blocks[1], strides[1], strides[0]};
}

void Products::multiply(const Program& ready, const void* in, const void* weight, const float* bias,
                        void* out) {
  const SingleThread single;
  t_scratchpad.reserve(ready.scratchpad.get_size());
  // oneDNN takes no pointers to const; it does not write to the inputs.
  std::unordered_map<int, memory> arguments = {
      {DNNL_ARG_SRC, memory(ready.in, engine_, const_cast<void*>(in))},
      {DNNL_ARG_WEIGHTS, memory(ready.weight, engine_, const_cast<void*>(weight))},
      {DNNL_ARG_DST, memory(ready.out, engine_, out)},
      {DNNL_ARG_SCRATCHPAD, memory(ready.scratchpad, engine_, t_scratchpad.data())}};
  if (bias != nullptr)
    arguments.emplace(DNNL_ARG_BIAS, memory(ready.bias, engine_, const_cast<float*>(bias)));
  dnnl::stream stream(engine_);
  ready.primitive.execute(stream, arguments);
  stream.wait();
}

void Products::add_gram(const void* x, std::int64_t rows, std::int64_t width, std::span<double> lower) {
  if (rows == 0 || width == 0) return;
  /// Columns [first, first + cols) of X, as both operands of products read them.
  struct Tile {
    std::int64_t first, cols;
    AlignedBytes left;  ///< transposed: [cols, rows]
    memory::desc layout;
    AlignedBytes right;  ///< [rows, cols] in `layout`
  };
  const std::int64_t most = width > kGramTile ? kGramTile : kSmallGramTile;
  std::vector<Tile> tiles((width + most - 1) / most);
  for (std::size_t i = 0; i < tiles.size(); ++i) {
    Tile& tile = tiles[i];
    tile.first = static_cast<std::int64_t>(i) * most;
    tile.cols = std::min(most, width - tile.first);
    // The layout is chosen for products with a full tile; those with the last, narrower one follow.
    tile.layout = program({std::min(most, width), tile.cols, rows, true, false}, nullptr).weight;
  }
  const std::size_t size = memory::data_type_size(working_);
  parallel_for(tiles.size(), [&](std::size_t index) {
    const SingleThread single;
    Tile& tile = tiles[index];
    auto* start = const_cast<std::byte*>(static_cast<const std::byte*>(x)) +
                  static_cast<std::size_t>(tile.first) * size;
    const memory::desc across({tile.cols, rows}, working_, memory::dims{1, width});
    const memory::desc along({rows, tile.cols}, working_, memory::dims{width, 1});
    const memory::desc plain({tile.cols, rows}, working_, memory::format_tag::ab);
    tile.left.reserve(plain.get_size());
    tile.right.reserve(tile.layout.get_size());
    tile.right.clear();  // some layouts are padded
    dnnl::stream stream(engine_);
    memory from_across(across, engine_, start);
    memory left(plain, engine_, tile.left.data());
    dnnl::reorder(from_across, left).execute(stream, from_across, left);
    memory from_along(along, engine_, start);
    memory right(tile.layout, engine_, tile.right.data());
    dnnl::reorder(from_along, right).execute(stream, from_along, right);
    stream.wait();
  });

  // Pair number i (i + 1) / 2 + j is tile i by tile j <= i.
  parallel_for(tiles.size() * (tiles.size() + 1) / 2, [&](std::size_t index) {
    auto i = static_cast<std::size_t>((std::sqrt(8.0 * static_cast<double>(index) + 1) - 1) / 2);
    while (i * (i + 1) / 2 > index) --i;
    while ((i + 1) * (i + 2) / 2 <= index) ++i;
    const Tile& row = tiles[i];
    const Tile& col = tiles[index - i * (i + 1) / 2];
    t_gram.reserve(static_cast<std::size_t>(row.cols * col.cols) * sizeof(float));
    const auto* product = reinterpret_cast<const float*>(t_gram.data());
    multiply(program({row.cols, col.cols, rows, true, false}, &col.layout), row.left.data(), col.right.data(),
             nullptr, t_gram.data());
    for (std::int64_t r = 0; r < row.cols; ++r) {
      const std::int64_t at = row.first + r;
      const std::int64_t cols = std::min(col.cols, at + 1 - col.first);
      double* sums = lower.data() + at * (at + 1) / 2 + col.first;
      for (std::int64_t c = 0; c < cols; ++c) sums[c] += static_cast<double>(product[r * col.cols + c]);
    }
  });
}

}  // namespace knapsaq::cpu
