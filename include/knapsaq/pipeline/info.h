#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "knapsaq/pipeline/memory_use.h"
#include "knapsaq/pipeline/session.h"

namespace knapsaq {

/// A context whose memory is asked for.
struct InfoOptions {
  std::int64_t context = 0;  ///< tokens; 0: none
  std::string cache;         ///< how keys and values are stored; empty: the engine's default
  std::string engine;        ///< "llama.cpp", ..; empty: Knapsaq itself
};

/// What a model is and how its matrices are stored.
struct ModelInfo {
  struct StoredAs {
    std::string name;      ///< module path
    std::int64_t out = 0;  ///< rows
    std::int64_t in = 0;   ///< columns
    std::string scheme;    ///< "hqq:b3g64/m8g128", or the type of a dense one: "f16"
    std::string lattice;   ///< the smallest scheme on whose lattice some rows of a dense one lie: "q4_0"
    bool in_block = true;  ///< not embedding or head
    std::string role;      ///< "q", "down of experts"
  };
  /// Layers that are alike.
  struct LayerKind {
    std::string what;  ///< "attention in a window of 512, 8 experts (2 for a token)"
    std::int64_t count = 0;
  };
  /// Tensors that stay as they are.
  struct Carried {
    std::int64_t tensors = 0;
    std::uint64_t bytes = 0;
  };
  std::string architecture;
  std::string wrapper;        ///< the multimodal architecture whose language model it is; empty
  std::string quantized_as;   ///< by another tool: "GPTQ, 4 bits in groups of 128"; empty: not
  double quantized_bits = 0;  ///< of one of the weights that it quantized, in its files
  std::int64_t parameters = 0;
  std::uint64_t bytes = 0;  ///< of all tensors
  std::int64_t layers = 0;
  std::int64_t hidden = 0;
  std::int64_t heads = 0;
  std::int64_t kv_heads = 0;
  std::int64_t head_dim = 0;
  std::int64_t ffn = 0;
  std::int64_t vocabulary = 0;
  std::int64_t positions = 0;
  bool tied = false;                        ///< the head is the embedding
  std::vector<std::string> notes;           ///< what is remarkable about the files
  std::vector<std::string> unread_tensors;  ///< that the architecture has no use for
  std::vector<StoredAs> matrices;           ///< what can be quantized
  std::vector<LayerKind> layer_kinds;       ///< in the order of their first layers
  Carried dense;                            ///< norms, biases, routers: in every output
  Carried others;  ///< vision, predictors of further tokens: in outputs in Hugging Face layout
  std::optional<MemoryUse> memory;  ///< with InfoOptions::context: of this model as it is stored
};

/// Throws UsageError for a context that context_memory() refuses, and for a cache or an engine without one.
ModelInfo info(const Session& session, const InfoOptions& options = {});

}  // namespace knapsaq
