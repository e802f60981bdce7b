// GGUF for llama.cpp and programs built on it: every linear in its own type.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <optional>
#include <span>

#include <fmt/core.h>

#include "knapsaq/bank/error_table.h"
#include "knapsaq/base/cancellation.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/float16.h"
#include "knapsaq/checkpoint/file_sizes.h"
#include "knapsaq/checkpoint/gguf_file.h"
#include "knapsaq/checkpoint/gguf_heads.h"
#include "knapsaq/checkpoint/gguf_names.h"
#include "knapsaq/checkpoint/stored_layout.h"
#include "knapsaq/compute/ggml_matrix.h"
#include "knapsaq/export/carried.h"
#include "knapsaq/export/formats.h"
#include "knapsaq/export/gguf/blocks.h"
#include "knapsaq/export/gguf/model_metadata.h"
#include "knapsaq/export/gguf/recipe.h"
#include "knapsaq/export/gguf/source_metadata.h"
#include "knapsaq/export/gguf/vocabulary.h"
#include "knapsaq/model/architecture.h"
#include "knapsaq/model/expected_tensors.h"
#include "knapsaq/quant/quantizer.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;

/// Bytes that are reordered before they are written.
constexpr std::size_t kPieceBytes = std::size_t{4} << 20;

/// How a tensor of the checkpoint becomes a tensor of the file.
enum class How : std::uint8_t {
  copied,     ///< a dense matrix, in its own type
  floats,     ///< a vector, as F32: ggml adds and multiplies with no other type
  exact,      ///< a quantized linear whose weights the type holds exactly
  quantized,  ///< a quantized linear that is decoded and requantized
  halves,     ///< a quantized linear that is decoded and rounded to F16
  given,      ///< not from the checkpoint: factors of rotary frequencies
};

struct Piece {
  GgufTensorSpec spec;
  std::string source;  ///< tensor, or module of a quantized linear
  How how = How::copied;
  std::int64_t rotated_heads = 0;  ///< rows in llama.cpp's order for this many heads; 0: unchanged
  /// What llama.cpp has in one tensor, and where each part's rows go; `source` is then that of the first.
  struct Part {
    std::string source;
    RowPattern rows;
  };
  std::vector<Part> parts = {};
  std::vector<float> given = {};  ///< How::given: the values
  /// Whether `source` is a module, not a tensor.
  bool is_module() const { return how == How::exact || how == How::quantized || how == How::halves; }
};

/// ggml's numbers for the type of most of a file (llama_ftype); where a type has several mixtures, the medium
/// one.
std::uint32_t file_type(GgufType type) {
  if (const auto* dense = std::get_if<DType>(&type)) {
    switch (*dense) {
      case DType::F16:
        return 1;
      case DType::BF16:
        return 32;
      default:
        return 0;
    }
  }
  switch (std::get<GgmlType>(type)) {
    case GgmlType::Q4_0:
      return 2;
    case GgmlType::Q4_1:
      return 3;
    case GgmlType::Q8_0:
      return 7;
    case GgmlType::Q5_0:
      return 8;
    case GgmlType::Q5_1:
      return 9;
    case GgmlType::Q2_K:
      return 10;
    case GgmlType::Q3_K:
      return 12;
    case GgmlType::Q4_K:
      return 15;
    case GgmlType::Q5_K:
      return 17;
    case GgmlType::Q6_K:
      return 18;
    case GgmlType::IQ2_XXS:
      return 19;
    case GgmlType::IQ2_XS:
      return 20;
    case GgmlType::IQ3_XXS:
      return 23;
    case GgmlType::IQ1_S:
      return 24;
    case GgmlType::IQ4_NL:
      return 25;
    case GgmlType::IQ3_S:
      return 26;
    case GgmlType::IQ2_S:
      return 28;
    case GgmlType::IQ4_XS:
      return 30;
    case GgmlType::IQ1_M:
      return 31;
    case GgmlType::Q2_0:
      return 41;
  }
  return 0;
}

