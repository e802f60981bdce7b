#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <map>
#include <span>
#include <sstream>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "knapsaq/base/error.h"
#include "knapsaq/base/float16.h"
#include "knapsaq/checkpoint/stored_layout.h"
#include "knapsaq/quant/quantizer.h"
#include "made_weights.h"
#include "work_with_threads.h"

namespace knapsaq {
namespace {

/// CRC-32 of zlib and Python's zlib module.
template <class T>
std::uint32_t crc32(std::span<const T> values) {
  std::uint32_t crc = 0xFFFFFFFFu;
  for (const std::byte b : std::as_bytes(values)) {
    crc ^= static_cast<std::uint32_t>(b);
    for (int i = 0; i < 8; ++i) crc = crc >> 1 ^ ((crc & 1) != 0 ? 0xEDB88320u : 0u);
  }
  return ~crc;
}
template <class T>
std::uint32_t crc32(const std::vector<T>& values) {
  return crc32(std::span<const T>(values));
}

/// weights_of() of tools/make_nf4_references.py.
std::vector<float> weights_of(const std::string& kind, std::int64_t rows, std::int64_t cols) {
  const bool special = kind == "zeros" || kind == "tiny";
  MadeWeights made(kind == "zeros" ? "normal" : kind == "tiny" ? "wide" : kind, rows, cols);
  std::vector<float>& w = made.values();
  const std::size_t rest = w.size() / 64 * 64;
  for (std::size_t i = 0; special && i < w.size(); ++i) {
    if (kind == "zeros" && ((i >= 64 && i < 192) || i >= rest)) w[i] = 0;
    if (kind == "tiny" && i < 128) w[i] *= 1e-38f;
    if (kind == "tiny" && i >= rest) w[i] *= 1e-39f;
  }
  return w;
}

float rounded(float value, const std::string& type) {
  if (type == "BF16") return bfloat16_to_float(float_to_bfloat16(value));
  if (type == "F16") return half_to_float(float_to_half(value));
  return value;
}

std::vector<float> dequantized(const StoredMatrix& matrix) {
  std::vector<float> values(static_cast<std::size_t>(rows_of(matrix) * cols_of(matrix)));
  for (std::int64_t r = 0; r < rows_of(matrix); ++r)
    dequantize_row(matrix, r,
                   std::span(values).subspan(static_cast<std::size_t>(r * cols_of(matrix)),
                                             static_cast<std::size_t>(cols_of(matrix))));
  return values;
}

TEST(Nf4, IsBitForBitWhatBitsandbytesMakes) {
  std::ifstream file(std::string(KNAPSAQ_TEST_DATA) + "/quant/nf4.txt");
  ASSERT_TRUE(file.is_open());
  std::string line;
  int cases = 0;
  while (std::getline(file, line)) {
    if (line.starts_with('#')) continue;
    SCOPED_TRACE(line);
    std::istringstream in(line);
    std::string kind;
    in >> kind >> std::hex;
    std::uint32_t codes = 0;
    if (kind == "values" || kind == "absmax_values") {
      ASSERT_TRUE(in >> codes);
      EXPECT_EQ(crc32(kind == "values" ? nf4_values() : nf4_absmax_values()), codes);
      continue;
    }
    std::int64_t rows = 0;
    std::int64_t cols = 0;
    std::string type;
    std::uint32_t offset = 0;
    std::uint32_t absmax = 0;
    std::uint32_t nested = 0;
    std::uint32_t values = 0;
    ASSERT_TRUE(in >> std::dec >> rows >> cols >> type >> std::hex >> offset >> codes >> absmax >> nested >>
                values);
    std::vector<float> weights = weights_of(kind, rows, cols);
    for (float& w : weights) w = rounded(w, type);
    const StoredMatrix stored = quantize({rows, cols, weights}, parse_scheme("nf4"));
    check(stored);
    const Nf4Matrix& matrix = std::get<Nf4Matrix>(stored);
    EXPECT_EQ(std::bit_cast<std::uint32_t>(matrix.offset), offset);
    EXPECT_EQ(crc32(matrix.codes), codes);
    EXPECT_EQ(crc32(matrix.absmax_codes), absmax);
    EXPECT_EQ(crc32(matrix.nested_absmax), nested);
    EXPECT_EQ(crc32(dequantized(stored)), values);
    ++cases;
  }
  EXPECT_EQ(cases, 36);
}

TEST(Nf4, DoesNotDependOnTheNumberOfThreads) {
  const MadeWeights weights("student", 333, 1001);
  std::vector<std::uint8_t> codes;
  for (const int threads : {1, 2, 7}) {
    work_with_threads(threads);
    const Nf4Matrix matrix = std::get<Nf4Matrix>(quantize(weights.view(), nf4_scheme()));
    if (codes.empty()) codes = matrix.codes;
    EXPECT_EQ(matrix.codes, codes);
  }
  work_with_threads(0);
}

TEST(Nf4, RefusesWhatItCannotDo) {
  EXPECT_THROW(parse_scheme("nf4:b3g64"), UsageError);
  EXPECT_THROW(parse_scheme("nf4:b4g64s"), UsageError);
  EXPECT_EQ(to_string(parse_scheme("nf4")), "nf4");
  EXPECT_EQ(to_string(parse_scheme("nf4:b4g64")), "nf4");
  const std::vector<float> large(64, 1e30f);
  EXPECT_THROW(quantize({1, 64, large}, nf4_scheme()), InputError);
}

TEST(Nf4, TakesTheBitsOfThePaper) {
  // QLoRA, section 3.2: 0.127 bits per weight beside the codes.
  EXPECT_NEAR(nominal_bits(nf4_scheme(), 4096), 4.127, 5e-4);
  // The tables of values and the description are the same few bytes for every linear.
  const double bits = 8.0 * static_cast<double>(storage_bytes(nf4_scheme(), 4096, 4096)) / (4096.0 * 4096.0);
  EXPECT_NEAR(bits, nominal_bits(nf4_scheme(), 4096), 1e-3);
}

/// A linear as files hold it, for tests that damage it.
struct Written {
  std::vector<TensorSpec> specs;
  std::map<std::string, std::vector<std::byte>> bytes;

