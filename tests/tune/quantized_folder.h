#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "knapsaq/bank/matrix_scheme.h"
#include "knapsaq/checkpoint/checkpoint.h"
#include "knapsaq/eval/referenced_windows.h"
#include "knapsaq/export/quantized_checkpoint.h"
#include "knapsaq/model/architecture.h"
#include "knapsaq/model/decoder.h"
#include "knapsaq/tune/tunable_model.h"
#include "random_model.h"
#include "scratch.h"

namespace knapsaq {

/// Random tokens, window after window.
inline std::vector<std::int32_t> random_tokens(std::int64_t count, std::int64_t vocab, std::uint64_t seed) {
  Random random(seed);
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(count));
  for (std::int32_t& token : tokens)
    token = static_cast<std::int32_t>(random.below(static_cast<std::uint64_t>(vocab)));
  return tokens;
}

/// A random model, some of its matrices quantized, both loaded, and what the full one makes of some windows.
struct QuantizedFolder {
  /// `schemes` by patterns of the matrices (is_named()).
  QuantizedFolder(const nlohmann::json& json, const std::map<std::string, std::string>& schemes,
                  DType type = DType::F32)
      : config(parse_model_config(json)) {
    write_random_model(scratch / "model", json, type);
    full.emplace(Checkpoint::open(scratch / "model"));
    std::vector<MatrixScheme> allocation;
    for (const Matrix& matrix : matrices(config))
      for (const auto& [pattern, scheme] : schemes)
        if (is_named(matrix, pattern)) allocation.push_back({matrix, parse_scheme(scheme)});
    write_quantized(*full, config, allocation, scratch / "quantized", false);
    quantized.emplace(Checkpoint::open(scratch / "quantized"));
    backend = make_backend({.precision = Precision::fp32});
    Decoder reference = Decoder::load(*full, config, *backend);
    train = reference_windows(reference, random_tokens(6 * 16, config.vocab, 2), 6, 16);
    heldout = reference_windows(reference, random_tokens(4 * 16, config.vocab, 3), 4, 16);
    decoder.emplace(Decoder::load(*quantized, config, *backend));
    model.emplace(*quantized, *decoder);
  }

  Scratch scratch;
  ModelConfig config;
  std::optional<Checkpoint> full;
  std::optional<Checkpoint> quantized;
  std::unique_ptr<Backend> backend;
  ReferencedWindows train;
  ReferencedWindows heldout;
  std::optional<Decoder> decoder;
  std::optional<TunableModel> model;
};

}  // namespace knapsaq
