// AWQ in its "gemm" packing, 4 bits: <m>.qweight I32 [in, out / 8], <m>.qzeros I32 [groups, out / 8],
// <m>.scales [groups, out]. A word holds eight neighbouring outputs, in the order 0, 2, 4, 6, 1, 3, 5, 7 from
// the lowest bits on. w = (code - zero) * scale, rounded to the scales' type (AutoAWQ's
// awq/utils/packing_utils.py).

#include <algorithm>
#include <array>
#include <cctype>

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
constexpr std::int64_t kPacked = 8;  ///< codes of a word
/// Where in a word the code of output 8 i + r is.
constexpr std::array<int, 8> kShifts{0, 16, 4, 20, 8, 24, 12, 28};
constexpr std::int64_t kBlockRows = 16;

bool recognises(const json& quantization) {
  const std::string method = text(quantization, "quant_method");
  if (method.find("auto-round") != std::string::npos)
    return text(quantization, "packing_format").find("awq") != std::string::npos;
  return method == "awq" || (method.empty() && quantization.contains("w_bit"));
}

void check_description(const json& quantization) {
  std::string version = text(quantization, "version");
  if (version.empty() && text(quantization, "quant_method") == "awq") version = text(quantization, "format");
  std::ranges::transform(version, version.begin(), [](unsigned char c) { return std::tolower(c); });
  if (!version.empty() && version != "gemm")
    throw InputError(
        fmt::format("is quantized by AWQ in the packing {}, which is made for one kernel; the packing "
                    "gemm is read: give the model in it",
                    in_quotes(version)));
  for (const char* key : {"bits", "w_bit"})
    if (const auto bits = foreign::integer(quantization, key); bits && *bits != 4)
      throw InputError(fmt::format("is quantized by AWQ with {} bits; AWQ's packing has 4", *bits));
}

std::uint32_t code(const TensorView& packed, std::int64_t row, std::int64_t out) {
  const std::uint32_t word = foreign::word_at(packed.bytes, row * packed.shape[1] + out / kPacked);
  return word >> kShifts[static_cast<std::size_t>(out % kPacked)] & 15u;
}

DerivedTensor dequantized(const ForeignFiles& files, const std::string& module, std::int64_t group_size) {
  const std::string name = module + std::string(kCodes);
  const TensorView codes = foreign::part(files.tensors, name, name, DType::I32, 2);
  const TensorView zeros = foreign::part(files.tensors, module + ".qzeros", name, DType::I32, 2);
  if (!files.tensors.contains(module + ".scales") ||
      !is_weight_type(files.tensors.spec(module + ".scales").type))
    refuse(name,
           "is there without scales in F16, BF16 or F32: the checkpoint is incomplete; download it again");
  const TensorView scales = files.tensors.tensor(module + ".scales");
  const std::int64_t in = codes.shape[0];
  const bool fits = codes.elements() > 0 && scales.shape.size() == 2 && scales.shape[1] % kPacked == 0 &&
                    scales.shape[1] / kPacked == codes.shape[1] && zeros.shape[1] == codes.shape[1] &&
                    zeros.shape[0] == scales.shape[0];
  const auto group =
      fits ? foreign::block_extent(in, scales.shape[0], std::span(&group_size, 1)) : std::nullopt;
  if (!group || (group_size > 0 && *group != group_size))
    refuse(name, fmt::format("of shape [{}] does not fit its scales [{}] and zeros [{}]",
                             fmt::join(codes.shape, ", "), fmt::join(scales.shape, ", "),
                             fmt::join(zeros.shape, ", ")));
  const std::int64_t out = scales.shape[1];
  const DType type = scales.type == DType::F32 ? files.type : scales.type;
  DerivedTensor tensor{
      {module + ".weight", type, {out, in}}, {name, module + ".qzeros", module + ".scales"}, {}};
  if (files.tensors.contains(tensor.spec.name))
    refuse(name, fmt::format("and {} are both there", in_quotes(tensor.spec.name)));
  tensor.make = [=, extent = *group](std::int64_t first, std::int64_t count) {
    const std::vector<float> all = read_floats(scales);
    return foreign::make_rows(type, count, in, kBlockRows, [&](std::int64_t row, std::span<float> to) {
      const std::int64_t rows = static_cast<std::int64_t>(to.size()) / in;
      for (std::int64_t r = 0; r < rows; ++r) {
        const std::int64_t o = first + row + r;
        for (std::int64_t begin = 0; begin < in; begin += extent) {
          const std::int64_t g = begin / extent;
          const float scale = all[static_cast<std::size_t>(g * out + o)];
          const auto zero = static_cast<std::int32_t>(code(zeros, g, o));
          for (std::int64_t i = begin; i < std::min(begin + extent, in); ++i)
            to[static_cast<std::size_t>(r * in + i)] =
                static_cast<float>(static_cast<std::int32_t>(code(codes, i, o)) - zero) * scale;
        }
      }
    });
  };
  return tensor;
}

ForeignModel read(const ForeignFiles& files) {
  check_description(files.quantization);
  std::int64_t group = -1;
  for (const char* key : {"group_size", "q_group_size"})
    if (const auto size = foreign::integer(files.quantization, key)) group = *size;
  ForeignModel model;
  for (const std::string& name : files.tensors.names())
    if (name.ends_with(kCodes))
      model.tensors.push_back(dequantized(files, name.substr(0, name.size() - kCodes.size()), group));
  if (model.tensors.empty())
    throw InputError(
        "is described as quantized by AWQ, but has no tensor that ends in .qweight: config.json "
        "belongs to another model");
  model.format = group > 0 ? fmt::format("AWQ, 4 bits in groups of {}", group) : "AWQ, 4 bits";
  return model;
}

}  // namespace

const ForeignFormat& awq_format() {
  static const ForeignFormat format{"AWQ", recognises, read};
  return format;
}

}  // namespace knapsaq
