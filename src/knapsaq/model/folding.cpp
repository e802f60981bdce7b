#include "knapsaq/model/folding.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <stdexcept>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "knapsaq/base/error.h"
#include "knapsaq/base/hash.h"
#include "knapsaq/base/json_text.h"
#include "knapsaq/base/quote.h"
#include "knapsaq/checkpoint/safetensors.h"
#include "knapsaq/model/architecture.h"

namespace knapsaq {
namespace {

constexpr std::string_view kAbout = "about";

/// The module of a tensor's name, and whether it is a weight (else a bias); empty for other names.
std::pair<std::string_view, bool> module_of(std::string_view tensor) {
  for (const std::string_view suffix : {".weight", ".bias"})
    if (tensor.ends_with(suffix))
      return {tensor.substr(0, tensor.size() - suffix.size()), suffix == ".weight"};
  return {};
}

}  // namespace

std::vector<FoldPoint> fold_points(const ModelConfig& config) {
  std::vector<FoldPoint> points;
  for (const Matrix& linear : linears(config)) {
    const std::optional<Feeder> feeder = feeder_of(config, linear);
    if (!feeder) continue;
    if (points.empty() || points.back().name != feeder->module)
      points.push_back({feeder->module, feeder->is_norm, linear.block, linear.in, {}});
    points.back().linears.push_back(linear.name);
  }
  return points;
}

Folding::Folding(const ModelConfig& config, std::string model, std::string origin)
    : model_(std::move(model)), origin_(std::move(origin)) {
  for (const FoldPoint& point : fold_points(config)) {
    widths_[point.name] = point.width;
    for (const std::string& linear : point.linears) point_of_[linear] = point.name;
  }
}

void Folding::set(std::string_view name, std::vector<float> scales) {
  const auto width = widths_.find(name);
  if (width == widths_.end())
    throw InputError(fmt::format("the model has no place to fold scales into {}", in_quotes(name)));
  if (static_cast<std::int64_t>(scales.size()) != width->second)
    throw InputError(
        fmt::format("{}: {} scales where {} belong", in_quotes(name), scales.size(), width->second));
  const auto bad = std::ranges::find_if_not(scales, [](float s) { return s > 0 && std::isfinite(s); });
  if (bad != scales.end())
    throw InputError(fmt::format("{}: scale {} is {}, not a positive number", in_quotes(name),
                                 bad - scales.begin(), *bad));
  scales_[width->first] = std::move(scales);
}

std::string Folding::identity() const {
  if (empty()) return "";
  Hasher hasher;
  const auto add = [&](std::string_view text) {
    // The size separates adjacent fields.
    hasher.update(std::to_string(text.size()) + ":");
    hasher.update(text);
  };
  add(model_);
  add(origin_);
  for (const auto& [name, scales] : scales_) {
    add(name);
    hasher.update(std::as_bytes(std::span(scales)));
  }
  return hasher.hex();
}

std::span<const float> Folding::input_scales(std::string_view linear) const {
  const auto point = point_of_.find(linear);
  if (point == point_of_.end()) return {};
  const auto scales = scales_.find(point->second);
  return scales == scales_.end() ? std::span<const float>() : std::span<const float>(scales->second);
}

bool Folding::touches(std::string_view tensor) const {
  const auto [module, weight] = module_of(tensor);
  return scales_.contains(module) || (weight && !input_scales(module).empty());
}

void Folding::apply(std::string_view tensor, std::span<float> values) const {
  const auto [module, weight] = module_of(tensor);
  const auto fits = [&](std::size_t size) {
    if (values.empty() || values.size() % size != 0)
      throw std::invalid_argument(fmt::format("{}: {} values for {} scales", tensor, values.size(), size));
  };
  if (const auto found = scales_.find(module); found != scales_.end()) {
    const std::vector<float>& scales = found->second;
    fits(scales.size());
    const std::size_t cols = values.size() / scales.size();
    if (!weight && cols != 1) throw std::invalid_argument(fmt::format("{}: is no vector", tensor));
    for (std::size_t row = 0; row < scales.size(); ++row)
      for (float& w : values.subspan(row * cols, cols)) w /= scales[row];
  }
  if (!weight) return;
  if (const std::span<const float> scales = input_scales(module); !scales.empty()) {
    fits(scales.size());
    for (std::size_t i = 0; i < values.size(); i += scales.size())
      for (std::size_t col = 0; col < scales.size(); ++col) values[i + col] *= scales[col];
  }
}

void Folding::save(const std::filesystem::path& path) const {
  const std::string about = nlohmann::json{{"model", model_}, {"origin", origin_}}.dump();
  std::vector<TensorSpec> specs{{std::string(kAbout), DType::U8, {static_cast<std::int64_t>(about.size())}}};
  for (const auto& [name, scales] : scales_)
    specs.push_back({name, DType::F32, {static_cast<std::int64_t>(scales.size())}});
  SafetensorsWriter writer(path, specs);
  writer.write(std::as_bytes(std::span(about)));
  for (const auto& [name, scales] : scales_) writer.write(std::as_bytes(std::span(scales)));
  writer.commit();
}

Folding Folding::load(const std::filesystem::path& path, const ModelConfig& config, std::string_view model) {
  // A fingerprint and a sentence.
  constexpr std::size_t kLongestAbout = 65536;
  const SafetensorsFile file(path);
  try {
    const auto found = file.tensors().find(kAbout);
    if (found == file.tensors().end() || found->second.type != DType::U8 ||
        found->second.bytes.size() > kLongestAbout)
      throw InputError("is not a folding of Knapsaq's");
    const std::span<const std::byte> bytes = found->second.bytes;
    const nlohmann::json about =
        parse_json(std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
    for (const char* key : {"model", "origin"})
      if (!about.is_object() || !about.contains(key) || !about[key].is_string())
        throw InputError(fmt::format("does not say its {}", key));
    if (about["model"] != model) throw InputError("was found for another model: make it anew from this one");
    Folding folding(config, about["model"], about["origin"]);
    for (const auto& [name, tensor] : file.tensors()) {
      if (name == kAbout) continue;
      if (tensor.type != DType::F32 || tensor.shape.size() != 1)
        throw InputError(fmt::format("tensor {} is not a vector in F32", in_quotes(name)));
      folding.set(name, read_floats(tensor));
    }
    return folding;
  } catch (const InputError& error) {
    throw InputError(fmt::format("{}: {}", path.string(), error.what()));
  }
}

}  // namespace knapsaq
