// compressed-tensors: linears of every format that it writes without sparsity, told apart by their tensors.
// - pack-quantized: <m>.weight_packed I32 [out, words], codes of a row one after the other, the lowest bits
// first,
//   less 2^(bits - 1); <m>.weight_shape; <m>.weight_scale [out, groups] or [out, 1]; asymmetric ones have
//   <m>.weight_zero_point, I32 packed down the rows, or I8; <m>.weight_g_idx, the group of every input, may
//   be there. w = (code - zero) * scale.
// - int-quantized, naive-quantized: the same with <m>.weight I8.
// - float-quantized, mxfp8-quantized: <m>.weight F8_E4M3 with scales.
// - nvfp4-pack-quantized, mxfp4-pack-quantized: <m>.weight_packed U8 [out, in / 2] in E2M1, scales in F8_E4M3
//   with <m>.weight_global_scale that divides them, or in U8 as powers of two.
// Products are rounded to the scales' type (FP4: to BF16), then to the model's, as compressed-tensors'
// compressors and Transformers do it (integrations/compressed_tensors.py).

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/quote.h"
#include "knapsaq/checkpoint/foreign/foreign.h"
#include "knapsaq/checkpoint/foreign/parts.h"
#include "knapsaq/checkpoint/foreign/scaled.h"

namespace knapsaq {
namespace {

using foreign::refuse;
using foreign::text;
using nlohmann::json;

constexpr std::string_view kScale = ".weight_scale";

bool recognises(const json& quantization) {
  const std::string method = text(quantization, "quant_method");
  return method == "compressed-tensors" || (method.empty() && (quantization.contains("config_groups") ||
                                                               quantization.contains("quantization_status")));
}

/// What the groups of the description say about weights. Which linear is of which group follows from its
/// tensors.
struct Groups {
  std::vector<std::int64_t> bits;
  std::vector<std::int64_t> sizes;       ///< inputs that share a scale
  std::vector<std::int64_t> block_rows;  ///< of blocks
  std::vector<std::int64_t> block_cols;
};

Groups read_groups(const json& quantization) {
  Groups out;
  const auto groups = quantization.find("config_groups");
  if (groups == quantization.end() || !groups->is_object()) return out;
  for (const json& group : *groups) {
    if (!group.is_object() || !group.contains("weights") || !group["weights"].is_object()) continue;
    const json& weights = group["weights"];
    if (const auto bits = foreign::integer(weights, "num_bits")) out.bits.push_back(*bits);
    if (const auto size = foreign::integer(weights, "group_size")) out.sizes.push_back(*size);
    const auto block = weights.find("block_structure");
    if (block != weights.end() && block->is_array() && block->size() == 2 &&
        (*block)[0].is_number_integer() && (*block)[1].is_number_integer()) {
      out.block_rows.push_back((*block)[0].get<std::int64_t>());
      out.block_cols.push_back((*block)[1].get<std::int64_t>());
    }
  }
  // MX formats need not say what is part of the format.
  out.sizes.push_back(32);
  return out;
}

void refuse_other_models(const json& quantization) {
  const auto sparsity = quantization.find("sparsity_config");
  if (sparsity != quantization.end() && sparsity->is_object()) {
    const std::string format = text(*sparsity, "format");
    if (!format.empty() && format != "dense")
      throw InputError(
          fmt::format("is stored by compressed-tensors as sparse ({}), which is not read: give the "
                      "dense model",
                      in_quotes(format)));
  }
  const auto transform = quantization.find("transform_config");
  if (transform != quantization.end() && transform->is_object() && transform->contains("config_groups") &&
      !(*transform)["config_groups"].empty())
    throw InputError(
        "has rotations that are applied while it runs (transform_config of compressed-tensors), "
        "which is not supported: give the full-precision model");
}

/// A linear of whole numbers.
struct IntegerLinear {
  std::int64_t rows = 0, cols = 0;
  int bits = 8;
  bool packed = false;
  TensorView codes, scale;
  std::int64_t scales_of_row = 0;  ///< 0: one scale for all
  std::optional<TensorView> zeros;
  bool zeros_packed = false;
  std::int64_t extent = 0;                 ///< columns of a group
  std::optional<TensorView> column_group;  ///< I32, checked; columns in another order

  std::int32_t code(std::int64_t row, std::int64_t column) const {
    if (!packed)
      return std::to_integer<std::int8_t>(codes.bytes[static_cast<std::size_t>(row * cols + column)]);
    const std::int64_t begin = row * codes.shape[1];
    const auto word = [&](std::int64_t index) { return foreign::word_at(codes.bytes, begin + index); };
    return static_cast<std::int32_t>(foreign::code_at(column, bits, word)) - (1 << (bits - 1));
  }

