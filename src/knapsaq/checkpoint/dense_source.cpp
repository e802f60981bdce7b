// The quantized matrices of a GGUF file as dense ones.

#include <map>
#include <mutex>
#include <set>
#include <span>
#include <utility>

#include <fmt/core.h>
#include <fmt/ranges.h>

#include "knapsaq/base/threads.h"
#include "knapsaq/checkpoint/checkpoint_source.h"
#include "knapsaq/compute/stored_matrix.h"

namespace knapsaq {
namespace {

constexpr std::string_view kWeight = ".weight";

/// Presents every quantized matrix of a GGUF file, which is one tensor in blocks, in F32, which holds the
/// decoded weights of all types exactly. A matrix is decoded when it is asked for and kept until it is
/// released.
class DenseSource final : public CheckpointSource {
 public:
  using Shapes = std::map<std::string, StoredShape, std::less<>>;

  /// `types`: names of the quantized matrices' types.
  DenseSource(std::unique_ptr<CheckpointSource> stored, Shapes shapes, const std::string& types)
      : CheckpointSource(stored->path()), stored_(std::move(stored)), shapes_(std::move(shapes)) {
    config_ = stored_->config();
    notes_ = stored_->notes();
    prefix_ = stored_->prefix();
    std::uint64_t bytes = 0;
    std::int64_t weights = 0;
    for (const auto& [module, shape] : shapes_) {
      for (const TensorSpec& part : tensors_of(module, shape)) bytes += part.bytes();
      weights += rows_of(shape) * cols_of(shape);
    }
    foreign_ = {fmt::format("GGUF in {}", types),
                8 * static_cast<double>(bytes) / static_cast<double>(weights)};
    notes_.push_back(
        fmt::format("quantizing from an already quantized source ({}): what its weights have lost stays "
                    "lost; the full-precision model gives a better result",
                    foreign_.format));
  }

  const Checkpoint::Foreign* foreign() const override { return &foreign_; }
  void visit_stored(const Visit& visit) const override { stored_->visit_stored(visit); }
  bool is_decoded(std::string_view name) const override { return shape_of_weight(name) != nullptr; }

  std::vector<std::string> names() const override { return stored_->names(); }
  bool contains(std::string_view name) const override { return stored_->contains(name); }
  TensorSpec spec(std::string_view name) const override {
    const StoredShape* shape = shape_of_weight(name);
    if (shape == nullptr) return stored_->spec(name);
    return {std::string(name), DType::F32, {rows_of(*shape), cols_of(*shape)}};
  }

  TensorView tensor(std::string_view name) const override {
    const TensorSpec spec = this->spec(name);
    const StoredShape* shape = shape_of_weight(name);
    if (shape == nullptr) return stored_->tensor(name);
    const std::lock_guard lock(mutex_);
    std::vector<float>& values = decoded_[std::string(name)];
    if (values.empty()) values = decode(module_of(name), *shape);
    return {spec.type, spec.shape, std::as_bytes(std::span(values))};
  }

  void release(std::string_view name) const override {
    if (shape_of_weight(name) == nullptr) return stored_->release(name);
    const std::lock_guard lock(mutex_);
    decoded_.erase(std::string(name));
  }

  /// What the weights take when they are loaded.
  std::uint64_t tensor_bytes() const override {
    std::uint64_t bytes = 0;
    for (const std::string& name : names()) bytes += spec(name).bytes();
    return bytes;
  }
  std::uint64_t file_bytes() const override { return stored_->file_bytes(); }
  std::optional<Checkpoint::Packing> packing(std::string_view /*module*/) const override {
    return std::nullopt;
  }
  StoredMatrix stored(std::string_view module, const StoredShape& shape) const override {
    return stored_->stored(module, shape);
  }

 private:
  static std::string_view module_of(std::string_view name) { return name.substr(0, name.rfind('.')); }

  const StoredShape* shape_of_weight(std::string_view name) const {
    if (!name.ends_with(kWeight)) return nullptr;
    const auto found = shapes_.find(module_of(name));
    return found == shapes_.end() ? nullptr : &found->second;
  }

  std::vector<float> decode(std::string_view module, const StoredShape& shape) const {
    const StoredMatrix matrix = stored_->stored(module, shape);
    const std::int64_t cols = cols_of(shape);
    std::vector<float> values(static_cast<std::size_t>(rows_of(shape) * cols));
    parallel_for(static_cast<std::size_t>(rows_of(shape)), [&](std::size_t row) {
      dequantize_row(
          matrix, static_cast<std::int64_t>(row),
          std::span(values).subspan(row * static_cast<std::size_t>(cols), static_cast<std::size_t>(cols)));
    });
    return values;
  }

  std::unique_ptr<CheckpointSource> stored_;
  Shapes shapes_;  ///< of the quantized matrices, by module
  Checkpoint::Foreign foreign_;
  mutable std::mutex mutex_;
  mutable std::map<std::string, std::vector<float>, std::less<>> decoded_;
};

}  // namespace

std::unique_ptr<CheckpointSource> decoded_source(std::unique_ptr<CheckpointSource> stored) {
  DenseSource::Shapes shapes;
  std::set<std::string> types;
  for (const std::string& name : stored->names()) {
    if (!name.ends_with(kWeight)) continue;
    std::string module = name.substr(0, name.size() - kWeight.size());
    if (auto packing = stored->packing(module)) {
      shapes.emplace(std::move(module), packing->shape);
      types.insert(std::move(packing->scheme));
    }
  }
  if (shapes.empty()) return stored;
  return std::make_unique<DenseSource>(std::move(stored), std::move(shapes),
                                       fmt::format("{}", fmt::join(types, ", ")));
}

}  // namespace knapsaq
