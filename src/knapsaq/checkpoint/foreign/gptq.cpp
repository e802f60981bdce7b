// GPTQ: <m>.qweight I32 [words, out], codes of a column one after the other, the lowest bits first;
// <m>.qzeros I32 [groups, words]; <m>.scales [groups, out]; <m>.g_idx I32 [in], the group of every input, may
// be missing. w = scale * (code - zero), rounded to the scales' type, as GPTQModel's torch kernel computes it
// (nn_modules/qlinear). Version 1 stores zeros less 1; GPTQModel adds 1 to every field of a whole word,
// carries included, which takes back the borrows of its writer; with 3 bits it adds within the field.
// AutoRound's files have the same tensors.

#include <algorithm>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/quote.h"
#include "knapsaq/checkpoint/foreign/foreign.h"
#include "knapsaq/checkpoint/foreign/parts.h"

namespace knapsaq {
namespace {

using foreign::refuse;
using foreign::text;
using nlohmann::json;

constexpr std::string_view kCodes = ".qweight";
constexpr std::int64_t kBlockRows = 16;  ///< a cache line of words of every row of codes

bool is_auto_round(const json& quantization) {
  return text(quantization, "quant_method").find("auto-round") != std::string::npos;
}

bool recognises(const json& quantization) {
  const std::string method = text(quantization, "quant_method");
  if (is_auto_round(quantization)) {
    const std::string packing = text(quantization, "packing_format");
    return packing.find("awq") == std::string::npos;
  }
  return method == "gptq" ||
         (method.empty() && (quantization.contains("desc_act") || quantization.contains("damp_percent")));
}

/// Whether zeros are stored less 1. Throws InputError for formats with other tensors.
bool is_version_1(const json& quantization) {
  std::string format =
      text(quantization, is_auto_round(quantization) ? "packing_format" : "checkpoint_format");
  if (format.empty() && !is_auto_round(quantization)) format = text(quantization, "format");
  if (quantization.contains("is_marlin_format") && quantization["is_marlin_format"] == true)
    format = "marlin";
  if (format.empty() || format == "gptq" || format.ends_with("auto_gptq")) return true;
  if (format == "gptq_v2" || format == "auto_round" || format.ends_with(":gptq_v2")) return false;
  throw InputError(
      fmt::format("is quantized by GPTQ in the format {}, which is made for one kernel; the formats "
                  "gptq and gptq_v2 are read: give the model in one of them",
                  in_quotes(format)));
}

/// Every width that the description mentions.
std::set<std::int64_t> described_bits(const json& quantization) {
  std::set<std::int64_t> all;
  const auto add = [&](const json& object) {
    if (object.is_object())
      if (const auto bits = foreign::integer(object, "bits")) all.insert(*bits);
  };
  add(quantization);
  for (const char* overrides : {"dynamic", "extra_config"})
    if (quantization.contains(overrides) && quantization[overrides].is_object())
      for (const json& one : quantization[overrides]) add(one);
  return all;
}

struct Linear {
  std::int64_t in = 0, out = 0, groups = 0;
  int bits = 0;
  TensorView codes, zeros, scales;
  std::vector<std::int32_t> group_of;  ///< of every input
  bool version_1 = true;

  float zero(std::int64_t group, std::int64_t row) const {
    const std::int64_t words = zeros.shape[1];
    const auto word = [&](std::int64_t index) {
      std::uint32_t value = foreign::word_at(zeros.bytes, group * words + index);
      if (version_1 && bits != 3) {
        for (int shift = 0; shift < 32; shift += bits) value += 1u << shift;
      }
      return value;
    };
    std::uint32_t code = foreign::code_at(row, bits, word);
    if (version_1 && bits == 3) code = (code + 1) & 7u;
    return static_cast<float>(code);
  }