  std::int32_t zero(std::int64_t row, std::int64_t group) const {
    if (!zeros) return 0;
    const std::int64_t groups = std::max<std::int64_t>(scales_of_row, 1);
    if (!zeros_packed) {
      const std::int64_t at = scales_of_row == 0 ? 0 : row * groups + group;
      return std::to_integer<std::int8_t>(zeros->bytes[static_cast<std::size_t>(at)]);
    }
    const auto word = [&](std::int64_t index) {
      return foreign::word_at(zeros->bytes, index * groups + group);
    };
    return static_cast<std::int32_t>(foreign::code_at(row, bits, word)) - (1 << (bits - 1));
  }

  std::int64_t group(std::int64_t column) const {
    return column_group ? static_cast<std::int64_t>(foreign::word_at(column_group->bytes, column))
                        : column / extent;
  }

  void fill(std::int64_t row, std::span<float> to, std::span<const float> scales) const {
    const float* own = scales.data() + row * scales_of_row;
    std::vector<std::int32_t> zero_of(static_cast<std::size_t>(std::max<std::int64_t>(scales_of_row, 1)));
    for (std::size_t g = 0; g < zero_of.size(); ++g) zero_of[g] = zero(row, static_cast<std::int64_t>(g));
    for (std::int64_t c = 0; c < cols; ++c) {
      const auto g = static_cast<std::size_t>(group(c));
      to[static_cast<std::size_t>(c)] = static_cast<float>(code(row, c) - zero_of[g]) * own[g];
    }
    foreign::round_to(scale.type, to);
  }
};

/// Columns of a packed linear: the second number of <m>.weight_shape.
std::int64_t packed_columns(const ForeignFiles& files, const std::string& module) {
  const std::string name = module + ".weight_shape";
  const std::string of = module + ".weight_packed";
  if (!files.tensors.contains(name))
    refuse(of, fmt::format("is there without {}: the checkpoint is incomplete; download it again",
                           in_quotes(name)));
  const TensorView shape = files.tensors.tensor(name);
  const TensorView packed = files.tensors.tensor(of);
  std::array<std::int64_t, 2> sizes{};
  if (shape.elements() == 2 && shape.type == DType::I64) {
    std::memcpy(sizes.data(), shape.bytes.data(), sizeof sizes);
  } else if (shape.elements() == 2 && shape.type == DType::I32) {
    for (std::int64_t i = 0; i < 2; ++i)
      sizes[static_cast<std::size_t>(i)] = static_cast<std::int32_t>(foreign::word_at(shape.bytes, i));
  } else {
    refuse(name, "is not two whole numbers");
  }
  // A word holds 32 codes at most.
  if (sizes[0] != packed.shape[0] || sizes[1] < 1 || (sizes[1] - 1) / 32 >= packed.shape[1])
    refuse(name, fmt::format("says [{}], which does not fit {} of shape [{}]", fmt::join(sizes, ", "),
                             in_quotes(of), fmt::join(packed.shape, ", ")));
  return sizes[1];
}

void read_scales(const ForeignFiles& files, const std::string& module, const Groups& groups,
                 IntegerLinear& linear) {
  const std::string name = module + std::string(kScale);
  linear.scale = files.tensors.tensor(name);
  if (!is_weight_type(linear.scale.type))
    refuse(name, fmt::format("is {}, where F16, BF16 or F32 is expected", name_of(linear.scale.type)));
  const std::vector<std::int64_t>& shape = linear.scale.shape;
  std::int64_t count = 1;
  if (linear.scale.elements() != 1 || (linear.rows == 1 && shape.size() == 2)) {
    count = shape.size() == 1 ? 1 : shape.size() == 2 ? shape[1] : 0;
    if (count < 1 || shape[0] != linear.rows)
      refuse(name, fmt::format("of shape [{}] does not fit the weight's [{}, {}]", fmt::join(shape, ", "),
                               linear.rows, linear.cols));
    linear.scales_of_row = count;
  }
  const auto extent = foreign::block_extent(linear.cols, count, groups.sizes);
  const std::string order = module + ".weight_g_idx";
  if (files.tensors.contains(order)) {
    const TensorView view = foreign::part(files.tensors, order, name, DType::I32, 1);
    if (view.elements() != linear.cols)
      refuse(order, fmt::format("has {} entries for {} columns", view.elements(), linear.cols));
    bool unused = false;  // -1 everywhere: the columns are in their own order
    for (std::int64_t c = 0; c < linear.cols; ++c) {
      const auto group = static_cast<std::int32_t>(foreign::word_at(view.bytes, c));
      unused = unused || group == -1;
      if (!unused && (group < 0 || group >= count))
        refuse(order, fmt::format("says group {} for column {}, but there are {} groups", group, c, count));
    }
    if (!unused) linear.column_group = view;
  }
  if (!extent && !linear.column_group)
    refuse(name, fmt::format("has {} groups for {} columns", count, linear.cols));
  linear.extent = extent.value_or(linear.cols);
}

void read_zeros(const ForeignFiles& files, const std::string& module, IntegerLinear& linear) {
  const std::string name = module + ".weight_zero_point";
  if (!files.tensors.contains(name)) return;
  const TensorView view = files.tensors.tensor(name);
  const std::int64_t groups = std::max<std::int64_t>(linear.scales_of_row, 1);
  linear.zeros_packed = view.type == DType::I32;
  const std::int64_t rows = linear.scales_of_row == 0 ? 1
                            : linear.zeros_packed     ? foreign::words_of(linear.rows, linear.bits)
                                                      : linear.rows;
  if ((view.type != DType::I32 && view.type != DType::I8) ||
      (linear.zeros_packed && linear.scales_of_row == 0) || view.elements() != rows * groups)
    refuse(name, fmt::format("is {} of shape [{}], which does not fit {} groups of {} rows",
                             name_of(view.type), fmt::join(view.shape, ", "), groups, linear.rows));
  linear.zeros = view;
}

DerivedTensor of_integers(const ForeignFiles& files, const std::string& module, const Groups& groups,
                          std::set<int>& bits) {
  const std::string packed = module + ".weight_packed";
  IntegerLinear linear;
  linear.packed = files.tensors.contains(packed);
  linear.codes = linear.packed ? foreign::part(files.tensors, packed, packed, DType::I32, 2)
                               : foreign::part(files.tensors, module + ".weight", module, DType::I8, 2);
  linear.rows = linear.codes.shape[0];
  linear.cols = linear.packed ? packed_columns(files, module) : linear.codes.shape[1];
  if (linear.rows < 1 || linear.cols < 1) refuse(module + ".weight", "is empty");
  if (linear.packed) {
    const auto fits = [&](std::int64_t width) {
      return width >= 1 && width <= 8 && foreign::words_of(linear.cols, width) == linear.codes.shape[1];
    };
    const auto found = std::ranges::find_if(groups.bits, fits);
    if (found == groups.bits.end())
      refuse(packed,
             fmt::format("of shape [{}] does not hold {} columns of {} bits",
                         fmt::join(linear.codes.shape, ", "), linear.cols, fmt::join(groups.bits, " or ")));
    linear.bits = static_cast<int>(*found);
  }
  bits.insert(linear.bits);
  read_scales(files, module, groups, linear);
  read_zeros(files, module, linear);
  DerivedTensor out{{module + ".weight", files.type, {linear.rows, linear.cols}}, {}, {}};
  out.make = [type = files.type, linear = std::move(linear)](std::int64_t first, std::int64_t count) {
    const std::vector<float> scales = read_floats(linear.scale);
    return foreign::make_rows(type, count, linear.cols, 1, [&](std::int64_t row, std::span<float> to) {
      linear.fill(first + row, to, scales);
    });
  };
  return out;
}

/// E2M1, two codes a byte, the low one first.
DerivedTensor of_fp4(const ForeignFiles& files, const std::string& module) {
  const std::string name = module + ".weight_packed";
  const TensorView codes = foreign::part(files.tensors, name, name, DType::U8, 2);
  const TensorView scale = files.tensors.tensor(module + std::string(kScale));
  const bool mx = scale.type == DType::U8 || scale.type == DType::F8_E8M0;
  const std::int64_t group = mx ? 32 : 16;
  const std::int64_t rows = codes.shape[0];
  if (codes.elements() == 0 || (!mx && scale.type != DType::F8_E4M3) || scale.shape.size() != 2 ||
      scale.shape[0] != rows || codes.shape[1] % (group / 2) != 0 ||
      codes.shape[1] / (group / 2) != scale.shape[1])
    refuse(name,
           fmt::format("of shape [{}] does not fit its scales ({} of shape [{}])",
                       fmt::join(codes.shape, ", "), name_of(scale.type), fmt::join(scale.shape, ", ")));
  const std::string divisor = module + ".weight_global_scale";
  float global = 1;
  if (!mx) {
    if (!files.tensors.contains(divisor) || files.tensors.spec(divisor).type != DType::F32 ||
        files.tensors.tensor(divisor).elements() != 1)
      refuse(name,
             fmt::format("is there without {}, one number in F32: the checkpoint is incomplete; download it "
                         "again",
                         in_quotes(divisor)));
    global = read_floats(files.tensors.tensor(divisor))[0];
  }
  const std::int64_t groups = scale.shape[1];
  const DType type = files.type;
  DerivedTensor out{{module + ".weight", type, {rows, groups * group}}, {}, {}};
  out.make = [=](std::int64_t first, std::int64_t count) {
    return foreign::make_rows(type, count, groups * group, 1, [&](std::int64_t row, std::span<float> to) {
      for (std::int64_t g = 0; g < groups; ++g) {
        const auto at = static_cast<std::size_t>((first + row) * groups + g);
        const int byte = std::to_integer<int>(scale.bytes[at]);
        const float factor = mx ? std::ldexp(1.0f, byte - 127)
                                : foreign::e4m3_values()[static_cast<std::size_t>(byte)] / global;
        const std::byte* from = codes.bytes.data() + static_cast<std::int64_t>(at) * (group / 2);
        float* own = to.data() + g * group;
        for (std::int64_t i = 0; i < group / 2; ++i) {
          const auto both = std::to_integer<std::size_t>(from[i]);
          own[2 * i] = foreign::kE2m1[both & 15] * factor;
          own[2 * i + 1] = foreign::kE2m1[both >> 4] * factor;
        }
      }
      foreign::round_to(DType::BF16, to);
    });
  };
  return out;
}

std::string described(const std::set<int>& bits, const std::set<std::string>& others) {
  std::vector<std::string> kinds(others.begin(), others.end());
  if (!bits.empty())
    kinds.insert(kinds.begin(), "integers of " + foreign::bits_text(*bits.begin(), *bits.rbegin()));
  return fmt::format("compressed-tensors, {}", fmt::join(kinds, " and "));
}

ForeignModel read(const ForeignFiles& files) {
  refuse_other_models(files.quantization);
  const Groups groups = read_groups(files.quantization);
  const TensorTable& tensors = files.tensors;
  ForeignModel model;
  std::set<int> bits;
  std::set<std::string> others;
  const std::vector<std::string> names = tensors.names();
  for (const std::string& name : names) {
    constexpr std::string_view kPacked = ".weight_packed";
    constexpr std::string_view kWeight = ".weight";
    const bool packed = name.ends_with(kPacked);
    const DType type = tensors.spec(name).type;
    const bool coded = name.ends_with(kWeight) && (type == DType::I8 || type == DType::F8_E4M3);
    if (!packed && !coded) continue;
    const std::string module = name.substr(0, name.size() - (packed ? kPacked : kWeight).size());
    const std::string scale = module + std::string(kScale);
    if (!tensors.contains(scale))
      refuse(name,
             fmt::format("is {}, but its scales {} are missing: the checkpoint is incomplete; download it "
                         "again",
                         name_of(type), in_quotes(scale)));
    if (packed && tensors.contains(module + ".weight"))
      refuse(name, fmt::format("and {} are both there", in_quotes(module + ".weight")));
    DerivedTensor tensor;
    if (type == DType::F8_E4M3) {
      const DType of_scale = tensors.spec(scale).type;
      const DType via = is_weight_type(of_scale) ? of_scale : DType::BF16;
      std::vector<std::int64_t> cols = groups.block_cols;
      cols.insert(cols.end(), groups.sizes.begin(), groups.sizes.end());
      std::string kind;
      tensor = foreign::dequantized(files, {name, scale, groups.block_rows, cols, via}, kind);
      others.insert("FP8 with scales of " + kind);
    } else if (type == DType::U8) {
      tensor = of_fp4(files, module);
      others.insert(tensors.spec(scale).type == DType::F8_E4M3 ? "NVFP4" : "MXFP4");
    } else {
      tensor = of_integers(files, module, groups, bits);
    }
    tensor.sources.clear();
    for (const char* part : {".weight", ".weight_packed", ".weight_scale", ".weight_shape",
                             ".weight_zero_point", ".weight_g_idx", ".weight_global_scale"})
      if (tensors.contains(module + part)) tensor.sources.push_back(module + part);
    model.tensors.push_back(std::move(tensor));
  }
  std::set<std::string> used;
  for (const DerivedTensor& tensor : model.tensors) used.insert(tensor.sources.begin(), tensor.sources.end());
  for (const std::string& name : names) {
    if (name.ends_with(kScale) && !used.contains(name))
      refuse(name,
             "has no weight that it could scale: the checkpoint is incomplete, or was saved before it was "
             "compressed");
    for (const char* ending :
         {".input_scale", ".input_zero_point", ".input_global_scale", ".output_scale", ".output_zero_point",
          ".k_scale", ".v_scale", ".q_scale", ".k_zero_point", ".v_zero_point"})
      if (name.ends_with(ending)) model.unused.push_back(name);
  }
  if (model.tensors.empty())
    throw InputError(
        "is described as quantized by compressed-tensors, but has no tensor of it: config.json belongs "
        "to another model");
  model.format = described(bits, others);
  return model;
}

}  // namespace

const ForeignFormat& compressed_tensors_format() {
  static const ForeignFormat format{"compressed-tensors", recognises, read};
  return format;
}

}  // namespace knapsaq
