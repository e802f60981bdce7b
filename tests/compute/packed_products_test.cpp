// Products from packed weights, in all forms and instruction sets, against dequantize-then-multiply in
// double.

#include <algorithm>
#include <cmath>
#include <memory>
#include <ostream>
#include <string>
#include <tuple>
#include <vector>

#include <fmt/core.h>
#include <gtest/gtest.h>

#include "compute/device_names.h"
#include "compute/stored_forms.h"
#include "knapsaq/compute/backend.h"
#include "knapsaq/compute/cpu/cpu_backend.h"
#include "knapsaq/compute/cpu/cpu_kernels.h"
#include "knapsaq/compute/cpu/packed_weight.h"
#include "knapsaq/compute/ggml_matrix.h"
#include "work_with_threads.h"

namespace knapsaq::test {
void PrintTo(const StoredForm& form, std::ostream* out) { *out << form.name; }
}  // namespace knapsaq::test

namespace knapsaq {
namespace {

using test::Codes;
using test::StoredForm;

constexpr Codes kAllCodes[] = {Codes::random, Codes::highest, Codes::lowest, Codes::alternating};

/// Inputs with everything that rounding to int8 could trip over: a row of zeros, outliers, tiny numbers.
std::vector<float> hard_inputs(std::int64_t rows, std::int64_t cols, std::uint64_t seed) {
  Random random(seed);
  std::vector<float> x(static_cast<std::size_t>(rows * cols));
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t k = 0; k < cols; ++k) {
      float& value = x[static_cast<std::size_t>(r * cols + k)];
      value = static_cast<float>(random.normal());
      if (r % 5 == 1) value = 0;
      if (r % 5 == 2 && k % 97 == 3) value *= 1000;
      if (r % 5 == 3) value *= 1e-36f;
      if (r % 5 == 4) value = std::copysign(1.0f, value);
    }
  return x;
}

class PackedProducts : public testing::TestWithParam<std::tuple<StoredForm, std::string>> {
 protected:
  std::unique_ptr<Backend> backend(Precision precision, Packed packed, std::int64_t packed_rows = 16) const {
    CpuOptions options;
    options.precision = precision;
    options.kernels = std::get<1>(GetParam());
    options.packed = packed;
    options.packed_rows = packed_rows;
    return make_cpu_backend(options);
  }
  StoredMatrix make(std::int64_t rows, std::int64_t cols, Codes codes) const {
    StoredMatrix matrix = std::get<0>(GetParam()).make(rows, cols, codes, 5);
    check(matrix);
    return matrix;
  }

  /// Multiplies `rows` rows and compares every result with its bound.
  void compare(Backend& backend, const StoredMatrix& matrix, std::int64_t rows, bool int8) {
    const std::int64_t out = rows_of(matrix);
    const std::int64_t in = cols_of(matrix);
    const std::vector<float> values = hard_inputs(rows, in, 9);
    Array x = backend.allocate(rows, in, Element::working);
    backend.convert(backend.upload(values, rows, in), rows, x);
    std::vector<float> inputs(values.size());
    backend.download(x, 0, inputs);  // as the backend rounded them

    std::vector<float> bias(static_cast<std::size_t>(out));
    for (std::size_t i = 0; i < bias.size(); ++i) bias[i] = static_cast<float>(i % 7);
    const auto weight = backend.prepare(matrix, bias);
    Array y = backend.allocate(rows, out, Element::full);
    const Product product{weight.get(), &y, false};
    backend.multiply(x, rows, {&product, 1});
    std::vector<float> results(static_cast<std::size_t>(rows * out));
    backend.download(y, 0, results);

    // Weights of large codes are sums of larger numbers, s u and c, whose rounding does not shrink with them.
    std::vector<float> w(static_cast<std::size_t>(in));
    const double spread = std::holds_alternative<PackedMatrix>(matrix)
                              ? static_cast<double>(1 << std::get<PackedMatrix>(matrix).bits) * 0.07
                              : 0.0;
    for (std::int64_t n = 0; n < out; ++n) {
      dequantize_row(matrix, n, w);
      double largest = spread;
      for (const float weight_value : w) largest = std::max<double>(largest, std::abs(weight_value));
      for (std::int64_t r = 0; r < rows; ++r) {
        const float* row = inputs.data() + r * in;
        double exact = bias[static_cast<std::size_t>(n)];
        double terms = std::abs(exact);
        double rounding = 0;  // of inputs to int8
        for (std::int64_t first = 0; first < in; first += 32) {
          double most = 0;
          double weights = 0;
          for (std::int64_t k = first; k < std::min(first + 32, in); ++k) {
            exact += static_cast<double>(w[static_cast<std::size_t>(k)]) * static_cast<double>(row[k]);
            terms += largest * std::abs(static_cast<double>(row[k]));
            most = std::max(most, std::abs(static_cast<double>(row[k])));
            weights += std::abs(static_cast<double>(w[static_cast<std::size_t>(k)]));
          }
          // |x - scale q| <= scale / 2 = most / 254; NF4's values are rounded to 1 / 127 of the largest of
          // 64, too.
          rounding += most / 254 * weights;
          if (std::holds_alternative<Nf4Matrix>(matrix)) rounding += most * 32 * absmax_bound_ / 254;
          if (most < 1e-30) rounding += most * weights;  // such inputs become zeros
        }
        // Numbers near the end of fp32's range may become 0. fp32 sums of in / 8 to in terms, each rounded to
        // 2^-24 of at most all terms' size.
        const double bound =
            terms * static_cast<double>(in + 64) * 0x1p-24 + 1e-37 + (int8 ? rounding * 1.001 : 0);
        const double found = results[static_cast<std::size_t>(r * out + n)];
        ASSERT_LE(std::abs(found - exact), bound)
            << "row " << r << " output " << n << " of " << rows << " x " << in;
      }
    }
  }