/// The type for decoded weights that were stored in this many bits.
GgmlType type_for(int bits) {
  switch (bits) {
    case 2:
      return GgmlType::Q2_K;
    case 3:
      return GgmlType::Q3_K;
    case 5:
      return GgmlType::Q5_K;
    case 6:
      return GgmlType::Q6_K;
    case 8:
      return GgmlType::Q8_0;
    default:
      return GgmlType::Q4_K;
  }
}

class Export {
 public:
  Export(const Checkpoint& model, const ModelConfig& config, const ExportOptions& options)
      : model_(model), config_(config), options_(options), names_(config), heads_(config) {}

  /// The size of run()'s file for this full-precision model, quantized according to the table's cells.
  std::shared_ptr<const FileSizes> file_sizes(const ErrorTable& table, const WriteOptions& writing) {
    metadata();
    plan_rope();
    std::map<std::string, std::size_t, std::less<>> row_of;
    for (std::size_t i = 0; i < table.rows.size(); ++i) row_of[table.rows[i].name] = i;
    std::vector<GgufTensorSpec> specs;
    for (const Piece& piece : pieces_) specs.push_back(piece.spec);
    // As for tensors without bytes; those of the forms are added.
    std::uint64_t constant = 0;
    std::vector<std::vector<std::uint64_t>> bytes(table.rows.size());
    for (const Matrix& one : matrices(config_)) {
      const std::string tensor = one.name + ".weight";
      GgufTensorSpec spec{name_of_tensor(tensor), DType::F32, {one.out, one.in}};
      const PublishedModule* fused = names_.fused_with(one.name);
      // What several share is counted with the first of them: they have one type.
      const bool counted = fused == nullptr || fused_.try_emplace(fused->name, 0).second;
      if (fused != nullptr) {
        spec.shape[0] = 0;
        for (const PublishedModule::Part& part : fused->parts) spec.shape[0] += part.rows.rows();
        if (fused->stacked) spec.shape = {fused->stacks, spec.shape[0] / fused->stacks, one.in};
      }
      const auto row = row_of.find(one.name);
      if (row == row_of.end()) {
        spec.type = carried_spec(model_, tensor, writing.kept).type;
      } else {
        for (const ErrorCell& cell : table.rows[row->second].cells) {
          spec.type = ggml_type(cell.scheme).value();
          bytes[row->second].push_back(counted ? gguf_tensor_bytes(spec) : 0);
        }
        if (counted) constant -= gguf_tensor_bytes(spec);  // counted below, and here with every form
      }
      if (!counted) continue;
      specs.push_back(std::move(spec));
    }
    fused_.clear();
    pieces_.clear();
    for (const ExpectedTensor& tensor : dense_tensors(config_)) vector(tensor.name);
    complete_fused();
    for (const Piece& piece : pieces_) specs.push_back(piece.spec);
    metadata_.add("general.file_type", file_type(GgmlType::Q4_K));
    metadata_.add("general.quantization_version", std::uint32_t{2});
    constant += gguf_file_bytes(metadata_, specs);
    return std::make_shared<SummedSizes>(constant, std::move(bytes));
  }

  ExportReport run(const fs::path& out, Progress& progress) {
    refuse_existing(out, options_.replace);
    check_shapes(model_, config_);
    metadata();
    ProgressScope scope(progress, "writing GGUF", 2 * matrices(config_).size(), "matrices");
    plan(scope);
    std::vector<GgufTensorSpec> specs;
    for (const Piece& piece : pieces_) specs.push_back(piece.spec);
    report_.bytes = gguf_file_bytes(metadata_, specs);
    GgufWriter writer(out, metadata_, specs);
    for (const Piece& piece : pieces_) {
      check_cancelled();
      write(piece, writer);
      if (piece.spec.shape.size() >= 2) scope.advance(std::max<std::size_t>(1, piece.parts.size()));
    }
    writer.commit();
    return std::move(report_);
  }

  /// Of all matrices, in their order.
  std::vector<TensorType> types() {
    check_shapes(model_, config_);
    std::vector<TensorType> result;
    for (const Matrix& one : matrices(config_)) {
      check_cancelled();
      const Piece& piece = linear(one);
      if (names_.fused_with(one.name) != nullptr) {
        const auto whole = std::ranges::find(result, piece.spec.name, &TensorType::tensor);
        if (whole != result.end()) {
          whole->weights += one.parameters();
          continue;
        }
      }
      result.push_back({piece.spec.name, piece.spec.type, one.parameters()});
    }
    return result;
  }

