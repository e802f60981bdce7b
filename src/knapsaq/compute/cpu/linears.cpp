#include "knapsaq/compute/cpu/linears.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <type_traits>
#include <utility>

#include "knapsaq/base/float16.h"
#include "knapsaq/base/threads.h"
#include "knapsaq/compute/cpu/tiles.h"

namespace knapsaq::cpu {
namespace {

// Row tiles for which a dequantized piece is used before another task makes it again: 1024 rows, of whose
// products making the piece is a few percent; and two cores have something to do where a weight has two
// pieces only.
constexpr std::int64_t kTilesPerPiece = 8;
// Columns of logits that losses() makes of few rows at once: wide enough for few partial sums.
constexpr std::int64_t kHeadColumns = 1024;

template <class T>
constexpr dnnl::memory::data_type kWorking =
    std::is_same_v<T, Bf16> ? dnnl::memory::data_type::bf16 : dnnl::memory::data_type::f32;

/// A piece of a weight that was dequantized.
struct OpenPiece {
  dnnl::memory::desc layout;
  AlignedBytes buffer;
};
thread_local std::array<OpenPiece, 2> t_pieces;

void check_input(const Array& in, std::int64_t rows, const Weight& weight) {
  require(in.element() == Element::working && in.cols() == weight.in() && rows <= in.rows(),
          "product: input of another shape");
}

/// Where oneDNN has no kernels for AVX-512, it multiplies by a general product of BLAS (see
/// Kernels::multiply).
template <class T>
DenseProduct own_product(const Kernels<T>& kernels) {
  const auto isa = static_cast<unsigned>(dnnl::get_effective_cpu_isa());
  const auto needed = static_cast<unsigned>(dnnl::cpu_isa::avx512_core);
  return (isa & needed) == needed ? nullptr : kernels.multiply;
}

const PackedWeight* as_packed(const Weight* weight) { return dynamic_cast<const PackedWeight*>(weight); }

}  // namespace

double log_sum_of(const SoftmaxStatistics* parts, std::int64_t count, std::int64_t stride) {
  double largest = parts[0].largest;
  for (std::int64_t c = 1; c < count; ++c) largest = std::max<double>(largest, parts[c * stride].largest);
  double sum = 0;
  for (std::int64_t c = 0; c < count; ++c)
    sum += parts[c * stride].sum * std::exp(parts[c * stride].largest - largest);
  return largest + std::log(sum);
}

template <class T>
Linears<T>::Linears(const CpuOptions& options, const Kernels<T>& kernels, const PackedKernels& packed_kernels)
    : precision_(options.precision),
      packed_(options.packed),
      packed_rows_(options.packed_rows),
      rounds_inputs_(options.inputs == Inputs::as_llama_cpp),
      kernels_(kernels),
      packed_kernels_(packed_kernels),
      products_(kWorking<T>, own_product(kernels)),
      inputs_(packed_kernels, options.packed) {
  require(!rounds_inputs_ || (packed_ == Packed::off && std::is_same_v<T, float>),
          "inputs as llama.cpp's are for dense weights and fp32");
}

template <class T>
std::unique_ptr<Weight> Linears<T>::prepare(std::int64_t out, std::int64_t in, std::span<const float> bias,
                                            const DenseRows& read, InputRounding rounding) {
  require(bias.empty() || static_cast<std::int64_t>(bias.size()) == out, "prepare: bias of another length");
  std::vector<float> biases(bias.begin(), bias.end());
  const bool rounded = precision_ == Precision::bf16;
  if (packed_ == Packed::off) {
    std::unique_ptr<DenseWeight> weight = products_.prepare(out, in, std::move(biases), read, rounded);
    if (rounds_inputs_) weight->set_input_rounding(rounding);
    return weight;
  }
  return pack(out, in, rounded ? Code::bf16 : Code::f32, std::move(biases), read, arena_);
}

template <class T>
std::unique_ptr<Weight> Linears<T>::prepare(const TensorView& weight, std::span<const float> bias) {
  require(weight.shape.size() == 2 && is_weight_type(weight.type), "prepare: not a matrix of floats");
  const std::int64_t in = weight.shape[1];
  const DenseRows read = [&](std::int64_t first, std::int64_t n, float* out) {
    read_floats(weight, first * in, {out, static_cast<std::size_t>(n * in)});
  };
  if (packed_ != Packed::off && precision_ == Precision::fp32 && weight.type != DType::F32) {
    require(bias.empty() || std::ssize(bias) == weight.shape[0], "prepare: bias of another length");
    return pack(weight.shape[0], in, weight.type == DType::F16 ? Code::f16 : Code::bf16,
                {bias.begin(), bias.end()}, read, arena_);
  }
  return prepare(weight.shape[0], in, bias, read, input_rounding(weight.type));
}

template <class T>
std::unique_ptr<Weight> Linears<T>::prepare(const StoredMatrix& weight, std::span<const float> bias) {
  const std::int64_t cols = cols_of(weight);
  if (packed_ != Packed::off && packed_view(weight)) {
    require(bias.empty() || std::ssize(bias) == rows_of(weight), "prepare: bias of another length");
    return pack(weight, {bias.begin(), bias.end()}, arena_);
  }
  const DenseRows read = [&](std::int64_t first, std::int64_t n, float* out) {
    for (std::int64_t r = 0; r < n; ++r)
      dequantize_row(weight, first + r, {out + r * cols, static_cast<std::size_t>(cols)});
  };
  return prepare(rows_of(weight), cols, bias, read, input_rounding(weight));
}

template <class T>
Array Linears<T>::inputs_of(const Weight& weight, const Array& in, std::int64_t rows) const {
  if constexpr (std::is_same_v<T, float>) {
    const auto* dense = dynamic_cast<const DenseWeight*>(&weight);
    if (dense == nullptr || dense->input_rounding() == InputRounding::none) return in;
    const std::int64_t cols = in.cols();
    auto bytes =
        std::make_shared<AlignedBytes>(static_cast<std::size_t>((rows + kRowStep) * cols) * sizeof(float));
    bytes->clear();
    const Array out(std::shared_ptr<void>(bytes, bytes->data()), rows, cols, Element::working);
    for_tiles(RowTiles(rows), [&](const RowTile& tile) {
      round_inputs(dense->input_rounding(), working<T>(in) + tile.first * cols, tile.count * cols,
                   working<T>(out) + tile.first * cols);
    });
    return out;
  } else {
    return in;
  }
}

template <class T>
bool Linears<T>::few(std::int64_t rows, const Weight& weight) const {
  return rows <= packed_rows_ && as_packed(&weight) != nullptr;
}

template <class T>
std::int64_t Linears<T>::piece_columns(const Weight& weight) const {
  if (const PackedWeight* packed = as_packed(&weight)) return columns_per_piece(*packed);
  return dynamic_cast<const DenseWeight&>(weight).chunks().front().cols;
}

template <class T>
std::int64_t Linears<T>::pieces(const Weight& weight) const {
  const std::int64_t columns = piece_columns(weight);
  return (weight.out() + columns - 1) / columns;
}

template <class T>
std::int64_t Linears<T>::tiles_per_task(const Weight& weight) const {
  return as_packed(&weight) != nullptr ? kTilesPerPiece : 1;
}

template <class T>
ProductOperand Linears<T>::open(const Weight& weight, std::int64_t index, int slot) {
  if (const PackedWeight* packed = as_packed(&weight)) {
    OpenPiece& piece = t_pieces.at(static_cast<std::size_t>(slot));
    const std::int64_t columns = columns_per_piece(*packed);
    const std::int64_t first = index * columns;
    return dequantize<T>(*packed, first, std::min(columns, weight.out() - first), packed_kernels_, products_,
                         piece.layout, piece.buffer);
  }
  const auto& dense = dynamic_cast<const DenseWeight&>(weight);
  return view_of(dense, dense.chunks()[static_cast<std::size_t>(index)]);
}

template <class T>
bool Linears<T>::few(const ExpertRows& rows) const {
  return rows.size() <= packed_rows_ * rows.experts();
}

template <class T>
void Linears<T>::multiply(const Array& in, std::int64_t rows, std::span<const Product> products) {
  std::vector<ProductPart> parts;
  for (const Product& product : products) {
    check_input(in, rows, *product.weight);
    require(product.out->cols() == product.weight->out() && rows <= product.out->rows(),
            "multiply: shapes differ");
    require(!product.accumulate || product.out->element() == Element::full, "multiply: sum is not full");
    parts.push_back({product, 0, rows});
  }
  if (products.empty() || rows == 0) return;
  if (std::all_of(products.begin(), products.end(),
                  [&](const Product& product) { return few(rows, *product.weight); }))
    return multiply_few(in, rows, parts);
  multiply_parts(in, parts);
}

template <class T>
void Linears<T>::multiply_experts(const Array& in, const ExpertRows& rows,
                                  std::span<const Weight* const> experts, Array& out) {
  require(std::ssize(experts) == rows.experts(), "multiply_experts: not a weight for each expert");
  std::vector<ProductPart> parts;
  for (std::int64_t e = 0; e < rows.experts(); ++e) {
    if (rows.rows_of(e) == 0) continue;
    const Weight* weight = experts[static_cast<std::size_t>(e)];
    require(weight != nullptr, "multiply_experts: rows of an expert that has no weight");
    check_input(in, rows.size(), *weight);
    require(out.cols() == weight->out() && rows.size() <= out.rows(), "multiply_experts: shapes differ");
    parts.push_back({{weight, &out, false}, rows.begin[static_cast<std::size_t>(e)], rows.rows_of(e)});
  }
  if (parts.empty()) return;
  if (few(rows) &&
      std::ranges::all_of(parts, [](const ProductPart& part) { return as_packed(part.product.weight); }))
    return multiply_few(in, rows.size(), parts);
  multiply_parts(in, parts);
}

template <class T>
void Linears<T>::multiply_parts(const Array& in, std::span<const ProductPart> parts) {
  struct Task {
    std::size_t part;
    std::int64_t piece;
    std::int64_t first_tile, end_tile;
  };
  std::vector<Task> tasks;
  std::vector<Array> inputs;  // of each part: each may round them in another way
  for (const ProductPart& part : parts) {
    const Weight& weight = *part.product.weight;
    inputs.push_back(
        inputs_of(weight, in.view(working<T>(in) + part.first * in.cols(), part.rows), part.rows));
    // All row tiles of one piece before the next piece: its weights stay in the cache that the cores share.
    const RowTiles tiles(part.rows);
    const std::int64_t together = tiles_per_task(weight);
    for (std::int64_t piece = 0; piece < pieces(weight); ++piece)
      for (std::int64_t tile = 0; tile < tiles.size(); tile += together)
        tasks.push_back({inputs.size() - 1, piece, tile, std::min(tile + together, tiles.size())});
  }
  parallel_for(tasks.size(), [&](std::size_t index) {
    const Task& task = tasks[index];
    const auto& [product, first, rows] = parts[task.part];
    const RowTiles tiles(rows);
    const ProductOperand matrix = open(*product.weight, task.piece, 0);
    Array& out = *product.out;
    const bool is_full = out.element() == Element::full;
    const std::size_t size = is_full ? sizeof(float) : sizeof(T);
    const std::size_t pitch = static_cast<std::size_t>(out.cols()) * size;
    const std::size_t row_bytes = static_cast<std::size_t>(matrix.cols) * size;
    for (std::int64_t t = task.first_tile; t < task.end_tile; ++t) {
      const RowTile tile = tiles[t];
      const T* x = working<T>(inputs[task.part]) + tile.first * in.cols();
      std::byte* target = static_cast<std::byte*>(out.data()) +
                          static_cast<std::size_t>(first + tile.first) * pitch +
                          static_cast<std::size_t>(matrix.first) * size;
      // The rows behind those of the part may be another's.
      if (matrix.cols == out.cols() && !product.accumulate && tile.computed == tile.count) {
        products_.run(matrix, tile.computed, x, target, is_full);
        continue;
      }
      t_tile.reserve(static_cast<std::size_t>(tile.computed) * row_bytes);
      products_.run(matrix, tile.computed, x, t_tile.data(), is_full);
      for (std::int64_t r = 0; r < tile.count; ++r) {
        std::byte* to = target + static_cast<std::size_t>(r) * pitch;
        const std::byte* from = t_tile.data() + static_cast<std::size_t>(r) * row_bytes;
        if (product.accumulate) {
          kernels_.add(reinterpret_cast<const float*>(from), matrix.cols, reinterpret_cast<float*>(to));
        } else {
          std::memcpy(to, from, row_bytes);
        }
      }
    }
  });
}

template <class T>
void Linears<T>::multiply_few(const Array& in, std::int64_t rows, std::span<const ProductPart> parts) {
  std::vector<const PackedWeight*> weights;
  std::vector<std::int64_t> ends;  // of each part's tasks
  std::int64_t tasks = 0;
  for (const ProductPart& part : parts) {
    const PackedWeight& weight = *as_packed(part.product.weight);
    weights.push_back(&weight);
    const std::int64_t together = panels_per_task(weight);
    tasks += (weight.panels() + together - 1) / together;
    ends.push_back(tasks);
  }
  inputs_.prepare(working<T>(in), rows, in.cols(), weights);
  parallel_streams(static_cast<std::size_t>(tasks), [&](std::size_t index) {
    const auto task = static_cast<std::int64_t>(index);
    const auto p = static_cast<std::size_t>(std::upper_bound(ends.begin(), ends.end(), task) - ends.begin());
    const ProductPart& part = parts[p];
    const PackedWeight& weight = *weights[p];
    const std::int64_t together = panels_per_task(weight);
    const std::int64_t first_panel = (task - (p == 0 ? 0 : ends[p - 1])) * together;
    const std::int64_t panels = std::min(together, weight.panels() - first_panel);
    const std::int64_t pitch = panels * kPanelRows;
    t_tile.reserve(static_cast<std::size_t>(part.rows * pitch) * sizeof(float));
    float* sums = reinterpret_cast<float*>(t_tile.data());
    inputs_.multiply(weight, first_panel, panels, part.first, part.rows, sums, pitch);

    const std::int64_t first = first_panel * kPanelRows;
    const std::int64_t cols = std::min(pitch, weight.out() - first);
    Array& out = *part.product.out;
    for (std::int64_t r = 0; r < part.rows; ++r) {
      float* row = sums + r * pitch;
      if (!weight.bias().empty()) kernels_.add(weight.bias().data() + first, cols, row);
      const std::int64_t at = (part.first + r) * out.cols() + first;
      if (part.product.accumulate) {
        kernels_.add(row, cols, full(out) + at);
      } else if (out.element() == Element::full) {
        std::copy_n(row, cols, full(out) + at);
      } else {
        kernels_.convert(row, cols, working<T>(out) + at);
      }
    }
  });
}

template <class T>
void Linears<T>::check_activated(const Array& in, std::int64_t rows, const ExpertWeights& weights,
                                 Activation activation, const Array& out) const {
  const auto& [gate, up] = weights;
  require(up != nullptr, "activate: rows of an expert that has no weights");
  check_input(in, rows, *up);
  require(gate != nullptr || activation != Activation::clamped_swiglu, "activate: no gate");
  if (gate != nullptr) {
    check_input(in, rows, *gate);
    require(gate->out() == up->out(), "activate: gate and up differ");
    require((as_packed(gate) == nullptr) == (as_packed(up) == nullptr), "activate: weights of two kinds");
  }
  require(out.element() == Element::working && out.cols() == up->out() && rows <= out.rows(),
          "activate: output of another shape");
}

template <class T>
void Linears<T>::activate(const Array& in, std::int64_t rows, const Weight* gate, const Weight& up,
                          Activation activation, Array& out) {
  check_activated(in, rows, {gate, &up}, activation, out);
  if (rows == 0) return;
  const ActivatedPart part{gate, &up, 0, rows};
  if (few(rows, up)) return activate_few(in, rows, {&part, 1}, activation, out);
  activate_parts(in, {&part, 1}, activation, out);
}

template <class T>
void Linears<T>::activate_experts(const Array& in, const ExpertRows& rows,
                                  std::span<const ExpertWeights> experts, Activation activation, Array& out) {
  require(std::ssize(experts) == rows.experts(), "activate_experts: not weights for each expert");
  std::vector<ActivatedPart> parts;
  for (std::int64_t e = 0; e < rows.experts(); ++e) {
    if (rows.rows_of(e) == 0) continue;
    const auto& [gate, up] = experts[static_cast<std::size_t>(e)];
    check_activated(in, rows.size(), {gate, up}, activation, out);
    parts.push_back({gate, up, rows.begin[static_cast<std::size_t>(e)], rows.rows_of(e)});
  }
  if (parts.empty()) return;
  if (few(rows) && std::ranges::all_of(parts, [](const ActivatedPart& part) { return as_packed(part.up); }))
    return activate_few(in, rows.size(), parts, activation, out);
  activate_parts(in, parts, activation, out);
}

template <class T>
void Linears<T>::activate_parts(const Array& in, std::span<const ActivatedPart> parts, Activation activation,
                                Array& out) {
  struct Inputs {
    Array of_up, of_gate;
  };
  struct Task {
    std::size_t part;
    std::int64_t piece;
    std::int64_t first_tile, end_tile;
  };
  std::vector<Inputs> inputs;
  std::vector<Task> tasks;
  for (const ActivatedPart& part : parts) {
    const Array x = in.view(working<T>(in) + part.first * in.cols(), part.rows);
    inputs.push_back({inputs_of(*part.up, x, part.rows),
                      part.gate == nullptr ? Array() : inputs_of(*part.gate, x, part.rows)});
    const RowTiles tiles(part.rows);
    const std::int64_t together = tiles_per_task(*part.up);
    for (std::int64_t piece = 0; piece < pieces(*part.up); ++piece)
      for (std::int64_t tile = 0; tile < tiles.size(); tile += together)
        tasks.push_back({inputs.size() - 1, piece, tile, std::min(tile + together, tiles.size())});
  }
  parallel_for(tasks.size(), [&](std::size_t index) {
    const Task& task = tasks[index];
    const auto& [gate, up, first, rows] = parts[task.part];
    const Inputs& of_part = inputs[task.part];
    const RowTiles tiles(rows);
    const ProductOperand ups = open(*up, task.piece, 0);
    ProductOperand gates;
    if (gate != nullptr) gates = open(*gate, task.piece, 1);
    for (std::int64_t t = task.first_tile; t < task.end_tile; ++t) {
      const RowTile tile = tiles[t];
      const std::int64_t at = tile.first * in.cols();
      const std::int64_t elements = tile.computed * ups.cols;
      t_tile.reserve(static_cast<std::size_t>(2 * elements) * sizeof(T));
      T* of_up = reinterpret_cast<T*>(t_tile.data());
      T* of_gate = gate == nullptr ? nullptr : of_up + elements;
      if (gate != nullptr)
        products_.run(gates, tile.computed, working<T>(of_part.of_gate) + at, of_gate, false);
      products_.run(ups, tile.computed, working<T>(of_part.of_up) + at, of_up, false);
      for (std::int64_t r = 0; r < tile.count; ++r)
        kernels_.activate(activation, gate == nullptr ? nullptr : of_gate + r * ups.cols,
                          of_up + r * ups.cols, ups.cols,
                          working<T>(out) + (first + tile.first + r) * out.cols() + ups.first);
    }
  });
}

template <class T>
void Linears<T>::activate_few(const Array& in, std::int64_t rows, std::span<const ActivatedPart> parts,
                              Activation activation, Array& out) {
  struct Pair {
    std::array<const PackedWeight*, 2> weights;  // up, gate
    std::size_t count;
    std::int64_t together;  // panels of a task
  };
  std::vector<Pair> pairs;
  std::vector<const PackedWeight*> weights;
  std::vector<std::int64_t> ends;  // of each part's tasks
  std::int64_t tasks = 0;
  for (const ActivatedPart& part : parts) {
    const PackedWeight& up = *as_packed(part.up);
    const std::size_t count = part.gate == nullptr ? 1 : 2;
    const std::int64_t together =
        std::max<std::int64_t>(1, panels_per_task(up) / static_cast<std::int64_t>(count));
    pairs.push_back({{&up, as_packed(part.gate)}, count, together});
    weights.insert(weights.end(), pairs.back().weights.begin(), pairs.back().weights.begin() + count);
    tasks += (up.panels() + together - 1) / together;
    ends.push_back(tasks);
  }
  inputs_.prepare(working<T>(in), rows, in.cols(), weights);
  parallel_streams(static_cast<std::size_t>(tasks), [&](std::size_t index) {
    const auto task = static_cast<std::int64_t>(index);
    const auto p = static_cast<std::size_t>(std::upper_bound(ends.begin(), ends.end(), task) - ends.begin());
    const ActivatedPart& part = parts[p];
    const Pair& pair = pairs[p];
    const PackedWeight& up = *pair.weights[0];
    const std::int64_t first_panel = (task - (p == 0 ? 0 : ends[p - 1])) * pair.together;
    const std::int64_t panels = std::min(pair.together, up.panels() - first_panel);
    const std::int64_t pitch = panels * kPanelRows;
    const std::int64_t first = first_panel * kPanelRows;
    const std::int64_t cols = std::min(pitch, up.out() - first);
    const std::int64_t elements = part.rows * pitch;
    t_tile.reserve(static_cast<std::size_t>(elements) * (sizeof(float) + 2 * sizeof(T)));
    float* sums = reinterpret_cast<float*>(t_tile.data());
    T* results = reinterpret_cast<T*>(sums + elements);  // of up, then of gate
    for (std::size_t i = 0; i < pair.count; ++i) {
      const PackedWeight& weight = *pair.weights[i];
      inputs_.multiply(weight, first_panel, panels, part.first, part.rows, sums, pitch);
      for (std::int64_t r = 0; r < part.rows; ++r) {
        float* row = sums + r * pitch;
        if (!weight.bias().empty()) kernels_.add(weight.bias().data() + first, cols, row);
        kernels_.convert(row, cols, results + static_cast<std::int64_t>(i) * elements + r * pitch);
      }
    }
    for (std::int64_t r = 0; r < part.rows; ++r)
      kernels_.activate(activation, pair.count == 1 ? nullptr : results + elements + r * pitch,
                        results + r * pitch, cols, working<T>(out) + (part.first + r) * out.cols() + first);
  });
}

template <class T>
void Linears<T>::losses(const Array& in, const OutputHead& output, std::span<const std::int32_t> targets,
                        std::span<float> losses) {
  const Weight& head = *output.weight;
  const auto rows = static_cast<std::int64_t>(targets.size());
  check_input(in, rows, head);
  require(losses.size() == targets.size(), "losses: output of another length");
  if (rows == 0) return;
  const Array inputs = inputs_of(head, in, rows);
  const bool from_codes = few(rows, head);
  if (from_codes) {
    const PackedWeight* const weight = as_packed(&head);
    inputs_.prepare(working<T>(in), rows, in.cols(), {&weight, 1});
  }
  const std::int64_t columns = from_codes ? kHeadColumns : piece_columns(head);
  const std::int64_t count = (head.out() + columns - 1) / columns;
  std::vector<SoftmaxStatistics> statistics(static_cast<std::size_t>(count * rows));
  std::vector<float> target_logits(targets.size(), 0.0f);
  // What the columns from `first` on say about some rows; `pitch` floats from row to row.
  const auto look = [&](const RowTile& tile, std::int64_t piece, std::int64_t first, std::int64_t cols,
                        float* logits, std::int64_t pitch) {
    for (std::int64_t r = 0; r < tile.count; ++r) {
      const std::int64_t row = tile.first + r;
      float* of_row = logits + r * pitch;
      if (output.softcap > 0) kernels_.pointwise->softcap(of_row, cols, output.softcap);
      statistics[static_cast<std::size_t>(piece * rows + row)] = kernels_.softmax_statistics(of_row, cols);
      const std::int64_t target = targets[static_cast<std::size_t>(row)] - first;
      if (target >= 0 && target < cols) target_logits[static_cast<std::size_t>(row)] = of_row[target];
    }
  };
  const RowTiles tiles(rows);
  const std::int64_t together = from_codes ? tiles.size() : tiles_per_task(head);
  const std::int64_t groups = (tiles.size() + together - 1) / together;
  parallel_for(static_cast<std::size_t>(count * groups), [&](std::size_t index) {
    const std::int64_t piece = static_cast<std::int64_t>(index) / groups;
    if (from_codes) {
      const std::int64_t first = piece * columns;
      const std::int64_t cols = std::min(columns, head.out() - first);
      const std::int64_t pitch = round_up(cols, kPanelRows);
      t_tile.reserve(static_cast<std::size_t>(rows * pitch) * sizeof(float));
      float* logits = reinterpret_cast<float*>(t_tile.data());
      inputs_.multiply(*as_packed(&head), first / kPanelRows, pitch / kPanelRows, logits, pitch);
      return look({0, rows, rows}, piece, first, cols, logits, pitch);
    }
    const ProductOperand matrix = open(head, piece, 0);
    const std::int64_t first_tile = static_cast<std::int64_t>(index) % groups * together;
    for (std::int64_t t = first_tile; t < std::min(first_tile + together, tiles.size()); ++t) {
      const RowTile tile = tiles[t];
      t_tile.reserve(static_cast<std::size_t>(tile.computed * matrix.cols) * sizeof(float));
      float* logits = reinterpret_cast<float*>(t_tile.data());
      products_.run(matrix, tile.computed, working<T>(inputs) + tile.first * in.cols(), logits, true);
      look(tile, piece, matrix.first, matrix.cols, logits, matrix.cols);
    }
  });
  for_tiles(tiles, [&](const RowTile& tile) {
    for (std::int64_t row = tile.first; row < tile.first + tile.count; ++row) {
      const auto i = static_cast<std::size_t>(row);
      losses[i] =
          targets[i] < 0 ? 0 : static_cast<float>(log_sum_of(&statistics[i], count, rows) - target_logits[i]);
    }
  });
}

template class Linears<float>;
template class Linears<Bf16>;

}  // namespace knapsaq::cpu