  /// Rows [first, first + n) into out [n, in].
  void fill(std::int64_t first, std::span<float> to, std::span<const float> all_scales) const {
    const std::int64_t rows = static_cast<std::int64_t>(to.size()) / in;
    std::vector<float> scale(static_cast<std::size_t>(groups * rows));
    std::vector<float> zero_of(scale.size());
    for (std::int64_t g = 0; g < groups; ++g) {
      for (std::int64_t r = 0; r < rows; ++r) {
        scale[static_cast<std::size_t>(g * rows + r)] =
            all_scales[static_cast<std::size_t>(g * out + first + r)];
        zero_of[static_cast<std::size_t>(g * rows + r)] = zero(g, first + r);
      }
    }
    for (std::int64_t column = 0; column < in; ++column) {
      const std::size_t group = static_cast<std::size_t>(group_of[static_cast<std::size_t>(column)]) *
                                static_cast<std::size_t>(rows);
      for (std::int64_t r = 0; r < rows; ++r) {
        const std::uint32_t code = foreign::code_at(column, bits, [&](std::int64_t word) {
          return foreign::word_at(codes.bytes, word * out + first + r);
        });
        const std::size_t at = group + static_cast<std::size_t>(r);
        to[static_cast<std::size_t>(r * in + column)] = scale[at] * (static_cast<float>(code) - zero_of[at]);
      }
    }
  }
};

/// The only width with which codes and zeros have the right numbers of words.
int bits_of(const Linear& linear, const std::string& name, const std::set<std::int64_t>& described) {
  for (const int bits : {4, 8, 2, 3}) {
    if (!described.empty() && !described.contains(bits)) continue;
    const std::int64_t unit = bits == 3 ? 32 : 32 / bits;  // codes that whole words hold
    if (linear.zeros.shape[1] == foreign::words_of(linear.out, bits) && linear.in > 0 &&
        linear.codes.shape[0] == (linear.in + unit - 1) / unit * unit * bits / 32)
      return bits;
  }
  refuse(name,
         fmt::format("of shape [{}] with zeros of shape [{}] does not fit {} inputs in any width of 2, 3, 4 "
                     "or 8 bits that the description has",
                     fmt::join(linear.codes.shape, ", "), fmt::join(linear.zeros.shape, ", "), linear.in));
}

Linear read_linear(const ForeignFiles& files, const std::string& module,
                   const std::set<std::int64_t>& described) {
  const std::string name = module + std::string(kCodes);
  const TensorTable& tensors = files.tensors;
  Linear linear;
  linear.codes = foreign::part(tensors, name, name, DType::I32, 2);
  linear.zeros = foreign::part(tensors, module + ".qzeros", name, DType::I32, 2);
  if (!tensors.contains(module + ".scales") || !is_weight_type(tensors.spec(module + ".scales").type))
    refuse(name,
           "is there without scales in F16, BF16 or F32: the checkpoint is incomplete; download it again");
  linear.scales = tensors.tensor(module + ".scales");
  linear.out = linear.codes.shape[1];
  if (linear.codes.elements() == 0 || linear.scales.shape.size() != 2 ||
      linear.scales.shape[1] != linear.out || linear.scales.shape[0] < 1 ||
      linear.zeros.shape[0] != linear.scales.shape[0])
    refuse(name, fmt::format("of shape [{}] does not fit its scales [{}] and zeros [{}]",
                             fmt::join(linear.codes.shape, ", "), fmt::join(linear.scales.shape, ", "),
                             fmt::join(linear.zeros.shape, ", ")));
  linear.groups = linear.scales.shape[0];

  const bool sorted = tensors.contains(module + ".g_idx");
  if (sorted) {
    const TensorView groups = foreign::part(tensors, module + ".g_idx", name, DType::I32, 1);
    linear.in = groups.elements();
    linear.bits = bits_of(linear, name, described);
    for (std::int64_t i = 0; i < linear.in; ++i) {
      const auto group = static_cast<std::int32_t>(foreign::word_at(groups.bytes, i));
      if (group < 0 || group >= linear.groups)
        refuse(module + ".g_idx",
               fmt::format("says group {} for input {}, but there are {} groups", group, i, linear.groups));
      linear.group_of.push_back(group);
    }
    return linear;
  }
  // Without it inputs are as many as the words hold.
  for (const int bits : {4, 8, 2, 3}) {
    if (linear.zeros.shape[1] != foreign::words_of(linear.out, bits)) continue;
    if (!described.empty() && !described.contains(bits)) continue;
    linear.in = linear.codes.shape[0] * 32 / bits;
    break;
  }
  linear.bits = bits_of(linear, name, described);
  const std::int64_t size = foreign::integer(files.quantization, "group_size").value_or(-1);
  const auto extent = foreign::block_extent(linear.in, linear.groups, std::span(&size, 1));
  const bool overridden =
      files.quantization.contains("dynamic") || files.quantization.contains("extra_config");
  if (!extent || (size > 0 && *extent != size && !overridden))
    refuse(name, fmt::format("has {} inputs in {} groups, and the description says groups of {}", linear.in,
                             linear.groups, size));
  for (std::int64_t i = 0; i < linear.in; ++i)
    linear.group_of.push_back(static_cast<std::int32_t>(i / *extent));
  return linear;
}

ForeignModel read(const ForeignFiles& files) {
  const bool version_1 = is_version_1(files.quantization);
  const std::set<std::int64_t> described = described_bits(files.quantization);
  ForeignModel model;
  int least = 8, most = 0;
  std::int64_t most_groups = 0;
  for (const std::string& name : files.tensors.names()) {
    if (!name.ends_with(kCodes)) continue;
    const std::string module = name.substr(0, name.size() - kCodes.size());
    Linear linear = read_linear(files, module, described);
    linear.version_1 = version_1;
    least = std::min(least, linear.bits);
    most = std::max(most, linear.bits);
    most_groups = std::max(most_groups, linear.groups);
    const DType type = linear.scales.type == DType::F32 ? files.type : linear.scales.type;
    DerivedTensor tensor{{module + ".weight", type, {linear.out, linear.in}}, {}, {}};
    for (const char* part : {".qweight", ".qzeros", ".scales", ".g_idx"})
      if (files.tensors.contains(module + part)) tensor.sources.push_back(module + part);
    if (files.tensors.contains(tensor.spec.name))
      refuse(name, fmt::format("and {} are both there", in_quotes(tensor.spec.name)));
    tensor.make = [type, linear = std::move(linear)](std::int64_t first, std::int64_t count) {
      const std::vector<float> scales = read_floats(linear.scales);
      return foreign::make_rows(
          type, count, linear.in, kBlockRows,
          [&](std::int64_t row, std::span<float> to) { linear.fill(first + row, to, scales); });
    };
    model.tensors.push_back(std::move(tensor));
  }
  if (model.tensors.empty())
    throw InputError(
        "is described as quantized by GPTQ, but has no tensor that ends in .qweight: config.json "
        "belongs to another model");
  const std::int64_t group = foreign::integer(files.quantization, "group_size").value_or(-1);
  model.format = fmt::format("{}, {}{}{}", is_auto_round(files.quantization) ? "AutoRound" : "GPTQ",
                             foreign::bits_text(least, most),
                             most_groups == 1 || group < 1 ? "" : fmt::format(" in groups of {}", group),
                             version_1 ? "" : ", version 2");
  return model;
}

}  // namespace

const ForeignFormat& gptq_format() {
  static const ForeignFormat format{"GPTQ", recognises, read};
  return format;
}

}  // namespace knapsaq