 private:
  void metadata() {
    const GgufMetadata source = metadata_of(model_.folder());
    const std::string arch = gguf_architecture(config_);
    metadata_.add("general.architecture", arch);
    metadata_.add("general.type", "model");
    metadata_.add(std::string(kGgufWriterKey), "quantized model");
    metadata_.add("general.name", name_of_model(source));
    add_model(config_, metadata_, report_.notes);
    if (!add_source_vocabulary(source, model_.folder(), config_.vocab, metadata_))
      add_vocabulary(model_.folder(), config_.vocab, metadata_, report_.notes);
    add_source_description(source, arch, metadata_);
  }

  GgufValue name_of_model(const GgufMetadata& source) const {
    if (const GgufValue* name = source.find("general.name")) return *name;
    if (!options_.name.empty()) return options_.name;
    const fs::path place = fs::weakly_canonical(model_.folder());
    return (fs::is_directory(place) ? place.filename() : place.stem()).string();
  }

  void plan_rope() {
    for (RopeFactors& factors : rope_factors(config_)) {
      const auto count = static_cast<std::int64_t>(factors.values.size());
      pieces_.push_back({.spec = {factors.tensor, DType::F32, {count}}, .source = "", .how = How::given});
      pieces_.back().given = std::move(factors.values);
    }
  }

  /// Decides the type of every tensor; reads the quantized matrices once to find out whether a type holds
  /// them.
  void plan(ProgressScope& scope) {
    std::map<std::uint32_t, std::int64_t> weights_of;  // by file_type
    plan_rope();
    for (const Matrix& one : matrices(config_)) {
      check_cancelled();
      const GgufType type = linear(one).spec.type;
      // A file is named after the type of its linears.
      if (one.in_block()) weights_of[file_type(type)] += one.parameters();
      quantized_ = quantized_ || std::holds_alternative<GgmlType>(type);
      scope.advance();
    }
    for (const ExpectedTensor& tensor : dense_tensors(config_)) vector(tensor.name);
    complete_fused();
    const auto most =
        std::ranges::max_element(weights_of, {}, [](const auto& entry) { return entry.second; });
    metadata_.add("general.file_type", most->first);
    if (quantized_) metadata_.add("general.quantization_version", std::uint32_t{2});
  }

  std::string name_of_tensor(const std::string& tensor) const {
    auto name = names_.tensor(tensor);
    if (!name) throw InputError("GGUF: llama.cpp has no name for the tensor " + tensor);
    return *std::move(name);
  }

  std::int64_t rotated_heads(const std::string& tensor) const {
    if (!family_of(config_).gguf.rotated_rows) return 0;
    const std::optional<Role> role = role_of(std::string_view(tensor).substr(0, tensor.rfind('.')));
    if (role == Role::q) return config_.heads;
    if (role == Role::k) return config_.kv_heads;
    return 0;
  }

  /// The piece for a module or tensor of the checkpoint: its own, or one that it shares with others.
  Piece& add(Piece piece) {
    const std::string module =
        piece.source.substr(0, piece.is_module() ? piece.source.npos : piece.source.rfind('.'));
    const PublishedModule* fused = names_.fused_with(module);
    if (fused == nullptr) {
      pieces_.push_back(std::move(piece));
      return pieces_.back();
    }
    const auto part = std::ranges::find(fused->parts, module, &PublishedModule::Part::name);
    const auto [place, is_new] = fused_.try_emplace(piece.spec.name, pieces_.size());
    Piece::Part one{piece.source, part->rows};
    if (is_new) {
      piece.parts.push_back(std::move(one));
      pieces_.push_back(std::move(piece));
      return pieces_.back();
    }
    Piece& whole = pieces_[place->second];
    if (whole.spec.type != piece.spec.type || whole.how != piece.how)
      throw UsageError(fmt::format(
          "{} is {} and {} is {}, but llama.cpp has both in one tensor, {}: quantize them alike "
          "(quantize and search with --for llama.cpp do)",
          whole.source, name_of(whole.spec.type), piece.source, name_of(piece.spec.type), whole.spec.name));
    whole.spec.shape[0] += piece.spec.shape[0];
    whole.parts.push_back(std::move(one));
    return whole;
  }

