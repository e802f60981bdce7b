#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace knapsaq {

enum class GgmlType : std::uint8_t;

/// The zero points that an affine scheme allows.
enum class ZeroPoint : std::uint8_t {
  real,     ///< any number
  integer,  ///< 0 .. 2^bits - 1, with the bias -s z exact in fp16: as in GPTQ's and compressed-tensors' files
  symmetric,  ///< 2^(bits-1)
};

/// How one linear is stored.
///
/// Affine schemes are written `[method:]b<bits>g<group>[z|s][/m<meta_bits>g<meta_group>]`, with `row` instead
/// of `g<group>` for one group per row, `z` for integer zero points and `s` for symmetric: "hqq:b4g64",
/// "gptq:b4g128z", "b3g128/m8g128", "rtn:b4row", "rtn:b8g32s". A GGML type is written by its name, "q4_k";
/// then `method` is that name, `bits` and `group` are the type's bits and block, and the other fields keep
/// their defaults. "nf4" is also written by its name: 4 bits, blocks of 64, double quantization.
struct Scheme {
  std::string method = "hqq";  ///< name in the registry of quantizers: rtn, hqq, gptq, q4_k, ...
  int bits = 4;                ///< b1: 2, 3, 4, 5, 6 or 8
  int group = 64;              ///< g1: 32, 64 or 128; 0 = the whole row
  ZeroPoint zero = ZeroPoint::real;
  int meta_bits = 16;  ///< b2: 16 = scale and bias in fp16; 8 = quantized a second time
  int meta_group = 0;  ///< g2: groups that share second-level parameters; 0 when meta_bits == 16

  friend bool operator==(const Scheme&, const Scheme&) = default;
};

/// The GGML type of a scheme; nullopt for affine ones.
std::optional<GgmlType> ggml_type(const Scheme& scheme);
/// The only scheme of the method nf4.
Scheme nf4_scheme();

/// `scheme`, or if rows of `in` weights are not whole blocks of its GGML type, llama.cpp's replacement: Q4_0
/// for Q2_0, Q2_K and Q3_K, Q5_0 for Q4_K, Q5_1 for Q5_K, Q8_0 for Q6_K, IQ4_NL for the IQ types
/// (llama-quant.cpp). Affine schemes hold every width. Throws UsageError if `in` is not a multiple of 32,
/// which no GGML type can hold.
Scheme fitting(const Scheme& scheme, std::int64_t in);

/// Throws UsageError, which shows the grammar.
Scheme parse_scheme(std::string_view text);
std::string to_string(const Scheme& scheme);

/// Exact bytes of the tensors of a linear [out, in] in this scheme (codes, scales, biases or second level;
/// not the linear's own bias vector, which is not quantized). Same errors as stored_shape().
std::uint64_t storage_bytes(const Scheme& scheme, std::int64_t out, std::int64_t in);

/// MXQ Eq. 2: b1 + 2*b2/g1 + 32/(g1*g2); for fp16 metadata b1 + 32/g1; for GGML types the bits of a block
/// over its weights; for NF4 4 + 8/64 + 32/(64*256). Needs `in` for group = whole row.
double nominal_bits(const Scheme& scheme, std::int64_t in);

/// A named list of schemes that a search may choose from.
struct Menu {
  std::string name;
  std::vector<Scheme> schemes;
  /// Affine schemes whose groups do not fill a matrix's rows are replaced by those of the next smaller groups
  /// that do.
  bool whole_groups = false;
};

/// "affine": b{2,3,4,5,6,8}g{32,64,128}, MLX's own schemes, by HQQ. "mxq": the paper's twelve,
/// hqq:b{2,3,4,8}g{32,64,128}/m8g128. "mxq-f16": the same with metadata in fp16. "gguf": the GGML types. Or a
/// comma-separated list of schemes. Throws UsageError.
Menu parse_menu(std::string_view text);

}  // namespace knapsaq
