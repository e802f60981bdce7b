// Writes a checkpoint of any shape with random weights, for benchmarks: what a model costs to read, to
// quantize and to run does not depend on what it has learnt. With a tokenizer that knows bytes and pairs of
// them, so that it can be exported.
//
//   random_model /tmp/random-0.37b                       Llama, 0.37 B
//   random_model /tmp/random-1.1b --llama-1.1b          TinyLlama's shape

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <map>
#include <span>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "knapsaq/base/atomic_folder.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"
#include "knapsaq/base/float16.h"
#include "knapsaq/base/random.h"
#include "knapsaq/base/threads.h"
#include "knapsaq/base/units.h"
#include "knapsaq/checkpoint/shards.h"
#include "knapsaq/model/architecture.h"
#include "knapsaq/model/expected_tensors.h"
#include "knapsaq/text/byte_alphabet.h"

namespace {

using namespace knapsaq;
using nlohmann::json;

struct Options {
  std::string folder;
  std::string arch = "llama";
  std::int64_t hidden = 1024;
  std::int64_t layers = 24;
  std::int64_t ffn = 2816;
  std::int64_t heads = 16;
  std::int64_t kv_heads = 0;
  std::int64_t vocab = 32000;
  std::int64_t positions = 2048;
  std::string dtype = "bf16";
  std::uint64_t seed = 1;
  bool tied = false;
  bool force = false;
};

constexpr double kDeviation = 0.02;  // initializer_range of most models
constexpr std::uint64_t kShardSize = std::uint64_t{2}
                                     << 30;  // shards from 2 GiB on, so that the index is used
constexpr std::int64_t kPiece = 1 << 16;  // elements with a random state of their own, whatever the threads
constexpr std::int64_t kPieces = 64;      // pieces in memory at a time

json make_config(const Options& options) {
  static const std::map<std::string, std::string> kNames{{"opt", "OPTForCausalLM"},
                                                         {"llama", "LlamaForCausalLM"},
                                                         {"mistral", "MistralForCausalLM"},
                                                         {"qwen2", "Qwen2ForCausalLM"},
                                                         {"qwen3", "Qwen3ForCausalLM"}};
  json config{{"architectures", {kNames.at(options.arch)}},
              {"model_type", options.arch},
              {"hidden_size", options.hidden},
              {"num_hidden_layers", options.layers},
              {"num_attention_heads", options.heads},
              {"vocab_size", options.vocab},
              {"max_position_embeddings", options.positions},
              {"tie_word_embeddings", options.tied},
              {"torch_dtype", options.dtype == "f32"   ? "float32"
                              : options.dtype == "f16" ? "float16"
                                                       : "bfloat16"}};
  if (options.arch == "opt") {
    config["ffn_dim"] = options.ffn;
    config["activation_function"] = "relu";
    config["word_embed_proj_dim"] = options.hidden;
  } else {
    config["intermediate_size"] = options.ffn;
    config["num_key_value_heads"] = options.kv_heads == 0 ? options.heads : options.kv_heads;
    config["head_dim"] = options.hidden / options.heads;
    config["hidden_act"] = "silu";
    config["rms_norm_eps"] = 1e-5;
    config["rope_theta"] = 10000.0;
    if (options.arch == "mistral") config["sliding_window"] = nullptr;
  }
  return config;
}

void put(std::byte* out, DType type, double value) {
  if (type == DType::F32) {
    const auto word = static_cast<float>(value);
    std::memcpy(out, &word, sizeof word);
  } else {
    const auto single = static_cast<float>(value);
    const std::uint16_t word = type == DType::F16 ? float_to_half(single) : float_to_bfloat16(single);
    std::memcpy(out, &word, sizeof word);
  }
}

/// Norms are ones, biases zeros, the rest is normal.
void write_tensor(CheckpointWriter& writer, const TensorSpec& spec, std::uint64_t seed,
                  std::uint64_t& piece) {
  const bool is_bias = spec.name.ends_with(".bias");
  const bool is_norm = spec.name.find("norm") != spec.name.npos;
  const std::size_t size = size_of(spec.type);
  const auto elements = static_cast<std::int64_t>(spec.bytes() / size);
  std::vector<std::byte> buffer;
  for (std::int64_t begin = 0; begin < elements; begin += kPiece * kPieces) {
    const std::int64_t count = std::min(elements - begin, kPiece * kPieces);
    const std::int64_t pieces = (count + kPiece - 1) / kPiece;
    buffer.resize(static_cast<std::size_t>(count) * size);
    parallel_for(static_cast<std::size_t>(pieces), [&](std::size_t index) {
      // Any odd constant keeps the states of different pieces and seeds apart.
      Random random(seed * 0x9E3779B97F4A7C15u + piece + index);
      const std::int64_t first = static_cast<std::int64_t>(index) * kPiece;
      for (std::int64_t i = first; i < std::min(first + kPiece, count); ++i) {
        const double value = is_bias ? 0.0 : is_norm ? 1.0 : kDeviation * random.normal();
        put(&buffer[static_cast<std::size_t>(i) * size], spec.type, value);
      }
    });
    piece += static_cast<std::uint64_t>(pieces);
    writer.write(buffer);
  }
}

/// A byte-level BPE of an end of text, all bytes, and as many pairs of them as the vocabulary has room for.
json make_tokenizer(std::int64_t vocab) {
  const std::string end = "<|endoftext|>";
  const ByteAlphabet& alphabet = ByteAlphabet::instance();
  const auto character = [&](std::int64_t byte) {
    return alphabet.character(static_cast<unsigned char>(byte));
  };
  json tokens{{end, 0}};
  json merges = json::array();
  for (std::int64_t byte = 0; byte < 256; ++byte) tokens[character(byte)] = byte + 1;
  for (std::int64_t pair = 0; pair < std::min<std::int64_t>(vocab - 257, 256 * 256); ++pair) {
    const std::string first = character(pair / 256);
    const std::string second = character(pair % 256);
    tokens[first + second] = 257 + pair;
    merges.push_back(first + " " + second);
  }
  const json byte_level{{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}};
  return {{"version", "1.0"},
          {"added_tokens", {{{"id", 0}, {"content", end}, {"special", true}}}},
          {"normalizer", nullptr},
          {"pre_tokenizer", byte_level},
          {"post_processor", nullptr},
          {"decoder", byte_level},
          {"model", {{"type", "BPE"}, {"vocab", tokens}, {"merges", merges}}}};
}

void run(const Options& options) {
  const json json_config = make_config(options);
  const ModelConfig config = parse_model_config(json_config);
  const DType type = options.dtype == "f32" ? DType::F32 : options.dtype == "f16" ? DType::F16 : DType::BF16;
  std::vector<TensorSpec> tensors;
  for (const ExpectedTensor& tensor : dense_tensors(config))
    tensors.push_back({tensor.name, type, tensor.shape});
  for (const Matrix& matrix : matrices(config))
    tensors.push_back({matrix.name + ".weight", type, {matrix.out, matrix.in}});

  AtomicFolder folder(options.folder, options.force);
  write_file(folder.staging() / "config.json", json_config.dump(2) + "\n");
  if (config.vocab > 257) {  // a smaller one has no room for the bytes
    write_file(folder.staging() / "tokenizer.json", make_tokenizer(config.vocab).dump());
    write_file(folder.staging() / "tokenizer_config.json", R"({"eos_token": "<|endoftext|>"})"
                                                           "\n");
  }
  CheckpointWriter writer(folder.staging(), tensors, kShardSize);
  std::uint64_t piece = 0;
  for (const TensorSpec& tensor : tensors) write_tensor(writer, tensor, options.seed, piece);
  writer.commit();
  folder.commit();
  fmt::print("{}: {}\n", options.folder, format_bytes(checkpoint_bytes(tensors, kShardSize)));
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app{"Writes a checkpoint with random weights"};
  app.add_option("folder", options.folder, "Folder to make")->required();
  app.add_option("--arch", options.arch)->check(CLI::IsMember({"opt", "llama", "mistral", "qwen2", "qwen3"}));
  app.add_option("--hidden", options.hidden);
  app.add_option("--layers", options.layers);
  app.add_option("--ffn", options.ffn);
  app.add_option("--heads", options.heads);
  app.add_option("--kv-heads", options.kv_heads, "Default: as many as heads");
  app.add_option("--vocab", options.vocab);
  app.add_option("--positions", options.positions);
  app.add_option("--dtype", options.dtype)->check(CLI::IsMember({"bf16", "f16", "f32"}));
  app.add_option("--seed", options.seed);
  app.add_flag_callback(
      "--llama-1.1b",
      [&] {
        options.hidden = 2048;
        options.layers = 22;
        options.heads = 32;
        options.kv_heads = 4;
        options.ffn = 5632;
      },
      "The shape of TinyLlama's 1.1 B");
  app.add_flag("--tied", options.tied, "One tensor for embedding and head");
  app.add_flag("--force", options.force, "Replace an existing folder");
  CLI11_PARSE(app, argc, argv);
  try {
    run(options);
  } catch (const Error& error) {
    fmt::print(stderr, "random_model: {}\n", error.what());
    return 1;
  }
  return 0;
}