  /// Gives stacks their shape, and their parts the order of their rows.
  void complete_fused() {
    for (const auto& [name, index] : fused_) {
      Piece& piece = pieces_[index];
      std::ranges::sort(piece.parts, {}, [](const Piece::Part& part) { return part.rows.first; });
      const PublishedModule& fused = *names_.fused_as(std::string_view(name).substr(0, name.rfind('.')));
      if (!fused.stacked) continue;
      const std::int64_t stacks = fused.stacks;
      piece.spec.shape[0] /= stacks;
      piece.spec.shape.insert(piece.spec.shape.begin(), stacks);
    }
  }

  Piece& dense(const std::string& tensor, std::string name) {
    const TensorView view = model_.tensor(tensor);
    return add({.spec = {std::move(name), view.type, view.shape},
                .source = tensor,
                .how = How::copied,
                .rotated_heads = rotated_heads(tensor)});
  }

  /// A vector, as F32; what else is dense always (routers), too: ggml wants it so.
  Piece& vector(const std::string& tensor) {
    std::vector<std::int64_t> shape = model_.spec(tensor).shape;
    // Kernels of short convolutions have a dimension of one.
    if (shape.size() == 3) shape.erase(shape.begin() + 1);
    return add({.spec = {name_of_tensor(tensor), DType::F32, std::move(shape)},
                .source = tensor,
                .how = How::floats,
                .rotated_heads = rotated_heads(tensor)});
  }

  Piece& linear(const Matrix& one) {
    const std::string tensor = one.name + ".weight";
    const std::string name = name_of_tensor(tensor);
    const auto packing = model_.packing(one.name);
    if (!packing) return dense(tensor, name);
    const std::vector<std::int64_t> shape = {one.out, one.in};
    const auto add_as = [&](GgufType type, How how) -> Piece& {
      return add({.spec = {name, type, shape},
                  .source = one.name,
                  .how = how,
                  .rotated_heads = rotated_heads(tensor)});
    };
    if (const auto* blocks = std::get_if<GgmlShape>(&packing->shape)) return add_as(blocks->type, How::exact);
    std::string reason = "GGUF has no such type";
    int bits = 4;
    if (const auto* affine = std::get_if<AffineShape>(&packing->shape)) {
      const auto packed = std::get<PackedMatrix>(model_.stored(one.name));
      const auto blocks = exact_blocks(packed);
      release(one.name, packing->shape);
      if (blocks) return add_as(blocks->type, How::exact);
      reason = why_not_exact(packed);
      bits = affine->bits;
    }
    if (!options_.requantize)
      throw UsageError(fmt::format(
          "{}: {} cannot be carried to GGUF exactly: {}; quantize the model with a menu of GGUF's types "
          "(--menu gguf), or allow a second quantization (--requantize)",
          one.name, packing->scheme, reason));
    const auto type = fitting_type(type_for(bits), one.whole_columns());
    report_.changes.push_back(fmt::format("{}: {} quantized once more, to {}: {}", one.name, packing->scheme,
                                          type ? info(*type).name : "F16", reason));
    if (type) return add_as(*type, How::quantized);
    return add_as(DType::F16, How::halves);
  }

  /// Empty where rows are not whole blocks of any type.
  static std::optional<GgmlType> fitting_type(GgmlType type, std::int64_t in) {
    if (in % 32 != 0) return std::nullopt;
    Scheme scheme = parse_scheme(info(type).name);
    return ggml_type(fitting(scheme, in));
  }

  void release(const std::string& module, const StoredShape& shape) const {
    for (const TensorSpec& spec : tensors_of(module, shape)) model_.release(spec.name);
  }

