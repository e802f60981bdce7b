#include "knapsaq/model/stored_tensors.h"

#include <algorithm>
#include <functional>
#include <set>
#include <span>
#include <string>

#include <fmt/format.h>

#include "knapsaq/base/quote.h"
#include "knapsaq/checkpoint/stored_layout.h"
#include "knapsaq/family/family.h"
#include "knapsaq/model/architecture.h"

namespace knapsaq {

std::vector<ExpectedTensor> stored_tensors(const ModelConfig& config) {
  std::vector<ExpectedTensor> tensors = dense_tensors(config);
  for (const Matrix& matrix : matrices(config))
    tensors.push_back({matrix.name + ".weight", {matrix.out, matrix.in}});
  std::sort(tensors.begin(), tensors.end(),
            [](const ExpectedTensor& a, const ExpectedTensor& b) { return a.name < b.name; });
  return tensors;
}

namespace {

/// Frequencies of rotary positions, and the causal mask of GPT-NeoX's old files with what stands for minus
/// infinity.
bool follows_from_config(std::string_view name) {
  return name.ends_with("rotary_emb.inv_freq") || name.ends_with(".attention.bias") ||
         name.ends_with(".attention.masked_bias");
}

/// Tensors that the decoder does not read and that say something of their own.
std::vector<std::string> others(const Checkpoint& checkpoint, const ModelConfig& config) {
  std::set<std::string, std::less<>> read;
  for (const ExpectedTensor& tensor : stored_tensors(config)) {
    read.insert(tensor.name);
    const std::string module = tensor.name.substr(0, tensor.name.rfind('.'));
    if (const auto packing = checkpoint.packing(module); packing && tensor.name.ends_with(".weight"))
      for (const TensorSpec& part : tensors_of(module, packing->shape)) read.insert(part.name);
  }
  std::vector<std::string> others;
  for (const std::string& name : checkpoint.names()) {
    const bool second_head = config.tied && name.starts_with("lm_head.");
    if (!read.contains(name) && !second_head && !follows_from_config(name)) others.push_back(name);
  }
  return others;
}

bool is_carried(const ModelConfig& config, std::string_view name) {
  // A multimodal model's other parts, but not an unknown tensor of its language model.
  if (!config.wrapper.empty() && !name.starts_with("model.layers.") && !name.starts_with("lm_head."))
    return true;
  return std::ranges::any_of(family_of(config).carried,
                             [&](std::string_view beginning) { return name.starts_with(beginning); });
}

}  // namespace

std::vector<std::string> carried_tensors(const Checkpoint& checkpoint, const ModelConfig& config) {
  std::vector<std::string> names = others(checkpoint, config);
  std::erase_if(names, [&](const std::string& name) { return !is_carried(config, name); });
  return names;
}

std::vector<std::string> unread_tensors(const Checkpoint& checkpoint, const ModelConfig& config) {
  std::vector<std::string> names = others(checkpoint, config);
  std::erase_if(names, [&](const std::string& name) { return is_carried(config, name); });
  return names;
}

std::vector<std::string> notes_about(const Checkpoint& checkpoint, const ModelConfig& config) {
  std::vector<std::string> notes = checkpoint.notes();
  const std::vector<std::string> unread = unread_tensors(checkpoint, config);
  if (unread.empty()) return notes;
  // A line, not a list: info --json has all names.
  constexpr std::size_t kShown = 4;
  std::string names;
  for (std::size_t i = 0; i < std::min(kShown, unread.size()); ++i)
    names += (names.empty() ? "" : ", ") + in_quotes(unread[i]);
  if (unread.size() > kShown) names += fmt::format(" and {} more", unread.size() - kShown);
  notes.push_back(fmt::format(
      "{} of the checkpoint {} no part of a {} as config.json describes it, and {} not read: {}",
      unread.size() == 1 ? "one tensor" : fmt::format("{} tensors", unread.size()),
      unread.size() == 1 ? "is" : "are", config.architecture, unread.size() == 1 ? "is" : "are", names));
  return notes;
}

std::int64_t parameters(const ModelConfig& config) {
  std::int64_t sum = 0;
  for (const ExpectedTensor& tensor : stored_tensors(config)) {
    std::int64_t elements = 1;
    for (const std::int64_t extent : tensor.shape) elements *= extent;
    sum += elements;
  }
  return sum;
}

double linear_bits(const Checkpoint& checkpoint, const ModelConfig& config) {
  std::uint64_t bytes = 0;
  std::int64_t weights = 0;
  for (const Matrix& linear : linears(config)) {
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
