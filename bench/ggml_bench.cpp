// Quantizes the linears of a model in a GGML type, decodes them and prints how fast, by the processor time of
// all threads, with those that the type can hold; with an output file, for tools/compare_ggml.py, also writes
// the blocks.

#include <cstdint>
#include <cstdio>
#include <ctime>
#include <exception>
#include <memory>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "knapsaq/checkpoint/checkpoint.h"
#include "knapsaq/checkpoint/safetensors.h"
#include "knapsaq/compute/ggml_matrix.h"
#include "knapsaq/model/architecture.h"
#include "knapsaq/quant/quantizer.h"
#include "work_with_threads.h"

namespace knapsaq {
namespace {

struct Arguments {
  std::string model;
  std::string type;
  std::string out;
  std::string importance;
  int threads = 0;
};

void run(const Arguments& arguments) {
  work_with_threads(arguments.threads);
  const Checkpoint checkpoint = Checkpoint::open(arguments.model);
  std::unique_ptr<SafetensorsFile> importance;
  if (!arguments.importance.empty()) importance = std::make_unique<SafetensorsFile>(arguments.importance);
  std::vector<TensorSpec> specs;
  std::vector<GgmlMatrix> matrices;
  double seconds = 0;
  double decode_seconds = 0;
  double bytes = 0;
  for (const Matrix& linear : linears(parse_model_config(checkpoint.config()))) {
    const std::vector<float> weights = checkpoint.floats(linear.name + ".weight");
    InputStatistics inputs;
    if (importance) {
      const TensorView squares = importance->tensors().at(linear.name);
      inputs.name = linear.name;
      inputs.width = linear.in;
      inputs.mean_square.resize(static_cast<std::size_t>(linear.in));
      read_floats(squares, 0, inputs.mean_square);
    }
    const Scheme scheme = fitting(parse_scheme(arguments.type), linear.in);
    const std::clock_t start = std::clock();
    matrices.push_back(std::get<GgmlMatrix>(
        quantize({linear.out, linear.in, weights}, scheme, importance ? &inputs : nullptr)));
    const double quantizing = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
    std::vector<float> row(static_cast<std::size_t>(linear.in));
    const std::clock_t decoding = std::clock();
    for (std::int64_t r = 0; r < linear.out; ++r) matrices.back().dequantize_row(r, row);
    if (scheme == parse_scheme(arguments.type)) {
      seconds += quantizing;
      decode_seconds += static_cast<double>(std::clock() - decoding) / CLOCKS_PER_SEC;
      bytes += static_cast<double>(weights.size() * sizeof(float));
    }
    specs.push_back({linear.name, DType::U8, {linear.out, matrices.back().row_bytes()}});
  }
  fmt::print("{}: {:.0f} MB of fp32 weights per second of one core, decoding {:.0f}\n", arguments.type,
             bytes / seconds / 1e6, bytes / decode_seconds / 1e6);
  if (arguments.out.empty()) return;
  SafetensorsWriter out(arguments.out, specs);
  for (const GgmlMatrix& matrix : matrices) out.write(matrix.blocks);
  out.commit();
}

}  // namespace
}  // namespace knapsaq

int main(int argc, char** argv) {
  knapsaq::Arguments arguments;
  CLI::App app("Quantizes a model's linears in a GGML type");
  app.add_option("model", arguments.model, "folder")->required();
  app.add_option("type", arguments.type, "q4_k, ...")->required();
  app.add_option("out", arguments.out, "safetensors file for the blocks");
  app.add_option("importance", arguments.importance,
                 "safetensors file with the mean squares of each linear's inputs");
  app.add_option("--threads", arguments.threads);
  CLI11_PARSE(app, argc, argv);
  try {
    knapsaq::run(arguments);
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
}
