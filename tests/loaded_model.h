#pragma once

#include <filesystem>
#include <memory>

#include "knapsaq/checkpoint/checkpoint.h"
#include "knapsaq/compute/backend.h"
#include "knapsaq/model/decoder.h"
#include "test_models.h"

namespace knapsaq {

/// A decoder with what it needs.
struct LoadedModel {
  explicit LoadedModel(const std::filesystem::path& folder, Precision precision = Precision::fp32,
                       CpuKernels kernels = best_cpu_kernels())
      : checkpoint(Checkpoint::open(folder)),
        config(parse_model_config(checkpoint.config())),
        backend(make_cpu_backend(precision, kernels)),
        decoder(Decoder::load(checkpoint, config, *backend)) {}
  Checkpoint checkpoint;
  ModelConfig config;
  std::unique_ptr<Backend> backend;
  Decoder decoder;
};

}  // namespace knapsaq
