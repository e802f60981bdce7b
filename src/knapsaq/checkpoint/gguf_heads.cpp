#include "knapsaq/checkpoint/gguf_heads.h"

#include <algorithm>
#include <numeric>

namespace knapsaq {
namespace {

bool is_of(std::string_view tensor, std::string_view module) {
  const std::size_t at = tensor.find(module);
  if (at == tensor.npos) return false;
  const std::string_view rest = tensor.substr(at + module.size());
  return rest.empty() || rest.front() == '.';
}

/// `before` numbers as they are, then heads of `width`.
std::vector<std::int64_t> ordered(const Recurrence& delta, std::int64_t before, std::int64_t width) {
  std::vector<std::int64_t> order(static_cast<std::size_t>(before));
  std::iota(order.begin(), order.end(), 0);
  const std::int64_t shared = delta.value_heads / delta.key_heads;
  for (std::int64_t j = 0; j < shared; ++j)
    for (std::int64_t k = 0; k < delta.key_heads; ++k)
      for (std::int64_t i = 0; i < width; ++i) order.push_back(before + (k * shared + j) * width + i);
  return order;
}

}  // namespace

GgufHeads::GgufHeads(const ModelConfig& config) {
  for (const LayerConfig& layer : config.blocks)
    if (layer.mixer == Mixer::delta && layer.recurrence.value_heads != layer.recurrence.key_heads)
      delta_ = layer.recurrence;
}

std::vector<std::int64_t> GgufHeads::rows(std::string_view tensor) const {
  if (delta_.value_heads == 0) return {};
  for (const std::string_view module : {"linear_attn.in_proj_qkv", "linear_attn.conv1d"})
    if (is_of(tensor, module))
      return ordered(delta_, 2 * delta_.key_heads * delta_.key_dim, delta_.value_dim);
  if (is_of(tensor, "linear_attn.in_proj_z")) return ordered(delta_, 0, delta_.value_dim);
  for (const std::string_view module :
       {"linear_attn.in_proj_a", "linear_attn.in_proj_b", "linear_attn.A_log", "linear_attn.dt_bias"})
    if (is_of(tensor, module)) return ordered(delta_, 0, 1);
  return {};
}

std::vector<std::int64_t> GgufHeads::columns(std::string_view tensor) const {
  if (delta_.value_heads == 0 || !is_of(tensor, "linear_attn.out_proj")) return {};
  return ordered(delta_, 0, delta_.value_dim);
}

}  // namespace knapsaq
