#include "knapsaq/quant/scheme.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <iterator>

#include <fmt/format.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/quote.h"
#include "knapsaq/checkpoint/stored_layout.h"
#include "knapsaq/compute/ggml_matrix.h"
#include "knapsaq/quant/scheme_layout.h"

namespace knapsaq {

namespace {

constexpr std::array<int, 4> kPaperBits = {2, 3, 4, 8};
constexpr std::array<int, 3> kGroups = {32, 64, 128};

constexpr std::string_view kNf4 = "nf4";

template <std::size_t N>
bool contains(const std::array<int, N>& values, int value) {
  return std::ranges::find(values, value) != values.end();
}

[[noreturn]] void refuse(std::string_view text, std::string_view why) {
  throw UsageError(fmt::format(
      "{} is not a scheme ({}): write [method:]b<2|3|4|5|6|8>g<32|64|128>[z|s][/m8g<32|64|128>], or "
      "'row' instead of g<..> for one group per row, e.g. hqq:b4g64, rtn:b8g32s, "
      "b3g128/m8g128; or nf4, or a GGML type, e.g. q4_k",
      in_quotes(text), why));
}

bool take(std::string_view& text, std::string_view prefix) {
  if (!text.starts_with(prefix)) return false;
  text.remove_prefix(prefix.size());
  return true;
}

/// A decimal number without sign or leading zero; -1 if there is none.
int take_number(std::string_view& text) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || value < 1 || text.front() == '0') return -1;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  return value;
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

std::vector<Scheme> paper_schemes(int meta_bits, int meta_group) {
  std::vector<Scheme> schemes;
  for (const int bits : kPaperBits) {
    for (const int group : kGroups)
      schemes.push_back({"hqq", bits, group, ZeroPoint::real, meta_bits, meta_group});
  }
  return schemes;
}

Scheme scheme_of(const GgmlTypeInfo& type) {
  Scheme scheme;
  scheme.method = type.name;
  scheme.bits = type.bits;
  scheme.group = type.block;
  return scheme;
}

/// llama.cpp's replacement if rows are not whole blocks of `type`.
GgmlType fallback(GgmlType type) {
  switch (type) {
    case GgmlType::Q2_0:
    case GgmlType::Q2_K:
    case GgmlType::Q3_K:
      return GgmlType::Q4_0;
    case GgmlType::Q4_K:
      return GgmlType::Q5_0;
    case GgmlType::Q5_K:
      return GgmlType::Q5_1;
    case GgmlType::Q6_K:
      return GgmlType::Q8_0;
    case GgmlType::IQ1_S:
    case GgmlType::IQ1_M:
    case GgmlType::IQ2_XXS:
    case GgmlType::IQ2_XS:
    case GgmlType::IQ2_S:
    case GgmlType::IQ3_XXS:
    case GgmlType::IQ3_S:
    case GgmlType::IQ4_XS:
      return GgmlType::IQ4_NL;
    default:
      return type;  // blocks of 32, the smallest there are
  }
}

}  // namespace

std::optional<GgmlType> ggml_type(const Scheme& scheme) { return parse_ggml_type(scheme.method); }

Scheme nf4_scheme() {
  Scheme scheme;
  scheme.method = kNf4;
  scheme.bits = 4;
  scheme.group = Nf4Matrix::kBlock;
  return scheme;
}

StoredShape stored_shape(const Scheme& scheme, std::int64_t out, std::int64_t in) {
  if (scheme.method == kNf4) return Nf4Shape{out, in};
  const auto type = ggml_type(scheme);
  if (!type) return AffineShape{out, in, scheme.bits, scheme.group, scheme.meta_bits, scheme.meta_group};
  if (in % info(*type).block != 0) {
    throw UsageError(fmt::format("{} holds rows of whole blocks of {} weights, not of {}", scheme.method,
                                 info(*type).block, in));
  }
  return GgmlShape{out, in, *type};
}

Scheme fitting(const Scheme& scheme, std::int64_t in) {
  const auto type = ggml_type(scheme);
  if (!type || in % info(*type).block == 0) return scheme;
  const GgmlTypeInfo& other = info(fallback(*type));
  if (in % other.block != 0) {
    throw UsageError(
        fmt::format("no GGML type holds rows of {} weights: they are not whole blocks of {}; use an "
                    "affine scheme for this linear",
                    in, other.block));
  }
  return scheme_of(other);
}

