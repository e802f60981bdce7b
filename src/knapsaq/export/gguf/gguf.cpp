// GGUF for llama.cpp and programs built on it: every linear in its own type.

#include <algorithm>
#include <cstring>
#include <map>
#include <optional>

#include <fmt/core.h>

#include "knapsaq/bank/error_table.h"
#include "knapsaq/base/cancellation.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/float16.h"
#include "knapsaq/checkpoint/file_sizes.h"
#include "knapsaq/checkpoint/gguf_file.h"
#include "knapsaq/checkpoint/gguf_names.h"
#include "knapsaq/checkpoint/stored_layout.h"
#include "knapsaq/compute/ggml_matrix.h"
#include "knapsaq/export/carried.h"
#include "knapsaq/export/formats.h"
#include "knapsaq/export/gguf/blocks.h"
#include "knapsaq/export/gguf/model_metadata.h"
#include "knapsaq/export/gguf/recipe.h"
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
  given,      ///< not from the checkpoint: rope_freqs
};

struct Piece {
  GgufTensorSpec spec;
  std::string source;  ///< tensor, or module of a quantized linear
  How how = How::copied;
  std::int64_t rotated_heads = 0;  ///< rows in llama.cpp's order for this many heads; 0: unchanged
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
      : model_(model), config_(config), options_(options), arch_(gguf_architecture(config)) {}

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
      const auto row = row_of.find(one.name);
      if (row == row_of.end()) {
        spec.type = carried_spec(model_, tensor, writing.kept).type;
      } else {
        for (const ErrorCell& cell : table.rows[row->second].cells) {
          spec.type = ggml_type(cell.scheme).value();
          bytes[row->second].push_back(gguf_tensor_bytes(spec));
        }
        constant -= gguf_tensor_bytes(spec);  // counted below, and here with every form
      }
      specs.push_back(std::move(spec));
    }
    for (const ExpectedTensor& tensor : dense_tensors(config_)) {
      vector(tensor.name);
      specs.push_back(pieces_.back().spec);
    }
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
      if (piece.spec.shape.size() == 2) scope.advance();
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
      linear(one);
      result.push_back({pieces_.back().spec.name, pieces_.back().spec.type, one.parameters()});
    }
    return result;
  }

 private:
  void metadata() {
    metadata_.add("general.architecture", arch_);
    metadata_.add("general.type", "model");
    metadata_.add(std::string(kGgufWriterKey), "quantized model");
    metadata_.add("general.name", options_.name.empty()
                                      ? fs::weakly_canonical(model_.folder()).filename().string()
                                      : options_.name);
    add_model(config_, metadata_, report_.notes);
    add_vocabulary(model_.folder(), config_.vocab, metadata_, report_.notes);
  }

  void plan_rope() {
    if (std::vector<float> factors = rope_frequency_factors(config_); !factors.empty()) {
      rope_ = std::move(factors);
      pieces_.push_back(
          {{"rope_freqs.weight", DType::F32, {static_cast<std::int64_t>(rope_.size())}}, "", How::given});
    }
  }

  /// Decides the type of every tensor; reads the quantized matrices once to find out whether a type holds
  /// them.
  void plan(ProgressScope& scope) {
    std::map<std::uint32_t, std::int64_t> weights_of;  // by file_type
    plan_rope();
    for (const Matrix& one : matrices(config_)) {
      check_cancelled();
      linear(one);
      // A file is named after the type of its linears.
      if (one.in_block()) weights_of[file_type(pieces_.back().spec.type)] += one.parameters();
      quantized_ = quantized_ || std::holds_alternative<GgmlType>(pieces_.back().spec.type);
      scope.advance();
    }
    for (const ExpectedTensor& tensor : dense_tensors(config_)) vector(tensor.name);
    const auto most =
        std::ranges::max_element(weights_of, {}, [](const auto& entry) { return entry.second; });
    metadata_.add("general.file_type", most->first);
    if (quantized_) metadata_.add("general.quantization_version", std::uint32_t{2});
  }

  static std::string name_of_tensor(const std::string& tensor) {
    auto name = gguf_tensor(tensor);
    if (!name) throw InputError("GGUF: llama.cpp has no name for the tensor " + tensor);
    return *std::move(name);
  }

  std::int64_t rotated_heads(const std::string& tensor) const {
    if (arch_ != "llama") return 0;
    const std::optional<Role> role = role_of(std::string_view(tensor).substr(0, tensor.rfind('.')));
    if (role == Role::q) return config_.heads;
    if (role == Role::k) return config_.kv_heads;
    return 0;
  }

  void dense(const std::string& tensor, std::string name) {
    const TensorView view = model_.tensor(tensor);
    pieces_.push_back({{std::move(name), view.type, view.shape}, tensor, How::copied, rotated_heads(tensor)});
  }

  void vector(const std::string& tensor) {
    pieces_.push_back({{name_of_tensor(tensor), DType::F32, model_.tensor(tensor).shape},
                       tensor,
                       How::floats,
                       rotated_heads(tensor)});
  }

  void linear(const Matrix& one) {
    const std::string tensor = one.name + ".weight";
    const std::string name = name_of_tensor(tensor);
    const auto packing = model_.packing(one.name);
    if (!packing) return dense(tensor, name);
    const std::vector<std::int64_t> shape = {one.out, one.in};
    const auto add = [&](GgufType type, How how) {
      pieces_.push_back({{name, type, shape}, one.name, how, rotated_heads(tensor)});
    };
    if (const auto* blocks = std::get_if<GgmlShape>(&packing->shape)) return add(blocks->type, How::exact);
    std::string reason = "GGUF has no such type";
    int bits = 4;
    if (const auto* affine = std::get_if<AffineShape>(&packing->shape)) {
      const auto packed = std::get<PackedMatrix>(model_.stored(one.name));
      const auto blocks = exact_blocks(packed);
      release(one.name, packing->shape);
      if (blocks) return add(blocks->type, How::exact);
      reason = why_not_exact(packed);
      bits = affine->bits;
    }
    if (!options_.requantize)
      throw UsageError(fmt::format(
          "{}: {} cannot be carried to GGUF exactly: {}; quantize the model with a menu of GGUF's types "
          "(--menu gguf), or allow a second quantization (--requantize)",
          one.name, packing->scheme, reason));
    const auto type = fitting_type(type_for(bits), one.in);
    report_.changes.push_back(fmt::format("{}: {} quantized once more, to {}: {}", one.name, packing->scheme,
                                          type ? info(*type).name : "F16", reason));
    if (type) return add(*type, How::quantized);
    add(DType::F16, How::halves);
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
    switch (piece.how) {
      case How::copied:
        check_finite(piece.source);
        write_rows(model_.tensor(piece.source).bytes, piece, writer);
        return model_.release(piece.source);
      case How::floats: {
        const std::vector<float> values = model_.floats(piece.source);
        return write_rows(std::as_bytes(std::span(values)), piece, writer);
      }
      case How::given:
        return writer.write(std::as_bytes(std::span(rope_)));
      default:
        write_linear(piece, writer);
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

  void write_linear(const Piece& piece, GgufWriter& writer) const {
    const StoredMatrix stored = model_.stored(piece.source);
    release(piece.source, shape_of(stored));
    if (piece.how == How::exact) {
      if (const auto* blocks = std::get_if<GgmlMatrix>(&stored))
        return write_rows(blocks->blocks, piece, writer);
      return write_rows(exact_blocks(std::get<PackedMatrix>(stored))->blocks, piece, writer);
    }
    const std::int64_t rows = rows_of(stored);
    const std::int64_t cols = cols_of(stored);
    std::vector<float> weights(static_cast<std::size_t>(rows * cols));
    for (std::int64_t row = 0; row < rows; ++row)
      dequantize_row(stored, row, std::span(weights).subspan(row * cols, cols));
    if (piece.how == How::halves) {
      std::vector<std::uint16_t> halves(weights.size());
      std::ranges::transform(weights, halves.begin(), float_to_half);
      return write_rows(std::as_bytes(std::span(halves)), piece, writer);
    }
    const Scheme scheme = parse_scheme(info(std::get<GgmlType>(piece.spec.type)).name);
    const StoredMatrix again = quantize(piece.source, {rows, cols, weights}, scheme);
    write_rows(std::get<GgmlMatrix>(again).blocks, piece, writer);
  }

  static void write_rows(std::span<const std::byte> bytes, const Piece& piece, GgufWriter& writer) {
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
  std::string arch_;
  GgufMetadata metadata_;
  std::vector<Piece> pieces_;
  std::vector<float> rope_;
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
