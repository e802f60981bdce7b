#include "arrays.h"

#include <cmath>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include <nanobind/stl/filesystem.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/unique_ptr.h>

#include "bindings.h"
#include "job.h"
#include "knapsaq/bank/error_table.h"
#include "knapsaq/calib/input_statistics.h"
#include "knapsaq/quant/quantizer.h"
#include "knapsaq/quant/scheme.h"

namespace nb = nanobind;

namespace knapsaq::python {
namespace {

std::vector<float> vector_of(const Input<float, 1>& array) {
  return {array.data(), array.data() + array.size()};
}

/// Statistics of inputs as Python has summed them up.
InputStatistics statistics(const Input<float, 1>& mean_square, const Input<float, 1>& mean_abs,
                           const Input<float, 1>& max_abs, const Input<float, 2>& second_moment,
                           std::uint64_t tokens) {
  InputStatistics inputs;
  inputs.width = static_cast<std::int64_t>(mean_square.size());
  inputs.tokens = tokens;
  inputs.mean_square = vector_of(mean_square);
  inputs.mean_abs = vector_of(mean_abs);
  inputs.max_abs = vector_of(max_abs);
  inputs.second_moment.assign(second_moment.data(), second_moment.data() + second_moment.size());
  return inputs;
}

/// The numbers of a quantized matrix, for NumPy.
struct Parts {
  std::vector<float> dequantized;
  std::vector<std::uint8_t> codes;
  std::vector<float> scales;
  std::vector<float> biases;
  std::vector<std::uint8_t> blocks;
  std::size_t rows = 0;
  std::size_t cols = 0;
  std::size_t groups = 0;
  std::size_t block_bytes = 0;
  double error = 0;
  std::uint64_t bytes = 0;
  std::string scheme;
};

struct TakeApart {
  Parts& parts;