  explicit Written(const StoredMatrix& matrix) : specs(tensors_of("m", shape_of(matrix))) {
    const auto parts = bytes_of(matrix);
    for (std::size_t i = 0; i < specs.size(); ++i)
      bytes[specs[i].name].assign(parts[i].begin(), parts[i].end());
  }
  TensorView view(const std::string& name) const {
    for (const TensorSpec& spec : specs)
      if (spec.name == name) return {spec.type, spec.shape, bytes.at(name)};
    throw InputError("no tensor " + name);
  }
  StoredMatrix read() const {
    const Nf4Shape shape = parse_nf4_state(view(nf4_state_name("m")));
    return read_stored("m", shape, [this](const std::string& name) { return view(name); });
  }
  void set_state(std::string text) {
    std::vector<std::byte>& state = bytes.at(nf4_state_name("m"));
    text.resize(state.size(), ' ');
    std::ranges::copy(std::as_bytes(std::span(text)), state.begin());
  }
  std::string state() const {
    const std::vector<std::byte>& state = bytes.at(nf4_state_name("m"));
    return {reinterpret_cast<const char*>(state.data()), state.size()};
  }
};

TEST(Nf4Layout, ComesBackAsItWasWritten) {
  for (const auto& [rows, cols] : {std::pair<int, int>{3, 5}, {64, 96}, {257, 250}}) {
    const MadeWeights weights("student", rows, cols);
    const StoredMatrix stored = quantize(weights.view(), nf4_scheme());
    const Written written(stored);
    std::uint64_t total = 0;
    for (const TensorSpec& spec : written.specs) {
      EXPECT_EQ(spec.bytes(), written.bytes.at(spec.name).size()) << spec.name;
      total += spec.bytes();
    }
    EXPECT_EQ(total, storage_bytes(nf4_scheme(), rows, cols));
    const StoredMatrix again = written.read();
    EXPECT_EQ(dequantized(again), dequantized(stored));
    EXPECT_EQ(std::get<Nf4Matrix>(again).state, std::get<Nf4Matrix>(stored).state);
  }
}

TEST(Nf4Layout, DescribesItselfAsBitsandbytesDoes) {
  for (const float offset : {0.0f, 0.04375f, -1.17549435e-38f, 3.40282347e38f, 1e-45f}) {
    const std::string text = nf4_state(11008, 4096, offset);
    EXPECT_EQ(text.size(), nf4_state(11008, 4096, 1.0f).size());
    const nlohmann::json state = nlohmann::json::parse(text);
    EXPECT_EQ(state["quant_type"], "nf4");
    EXPECT_EQ(state["blocksize"], 64);
    EXPECT_EQ(state["nested_blocksize"], 256);
    EXPECT_EQ(state["dtype"], "float32");
    EXPECT_EQ(state["nested_dtype"], "float32");
    EXPECT_EQ(state["shape"], nlohmann::json({11008, 4096}));
    EXPECT_EQ(static_cast<float>(state["nested_offset"].get<double>()), offset);
  }
}

TEST(Nf4Layout, RefusesDamage) {
  const MadeWeights weights("student", 64, 96);
  const Written good(quantize(weights.view(), nf4_scheme()));
  const auto replaced = [&](const std::string& from, const std::string& to) {
    Written written = good;
    std::string state = good.state();
    EXPECT_NE(state.find(from), std::string::npos) << from;
    written.set_state(state.replace(state.find(from), from.size(), to));
    return written;
  };
  EXPECT_THROW(replaced("nf4", "fp4").read(), InputError);
  EXPECT_THROW(replaced("\"blocksize\": 64", "\"blocksize\": 32").read(), InputError);
  EXPECT_THROW(replaced("256", "255").read(), InputError);
  EXPECT_THROW(replaced("[64, 96]", "[64, 97]").read(), InputError);
  EXPECT_THROW(replaced("[64, 96]", "[-4, 96]").read(), InputError);
  EXPECT_THROW(replaced("[64, 96]", "[64, 9e9]").read(), InputError);
  EXPECT_THROW(replaced("[64, 96]", "[6144]").read(), InputError);
  EXPECT_THROW(replaced("\"nested_offset\": 0.", "\"nested_offset\": 1e99").read(), InputError);
  EXPECT_THROW(replaced("{", "[").read(), InputError);

  for (const char* name : {"m.weight.quant_map", "m.weight.nested_quant_map"}) {
    Written other = good;
    other.bytes.at(name)[5] ^= std::byte{1};
    EXPECT_THROW(other.read(), InputError) << name;
  }
  Written infinite = good;
  const float bad = INFINITY;
  std::ranges::copy(std::as_bytes(std::span(&bad, 1)), infinite.bytes.at("m.weight.nested_absmax").begin());
  EXPECT_THROW(infinite.read(), InputError);
}

}  // namespace
}  // namespace knapsaq
