#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "knapsaq/checkpoint/checkpoint.h"
#include "knapsaq/compute/backend.h"
#include "knapsaq/model/decoder.h"
#include "test_models.h"

namespace knapsaq {

/// A decoder with what it needs.
struct LoadedModel {
  explicit LoadedModel(const std::filesystem::path& folder, Precision precision = Precision::fp32,
                       const std::string& device = "cpu")
      : checkpoint(Checkpoint::open(folder)),
        config(parse_model_config(checkpoint.config())),
        backend(make_backend({.device = device, .precision = precision})),
        decoder(Decoder::load(checkpoint, config, *backend)) {}
  Checkpoint checkpoint;
  ModelConfig config;
  std::unique_ptr<Backend> backend;
  Decoder decoder;
};

}  // namespace knapsaq