  void write(const Piece& piece, GgufWriter& writer) const {
    if (piece.parts.empty()) return write_part(piece, writer);
    // Runs of rows follow each other in the file; others are put together in memory.
    const bool runs =
        std::ranges::all_of(piece.parts, [](const Piece::Part& part) { return part.rows.is_run(); });
    std::vector<std::byte> whole(runs ? 0 : piece.spec.bytes());
    std::int64_t rows = 0;
    for (const Piece::Part& part : piece.parts) rows += part.rows.rows();
    for (const Piece::Part& part : piece.parts) {
      check_cancelled();
      Piece one = piece;
      one.parts.clear();
      one.source = part.source;
      if (runs) {
        write_part(one, writer);
        continue;
      }
      const std::vector<std::byte> bytes = bytes_of(one);
      const std::size_t row = whole.size() / static_cast<std::size_t>(rows);
      const std::byte* from = bytes.data();
      for (std::int64_t repeat = 0; repeat < part.rows.repeats; ++repeat) {
        const std::size_t run = static_cast<std::size_t>(part.rows.count) * row;
        std::memcpy(
            whole.data() + static_cast<std::size_t>(part.rows.first + repeat * part.rows.stride) * row, from,
            run);
        from += run;
      }
    }
    if (!runs) writer.write(whole);
  }

  void write_part(const Piece& piece, GgufWriter& writer) const {
    switch (piece.how) {
      case How::copied:
        check_finite(piece.source);
        write_rows(model_.tensor(piece.source).bytes, piece, writer);
        return model_.release(piece.source);
      case How::given:
        return writer.write(std::as_bytes(std::span(piece.given)));
      default:
        return write_rows(bytes_of(piece), piece, writer);
    }
  }

  /// In pieces: the embedding of a large model has gigabytes.
  void check_finite(const std::string& name) const {
    const TensorView view = model_.tensor(name);
    std::vector<float> values;
    for (std::int64_t first = 0; first < view.elements(); first += std::ssize(values)) {
      values.resize(std::min<std::size_t>(kPieceBytes / sizeof(float), view.elements() - first));
      read_floats(view, first, values);
      knapsaq::check_finite({1, std::ssize(values), values}, name);
    }
  }

  /// The rows of a piece without parts, in the checkpoint's order and the file's type.
  std::vector<std::byte> bytes_of(const Piece& piece) const {
    const auto copy = [](std::span<const std::byte> bytes) {
      return std::vector<std::byte>(bytes.begin(), bytes.end());
    };
    if (piece.how == How::copied) {
      check_finite(piece.source);
      std::vector<std::byte> bytes = copy(model_.tensor(piece.source).bytes);
      model_.release(piece.source);
      return bytes;
    }
    if (piece.how == How::floats) {
      std::vector<float> values = model_.floats(piece.source);
      change(piece, values);
      return copy(std::as_bytes(std::span(values)));
    }
    StoredMatrix stored = model_.stored(piece.source);
    release(piece.source, shape_of(stored));
    if (piece.how == How::exact) {
      if (auto* blocks = std::get_if<GgmlMatrix>(&stored)) return std::move(blocks->blocks);
      return exact_blocks(std::get<PackedMatrix>(stored))->blocks;
    }
    const std::int64_t rows = rows_of(stored);
    const std::int64_t cols = cols_of(stored);
    std::vector<float> weights(static_cast<std::size_t>(rows * cols));
    for (std::int64_t row = 0; row < rows; ++row)
      dequantize_row(stored, row, std::span(weights).subspan(row * cols, cols));
    if (piece.how == How::halves) {
      std::vector<std::uint16_t> halves(weights.size());
      std::ranges::transform(weights, halves.begin(), float_to_half);
      return copy(std::as_bytes(std::span(halves)));
    }
    const Scheme scheme = parse_scheme(info(std::get<GgmlType>(piece.spec.type)).name);
    StoredMatrix again = quantize(piece.source, {rows, cols, weights}, scheme);
    return std::move(std::get<GgmlMatrix>(again).blocks);
  }

  /// llama.cpp's converter stores the norms' weights as they are multiplied by, and a delta rule's rates.
  void change(const Piece& piece, std::vector<float>& values) const {
    if (piece.source.ends_with(kDeltaRates))
      for (float& value : values) value = -std::exp(value);
    if (config_.norm_offset == 0 || !is_norm_weight(config_, piece.source)) return;
    for (float& value : values) value += config_.norm_offset;
  }

