#include "knapsaq/checkpoint/checkpoint.h"

#include <array>
#include <fstream>
#include <utility>

#include <fmt/core.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/quote.h"
#include "knapsaq/checkpoint/checkpoint_source.h"
#include "knapsaq/checkpoint/gguf_file.h"

namespace knapsaq {

namespace fs = std::filesystem;

void CheckpointSource::refuse_name(std::string_view name) const {
  throw InputError(fmt::format("{}: there is no tensor {}", path_.string(), in_quotes(name)));
}

Checkpoint::Checkpoint(std::unique_ptr<CheckpointSource> source) : source_(std::move(source)) {}
Checkpoint::Checkpoint(Checkpoint&&) noexcept = default;
Checkpoint& Checkpoint::operator=(Checkpoint&&) noexcept = default;
Checkpoint::~Checkpoint() = default;

Checkpoint Checkpoint::open(const fs::path& path, As as) {
  if (!is_gguf_file(path)) return Checkpoint(open_folder_source(path));
  auto source = open_gguf_source(path);
  return Checkpoint(as == As::dense ? decoded_source(std::move(source)) : std::move(source));
}

const fs::path& Checkpoint::folder() const { return source_->path(); }

const nlohmann::json& Checkpoint::config() const { return source_->config(); }

const std::string& Checkpoint::prefix() const { return source_->prefix(); }
const std::vector<std::string>& Checkpoint::notes() const { return source_->notes(); }

std::vector<std::string> Checkpoint::names() const { return source_->names(); }

bool Checkpoint::contains(std::string_view name) const { return source_->contains(name); }

bool Checkpoint::is_decoded(std::string_view name) const { return source_->is_decoded(name); }

TensorSpec Checkpoint::spec(std::string_view name) const { return source_->spec(name); }

TensorView Checkpoint::tensor(std::string_view name) const { return source_->tensor(name); }

std::vector<float> Checkpoint::floats(std::string_view name) const {
  const TensorView view = source_->tensor(name);
  const auto fail = [&](const std::string& reason) {
    throw InputError(fmt::format("{}: tensor {} {}", folder().string(), in_quotes(name), reason));
  };
  if (!is_weight_type(view.type))
    fail(fmt::format("is of type {}; weights are F16, BF16 or F32", name_of(view.type)));
  std::vector<float> values = read_floats(view);
  if (const auto bad = first_not_finite(values))
    fail(
        fmt::format("has {} as element {}: the file is damaged, or the model is broken", values[*bad], *bad));
  return values;
}

void Checkpoint::release(std::string_view name) const { source_->release(name); }

std::uint64_t Checkpoint::tensor_bytes() const { return source_->tensor_bytes(); }
std::uint64_t Checkpoint::file_bytes() const { return source_->file_bytes(); }

const Checkpoint::Foreign* Checkpoint::foreign() const { return source_->foreign(); }

void CheckpointSource::visit_stored(const Visit& visit) const {
  for (const std::string& name : names()) {
    visit(name, tensor(name));
    release(name);
  }
}

void Checkpoint::visit_stored(const CheckpointSource::Visit& visit) const { source_->visit_stored(visit); }

std::optional<Checkpoint::Packing> Checkpoint::packing(std::string_view module) const {
  return source_->packing(module);
}

StoredMatrix Checkpoint::stored(std::string_view module) const {
  const std::optional<Packing> packing = source_->packing(module);
  if (!packing)
    throw InputError(fmt::format("{}: the linear {} is not quantized", folder().string(), in_quotes(module)));
  return source_->stored(module, packing->shape);
}

}  // namespace knapsaq