  static constexpr double absmax_bound_ = 0.2;  ///< of nf4_matrix()
};

INSTANTIATE_TEST_SUITE_P(, PackedProducts,
                         testing::Combine(testing::ValuesIn(test::stored_forms()),
                                          testing::ValuesIn(cpu_variants())),
                         [](const auto& one) {
                           return fmt::format("{}_{}", std::get<0>(one.param).name, std::get<1>(one.param));
                         });

TEST_P(PackedProducts, PanelsHoldTheWeightsToTheBit) {
  const cpu::PackedKernels* kernels = cpu::kernels_of(std::get<1>(GetParam())).packed;
  cpu::Arena arena;
  for (const Codes codes : kAllCodes) {
    const StoredMatrix matrix = make(37, 512, codes);
    ASSERT_TRUE(cpu::packed_view(matrix));
    const auto weight = cpu::pack(matrix, {}, arena);
    const std::int64_t cols = 512;
    std::vector<float> panel(static_cast<std::size_t>(cols * 16));
    std::vector<Bf16> rounded(panel.size());
    std::vector<float> expected(static_cast<std::size_t>(cols));
    for (std::int64_t p = 0; p < weight->panels(); ++p) {
      kernels->dequantize_float(weight->view(), p, panel.data(), 16, 256);
      if (kernels->dequantize_bf16 != nullptr)
        kernels->dequantize_bf16(weight->view(), p, rounded.data(), 32, 512);
      for (std::int64_t r = 16 * p; r < std::min<std::int64_t>(16 * p + 16, 37); ++r) {
        dequantize_row(matrix, r, expected);
        for (std::int64_t k = 0; k < cols; ++k) {
          const float value = expected[static_cast<std::size_t>(k)];
          ASSERT_EQ(panel[static_cast<std::size_t>(k * 16 + r % 16)], value) << r << ' ' << k;
          if (kernels->dequantize_bf16 == nullptr) continue;
          const auto bits = static_cast<std::uint16_t>(
              rounded[static_cast<std::size_t>((k / 2 * 16 + r % 16) * 2 + k % 2)]);
          ASSERT_EQ(bfloat16_to_float(bits), bfloat16_to_float(float_to_bfloat16(value))) << r << ' ' << k;
        }
      }
    }
  }
}

TEST_P(PackedProducts, ExactInputs) {
  for (const Precision precision : {Precision::fp32, Precision::bf16}) {
    const auto exact = backend(precision, Packed::exact);
    for (const Codes codes : kAllCodes) compare(*exact, make(37, 512, codes), 1, false);
    for (const std::int64_t rows : {2, 3, 4, 5, 16})
      compare(*exact, make(70, 256, Codes::random), rows, false);
  }
}

TEST_P(PackedProducts, Int8Inputs) {
  const auto int8 = backend(Precision::bf16, Packed::int8);
  for (const Codes codes : kAllCodes) compare(*int8, make(37, 512, codes), 5, true);
  for (const std::int64_t rows : {1, 2, 3, 16}) compare(*int8, make(70, 256, Codes::random), rows, true);
  // More rows than usual, as an evaluation of the int8 path has them.
  compare(*backend(Precision::bf16, Packed::int8, 1000), make(33, 256, Codes::random), 41, true);
}

TEST_P(PackedProducts, ManyRowsAreTheDenseProducts) {
  for (const Precision precision : {Precision::fp32, Precision::bf16}) {
    // Without bf16 products, the dense backend rounds weights to bf16 and the packed one has no reason to.
    if (precision == Precision::bf16 && cpu::kernels_of(std::get<1>(GetParam())).bf16 == nullptr) continue;
    const auto dense = backend(precision, Packed::off);
    const auto packed = backend(precision, Packed::int8);
    for (const auto& [out, in] : {std::pair<std::int64_t, std::int64_t>{70, 256}, {300, 512}}) {
      const StoredMatrix matrix = make(out, in, Codes::random);
      const std::int64_t rows = 150;
      const std::vector<float> values = hard_inputs(rows, in, 3);
      std::vector<std::vector<float>> results;
      for (Backend* one : {dense.get(), packed.get()}) {
        Array x = one->allocate(rows, in, Element::working);
        one->convert(one->upload(values, rows, in), rows, x);
        const auto weight = one->prepare(matrix, {});
        Array y = one->allocate(rows, out, Element::full);
        const Product product{weight.get(), &y, false};
        one->multiply(x, rows, {&product, 1});
        results.emplace_back(static_cast<std::size_t>(rows * out));
        one->download(y, 0, results.back());
      }
      // The same weights and inputs; the library may sum in another order.
      for (std::size_t i = 0; i < results[0].size(); ++i)
        ASSERT_NEAR(results[0][i], results[1][i], 1e-5 + 2e-5 * std::abs(results[0][i])) << i;
    }
  }
}

class PackedBackend : public testing::TestWithParam<std::string> {
 protected:
  static std::unique_ptr<Backend> backend(Precision precision, Packed packed) {
    return make_backend({.device = GetParam(), .precision = precision, .packed = packed});
  }
};

INSTANTIATE_TEST_SUITE_P(, PackedBackend, testing::ValuesIn(devices()),
                         [](const auto& one) { return test::name_of(one.param); });

// Dense weights, widths that are no multiple of a tile, biases, sums, activations and losses: what the
// dense backend makes of the same.
TEST_P(PackedBackend, DenseWeightsAndOddShapes) {
  for (const Precision precision : {Precision::fp32, Precision::bf16}) {
    for (const DType type : {DType::F32, DType::F16, DType::BF16}) {
      for (const auto& [out, in] : {std::pair<std::int64_t, std::int64_t>{45, 72}, {130, 33}, {1500, 64}}) {
        Random random(17);
        std::vector<std::uint16_t> halves(static_cast<std::size_t>(out * in));
        std::vector<float> floats(halves.size());
        for (std::size_t i = 0; i < halves.size(); ++i) {
          floats[i] = static_cast<float>(0.1 * random.normal());
          halves[i] = type == DType::F16 ? float_to_half(floats[i]) : float_to_bfloat16(floats[i]);
        }
        const TensorView view{
            type,
            {out, in},
            type == DType::F32 ? std::as_bytes(std::span(floats)) : std::as_bytes(std::span(halves))};
        std::vector<float> bias(static_cast<std::size_t>(out), 0.25f);
        for (const std::int64_t rows : {1, 7, 40}) {
          const std::vector<float> values = [&] {
            std::vector<float> x(static_cast<std::size_t>(rows * in));
            for (float& value : x) value = static_cast<float>(random.normal());
            return x;
          }();
          std::vector<std::vector<float>> sums, activated, losses;
          for (const Packed packed : {Packed::off, Packed::exact, Packed::int8}) {
            const auto one = backend(precision, packed);
            Array x = one->allocate(rows, in, Element::working);
            one->convert(one->upload(values, rows, in), rows, x);
            const auto weight = one->prepare(view, bias);
            EXPECT_GE(weight->bytes(),
                      static_cast<std::uint64_t>(
                          out * in * (type == DType::F32 && precision == Precision::fp32 ? 4 : 2)));
            Array y = one->allocate(rows, out, Element::full);
            const Product product{weight.get(), &y, true};
            one->multiply(x, rows, {&product, 1});
            one->multiply(x, rows, {&product, 1});
            sums.emplace_back(static_cast<std::size_t>(rows * out));
            one->download(y, 0, sums.back());
            Array z = one->allocate(rows, out, Element::working);
            one->activate(x, rows, weight.get(), *weight, Activation::silu, z);
            activated.emplace_back(sums.back().size());
            one->download(z, 0, activated.back());
            std::vector<std::int32_t> targets;
            for (std::int64_t r = 0; r < rows; ++r)
              targets.push_back(static_cast<std::int32_t>(r % 4 == 3 ? -1 : r % out));
            losses.emplace_back(static_cast<std::size_t>(rows));
            const auto head = one->prepare(view, {});
            one->losses(x, {head.get()}, targets, losses.back());
          }
          const double tolerance = precision == Precision::fp32 ? 1e-5 : 2e-2;
          for (std::size_t p = 1; p < sums.size(); ++p) {
            for (std::size_t i = 0; i < sums[0].size(); ++i) {
              ASSERT_NEAR(sums[0][i], sums[p][i], 1e-5 * (1 + std::abs(sums[0][i])));
              ASSERT_NEAR(activated[0][i], activated[p][i], tolerance * (1 + std::abs(activated[0][i])));
            }
            for (std::size_t i = 0; i < losses[0].size(); ++i)
              ASSERT_NEAR(losses[0][i], losses[p][i], 1e-5 * 10);
          }
        }
      }
    }
  }
}

// A group that is no multiple of 32 columns has no panels: it is multiplied as dense numbers.
TEST_P(PackedBackend, FormsWithoutPanels) {
  const StoredMatrix odd = test::affine_matrix(40, 96, 4, 48, false, 0, Codes::random, 3);
  EXPECT_FALSE(cpu::packed_view(odd));
  const StoredMatrix crossing = test::nf4_matrix(40, 96, Codes::random, 3);
  EXPECT_FALSE(cpu::packed_view(crossing));
  const StoredMatrix row = test::affine_matrix(40, 100, 4, 0, false, 0, Codes::random, 3);
  EXPECT_TRUE(cpu::packed_view(row));
  for (const StoredMatrix& matrix : {odd, crossing, row}) {
    const std::int64_t in = cols_of(matrix);
    std::vector<float> x(static_cast<std::size_t>(in), 0.5f);
    x[3] = -1;
    std::vector<std::vector<float>> results;
    for (const Packed packed : {Packed::off, Packed::exact}) {
      const auto one = backend(Precision::fp32, packed);
      Array input = one->allocate(1, in, Element::working);
      one->convert(one->upload(x, 1, in), 1, input);
      const auto weight = one->prepare(matrix, {});
      Array y = one->allocate(1, 40, Element::full);
      const Product product{weight.get(), &y, false};
      one->multiply(input, 1, {&product, 1});
      results.emplace_back(40);
      one->download(y, 0, results.back());
    }
    for (std::size_t i = 0; i < 40; ++i) EXPECT_NEAR(results[0][i], results[1][i], 1e-4);
  }
}

// Mixed products over one input: what each gives alone, whatever the number of threads.
TEST_P(PackedBackend, ThreadsAndNeighboursChangeNothing) {
  const StoredMatrix a = test::affine_matrix(300, 256, 2, 64, false, 0, Codes::random, 1);
  const StoredMatrix b = test::ggml_matrix(GgmlType::Q3_K, 90, 256, Codes::random, 2);
  std::vector<float> x(256 * 3);
  Random random(8);
  for (float& value : x) value = static_cast<float>(random.normal());
  std::vector<std::vector<float>> results;
  for (const int threads : {1, 2, 5}) {
    work_with_threads(threads);
    const auto one = backend(Precision::bf16, Packed::int8);
    Array input = one->allocate(3, 256, Element::working);
    one->convert(one->upload(x, 3, 256), 3, input);
    const auto first = one->prepare(a, {});
    const auto second = one->prepare(b, {});
    Array y = one->allocate(3, 300, Element::full);
    Array z = one->allocate(3, 90, Element::full);
    const std::vector<Product> both = {{first.get(), &y, false}, {second.get(), &z, false}};
    one->multiply(input, 3, both);
    results.emplace_back(3 * 390);
    one->download(y, 0, std::span(results.back()).first(900));
    one->download(z, 0, std::span(results.back()).subspan(900));
    Array alone = one->allocate(3, 90, Element::full);
    const Product product{second.get(), &alone, false};
    one->multiply(input, 3, {&product, 1});
    std::vector<float> of_second(270);
    one->download(alone, 0, of_second);
    EXPECT_TRUE(std::equal(of_second.begin(), of_second.end(), results.back().begin() + 900));
  }
  work_with_threads(0);
  EXPECT_EQ(results[0], results[1]);
  EXPECT_EQ(results[0], results[2]);
}

}  // namespace
}  // namespace knapsaq