  /// Columns in llama.cpp's order, of rows in the file's type.
  std::vector<std::byte> with_columns(std::span<const std::byte> bytes, const Piece& piece,
                                      std::span<const std::int64_t> order) const {
    std::int64_t block = 1;
    std::size_t block_bytes = 0;
    if (const auto* type = std::get_if<GgmlType>(&piece.spec.type)) {
      block = info(*type).block;
      block_bytes = static_cast<std::size_t>(info(*type).bytes);
    } else {
      block_bytes = size_of(std::get<DType>(piece.spec.type));
    }
    std::vector<std::byte> out;
    out.reserve(bytes.size());
    const std::size_t row_bytes = bytes.size() / static_cast<std::size_t>(piece.spec.shape.front());
    for (std::size_t row = 0; row < bytes.size(); row += row_bytes) {
      for (std::size_t c = 0; c < order.size(); c += static_cast<std::size_t>(block)) {
        // A run of columns is whole blocks.
        if (order[c] % block != 0 || order[c + static_cast<std::size_t>(block) - 1] != order[c] + block - 1)
          throw UsageError(fmt::format(
              "{}: llama.cpp has its columns in another order, value head by value head, and blocks of {} do "
              "not "
              "fit into a head: quantize it for llama.cpp (--for llama.cpp), which chooses a type that does",
              piece.source, name_of(piece.spec.type)));
        const auto* from = bytes.data() + row + static_cast<std::size_t>(order[c] / block) * block_bytes;
        out.insert(out.end(), from, from + block_bytes);
      }
    }
    return out;
  }

  void write_rows(std::span<const std::byte> bytes, const Piece& piece, GgufWriter& writer) const {
    if (const auto order = heads_.columns(piece.source); !order.empty())
      return writer.write(with_columns(bytes, piece, order));
    if (const auto order = heads_.rows(piece.source); !order.empty()) {
      const std::size_t row_bytes = bytes.size() / order.size();
      std::vector<std::byte> ordered;
      ordered.reserve(bytes.size());
      for (const std::int64_t row : order) {
        const auto one = bytes.subspan(static_cast<std::size_t>(row) * row_bytes, row_bytes);
        ordered.insert(ordered.end(), one.begin(), one.end());
      }
      return writer.write(ordered);
    }
    if (piece.rotated_heads == 0) return writer.write(bytes);
    const std::int64_t rows = piece.spec.shape.front();
    const std::size_t row_bytes = bytes.size() / static_cast<std::size_t>(rows);
    std::vector<std::byte> ordered;
    for (const std::int64_t row : rotated_rows(piece.rotated_heads, rows / piece.rotated_heads)) {
      const auto one = bytes.subspan(static_cast<std::size_t>(row) * row_bytes, row_bytes);
      ordered.insert(ordered.end(), one.begin(), one.end());
      if (ordered.size() < kPieceBytes) continue;
      writer.write(ordered);
      ordered.clear();
    }
    writer.write(ordered);
  }

  const Checkpoint& model_;
  const ModelConfig& config_;
  const ExportOptions& options_;
  GgufNames names_;
  GgufHeads heads_;
  GgufMetadata metadata_;
  std::vector<Piece> pieces_;
  std::map<std::string, std::size_t, std::less<>> fused_;  ///< pieces with parts, by name
  bool quantized_ = false;
  ExportReport report_;
};

class GgufExport final : public Writer {
 public:
  std::string_view name() const override { return "gguf"; }
  bool makes_file() const override { return true; }
  ExportReport write(const Checkpoint& model, const ModelConfig& config, const fs::path& out,
                     const ExportOptions& options, Progress& progress) const override {
    return Export(model, config, options).run(out, progress);
  }
  std::shared_ptr<const FileSizes> file_sizes(const Checkpoint& model, const ModelConfig& config,
                                              const ErrorTable& table, const WriteOptions& options,
                                              std::string_view name) const override {
    ExportOptions how;
    how.name = name;
    return Export(model, config, how).file_sizes(table, options);
  }
};

}  // namespace

std::vector<TensorType> gguf_types(const Checkpoint& model, const ModelConfig& config, bool requantize) {
  ExportOptions options;
  options.requantize = requantize;
  return Export(model, config, options).types();
}

const Writer& gguf_writer() {
  static const GgufExport writer;
  return writer;
}

}  // namespace knapsaq