  void operator()(const PackedMatrix& matrix) const {
    parts.groups = static_cast<std::size_t>(matrix.groups());
    const auto words = static_cast<std::size_t>(matrix.words_per_row());
    parts.codes.resize(parts.rows * parts.cols);
    parts.scales.resize(parts.rows * parts.groups);
    parts.biases.resize(parts.rows * parts.groups);
    for (std::size_t row = 0; row < parts.rows; ++row) {
      unpack_codes(std::span(matrix.codes).subspan(row * words, words), matrix.bits,
                   std::span(parts.codes).subspan(row * parts.cols, parts.cols));
      for (std::size_t group = 0; group < parts.groups; ++group) {
        const PackedMatrix::Affine affine =
            matrix.affine(static_cast<std::int64_t>(row), static_cast<std::int64_t>(group));
        parts.scales[row * parts.groups + group] = affine.scale;
        parts.biases[row * parts.groups + group] = affine.bias;
      }
    }
  }
  void operator()(const Nf4Matrix& matrix) const {
    parts.codes.resize(parts.rows * parts.cols);
    for (std::size_t i = 0; i < parts.codes.size(); ++i)
      parts.codes[i] = i % 2 == 0 ? matrix.codes[i / 2] >> 4U : matrix.codes[i / 2] & 15U;
    parts.groups = static_cast<std::size_t>(matrix.blocks());
    for (std::int64_t block = 0; block < matrix.blocks(); ++block)
      parts.scales.push_back(matrix.absmax(block));
  }
  void operator()(const GgmlMatrix& matrix) const {
    parts.block_bytes = static_cast<std::size_t>(matrix.row_bytes());
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(matrix.blocks.data());
    parts.blocks.assign(bytes, bytes + matrix.blocks.size());
  }
};

Parts quantized(const MatrixView& weights, const Scheme& scheme, const InputStatistics* inputs) {
  check_finite(weights, "the array");
  const StoredMatrix stored = quantize(weights, scheme, inputs);
  Parts parts;
  parts.rows = static_cast<std::size_t>(weights.rows);
  parts.cols = static_cast<std::size_t>(weights.cols);
  parts.scheme = to_string(scheme);
  parts.bytes = memory_of(stored);
  parts.dequantized.resize(parts.rows * parts.cols);
  for (std::int64_t row = 0; row < weights.rows; ++row)
    dequantize_row(
        stored, row,
        std::span(parts.dequantized).subspan(static_cast<std::size_t>(row) * parts.cols, parts.cols));
  parts.error = frobenius_error(weights, stored);
  std::visit(TakeApart{parts}, stored);
  return parts;
}

nb::dict as_dict(Parts parts) {
  nb::dict all;
  const bool has_codes = !parts.codes.empty();
  const bool affine = !parts.biases.empty();
  all["scheme"] = parts.scheme;
  all["bytes"] = parts.bytes;
  all["error"] = parts.error;
  all["dequantized"] = numpy_array(std::move(parts.dequantized), {parts.rows, parts.cols});
  all["codes"] = has_codes ? numpy_array(std::move(parts.codes), {parts.rows, parts.cols}) : nb::none();
  if (affine) {
    all["scales"] = numpy_array(std::move(parts.scales), {parts.rows, parts.groups});
    all["biases"] = numpy_array(std::move(parts.biases), {parts.rows, parts.groups});
  } else {
    all["scales"] = has_codes ? numpy_array(std::move(parts.scales), {parts.groups}) : nb::none();
    all["biases"] = nb::none();
  }
  all["blocks"] =
      has_codes ? nb::none() : numpy_array(std::move(parts.blocks), {parts.rows, parts.block_bytes});
  return all;
}

// `weights` lives as long as the call that waits for the job.
std::unique_ptr<Job> quantize_array(const Host& host, const Input<float, 2>& weights,
                                    const std::string& scheme_text,
                                    const std::optional<InputStatistics>& inputs) {
  const Scheme scheme = parse_scheme(scheme_text);
  const MatrixView view{static_cast<std::int64_t>(weights.shape(0)),
                        static_cast<std::int64_t>(weights.shape(1)),
                        std::span(weights.data(), weights.size())};
  auto port = std::make_shared<Port>(host.listens);
  return std::make_unique<Job>(port, host.listens, [=, threads = host.threads]() -> Job::Result {
    Environment environment({threads, port.get(), &port->cancellation()});
    const ExecutionScope scope(environment.execution());
    auto parts = std::make_shared<Parts>(quantized(view, scheme, inputs ? &*inputs : nullptr));
    return [parts] { return as_dict(std::move(*parts)); };
  });
}

/// Names, schemes and arrays [matrices, schemes] of an error table.
nb::dict read_table(const std::filesystem::path& path) {
  const ErrorTable table = read_csv(path);
  const std::size_t rows = table.rows.size();
  const std::size_t cols = table.menu.size();
  nb::list names;
  nb::list schemes;
  std::vector<std::int64_t> parameters;
  std::vector<double> fnorm;
  std::vector<double> relative;
  std::vector<double> hessian;
  std::vector<std::uint64_t> bytes;
  for (const Scheme& scheme : table.menu) schemes.append(to_string(scheme));
  for (const ErrorRow& row : table.rows) {
    names.append(row.name);
    parameters.push_back(row.parameters);
    for (const ErrorCell& cell : row.cells) {
      fnorm.push_back(cell.fnorm);
      relative.push_back(cell.relative);
      hessian.push_back(cell.hessian);
      bytes.push_back(cell.bytes);
    }
  }
  nb::dict all;
  all["matrices"] = names;
  all["schemes"] = schemes;
  all["parameters"] = numpy_array(std::move(parameters), {rows});
  all["fnorm"] = numpy_array(std::move(fnorm), {rows, cols});
  all["relative"] = numpy_array(std::move(relative), {rows, cols});
  all["hessian"] = numpy_array(std::move(hessian), {rows, cols});
  all["bytes"] = numpy_array(std::move(bytes), {rows, cols});
  return all;
}

}  // namespace

void bind_arrays(nb::module_& module) {
  nb::class_<InputStatistics>(module, "InputStatistics")
      .def(
          "__init__",
          [](InputStatistics* place, const Input<float, 1>& mean_square, const Input<float, 1>& mean_abs,
             const Input<float, 1>& max_abs, const Input<float, 2>& second_moment, std::uint64_t tokens) {
            new (place) InputStatistics(statistics(mean_square, mean_abs, max_abs, second_moment, tokens));
          },
          nb::arg("mean_square"), nb::arg("mean_abs"), nb::arg("max_abs"), nb::arg("second_moment"),
          nb::arg("tokens"));
  module.def("quantize_array", &quantize_array, nb::arg("host"), nb::arg("weights").noconvert(),
             nb::arg("scheme"), nb::arg("inputs").none());
  module.def("read_table", &read_table, nb::arg("path"));
}

}  // namespace knapsaq::python
