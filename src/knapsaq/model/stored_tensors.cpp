#include "knapsaq/model/stored_tensors.h"

#include <algorithm>
#include <span>

#include "knapsaq/checkpoint/stored_layout.h"

namespace knapsaq {

std::vector<ExpectedTensor> stored_tensors(const Checkpoint& checkpoint, const ModelConfig& config) {
  std::vector<ExpectedTensor> tensors = dense_tensors(config);
  for (const Linear& linear : linears(config))
    tensors.push_back({linear.name + ".weight", {linear.out, linear.in}});
  const std::vector<std::int64_t> shape = {config.vocab, config.embedding};
  const bool has_embedding = checkpoint.contains(embedding_name(config));
  if (has_embedding || !config.tied) tensors.push_back({embedding_name(config), shape});
  if (!has_embedding || !config.tied) tensors.push_back({std::string(kHeadName), shape});
  std::sort(tensors.begin(), tensors.end(),
            [](const ExpectedTensor& a, const ExpectedTensor& b) { return a.name < b.name; });
  return tensors;
}

std::int64_t parameters(const Checkpoint& checkpoint, const ModelConfig& config) {
  std::int64_t sum = 0;
  for (const ExpectedTensor& tensor : stored_tensors(checkpoint, config)) {
    std::int64_t elements = 1;
    for (const std::int64_t extent : tensor.shape) elements *= extent;
    sum += elements;
  }
  return sum;
}

double linear_bits(const Checkpoint& checkpoint, const ModelConfig& config) {
  std::uint64_t bytes = 0;
  std::int64_t weights = 0;
  for (const Linear& linear : linears(config)) {
    weights += linear.parameters();
    if (!checkpoint.packing(linear.name)) {
      bytes += checkpoint.spec(linear.name + ".weight").bytes();
      continue;
    }
    for (const std::span<const std::byte> part : bytes_of(checkpoint.stored(linear.name)))
      bytes += part.size();
  }
  return 8 * static_cast<double>(bytes) / static_cast<double>(weights);
}

}  // namespace knapsaq