Scheme parse_scheme(std::string_view text) {
  if (const auto type = parse_ggml_type(text)) return scheme_of(info(*type));
  if (text == kNf4) return nf4_scheme();
  Scheme scheme;
  std::string_view rest = text;
  if (const std::size_t colon = rest.find(':'); colon != std::string_view::npos) {
    scheme.method = rest.substr(0, colon);
    rest.remove_prefix(colon + 1);
    const auto is_letter = [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
    };
    if (scheme.method.empty() || !std::ranges::all_of(scheme.method, is_letter)) {
      refuse(text, "the method is a name in lower case");
    }
  }
  if (!take(rest, "b")) refuse(text, "'b' and the bits are missing");
  scheme.bits = take_number(rest);
  if (!is_affine_width(scheme.bits)) refuse(text, "bits are 2, 3, 4, 5, 6 or 8");
  if (take(rest, "row")) {
    scheme.group = 0;
  } else if (take(rest, "g")) {
    scheme.group = take_number(rest);
    if (!contains(kGroups, scheme.group)) refuse(text, "groups are 32, 64, 128 or row");
  } else {
    refuse(text, "the group is missing");
  }
  if (take(rest, "s")) {
    scheme.zero = ZeroPoint::symmetric;
  } else if (take(rest, "z")) {
    scheme.zero = ZeroPoint::integer;
    if (scheme.bits == 8) refuse(text, "8 bits leave a scale in fp16 no room for integer zero points; use s");
  }
  if (take(rest, "/m8g")) {
    scheme.meta_bits = 8;
    scheme.meta_group = take_number(rest);
    if (!contains(kGroups, scheme.meta_group)) refuse(text, "metadata is m8g32, m8g64 or m8g128");
    if (scheme.zero != ZeroPoint::real) refuse(text, "schemes with s or z keep their scales in fp16");
  }
  if (!rest.empty()) refuse(text, "something is left over at its end");
  if (scheme.method == kNf4 && scheme != nf4_scheme()) refuse(text, "nf4 has nothing to choose");
  return scheme;
}

std::string to_string(const Scheme& scheme) {
  if (ggml_type(scheme) || scheme.method == kNf4) return scheme.method;
  std::string text = fmt::format("{}:b{}", scheme.method, scheme.bits);
  text += scheme.group == 0 ? "row" : fmt::format("g{}", scheme.group);
  if (scheme.zero == ZeroPoint::symmetric) text += 's';
  if (scheme.zero == ZeroPoint::integer) text += 'z';
  if (scheme.meta_bits != 16) text += fmt::format("/m{}g{}", scheme.meta_bits, scheme.meta_group);
  return text;
}

std::uint64_t storage_bytes(const Scheme& scheme, std::int64_t out, std::int64_t in) {
  std::uint64_t bytes = 0;
  for (const TensorSpec& tensor : tensors_of("", stored_shape(scheme, out, in))) bytes += tensor.bytes();
  return bytes;
}

double nominal_bits(const Scheme& scheme, std::int64_t in) {
  if (const auto type = ggml_type(scheme)) return 8.0 * info(*type).bytes / info(*type).block;
  if (scheme.method == kNf4)
    return 4 + 8.0 / Nf4Matrix::kBlock + 32.0 / (Nf4Matrix::kBlock * Nf4Matrix::kNested);
  const double group = scheme.group == 0 ? static_cast<double>(in) : scheme.group;
  double bits = scheme.bits + 2.0 * scheme.meta_bits / group;
  if (scheme.meta_bits != 16) bits += 32.0 / (group * scheme.meta_group);
  return bits;
}

Menu parse_menu(std::string_view text) {
  text = trimmed(text);
  if (text == "mxq") return {"mxq", paper_schemes(8, 128)};
  if (text == "mxq-f16") return {"mxq-f16", paper_schemes(16, 0)};
  if (text == "affine") {
    Menu menu{"affine", {}};
    for (const int bits : kAffineWidths)
      for (const int group : kGroups) menu.schemes.push_back({"hqq", bits, group});
    return menu;
  }
  if (text == "gguf") {
    Menu menu{"gguf", {}};
    std::ranges::transform(ggml_types(), std::back_inserter(menu.schemes), scheme_of);
    return menu;
  }
  // A list with more schemes than the grammar has is a mistake; the limit also bounds the work on hostile
  // text.
  constexpr std::size_t kMostSchemes = 256;
  Menu menu{std::string(text), {}};
  for (std::string_view rest = text;;) {
    const std::size_t comma = rest.find(',');
    const Scheme scheme = parse_scheme(trimmed(rest.substr(0, comma)));
    if (std::ranges::find(menu.schemes, scheme) != menu.schemes.end()) {
      throw UsageError(fmt::format("the menu names {} twice", to_string(scheme)));
    }
    if (menu.schemes.size() == kMostSchemes) {
      throw UsageError(fmt::format("the menu has more than {} schemes", kMostSchemes));
    }
    menu.schemes.push_back(scheme);
    if (comma == std::string_view::npos) return menu;
    rest.remove_prefix(comma + 1);
  }
}

}  // namespace knapsaq
