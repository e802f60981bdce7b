#include "knapsaq/export/publication.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include <fmt/format.h>

#include "knapsaq/base/error.h"
#include "knapsaq/export/carried.h"
#include "knapsaq/family/family.h"

namespace knapsaq {
namespace {

/// Copies the rows of one field of a part to their places in the whole.
template <class T>
void place_rows(const std::vector<T>& from, const RowPattern& rows, std::int64_t all, std::vector<T>& to) {
  if (from.empty()) return;
  const std::size_t width = from.size() / static_cast<std::size_t>(rows.rows());
  to.resize(width * static_cast<std::size_t>(all));
  const T* next = from.data();
  for (std::int64_t repeat = 0; repeat < rows.repeats; ++repeat) {
    const std::size_t run = static_cast<std::size_t>(rows.count) * width;
    std::copy_n(next, run,
                to.begin() + static_cast<std::ptrdiff_t>(
                                 static_cast<std::size_t>(rows.first + repeat * rows.stride) * width));
    next += run;
  }
}

bool stored_alike(const PlannedLinear& one, const PlannedLinear& other) {
  return one.quantized == other.quantized && one.unpacked == other.unpacked &&
         (!one.quantized || one.form == other.form);
}

}  // namespace

Publication::Publication(const Checkpoint& model, const ModelConfig& config) : prefix_(model.prefix()) {
  const Family& family = family_of(config);
  if (family.published != nullptr) modules_ = family.published(config);
  for (const PublishedModule& module : modules_)
    for (const PublishedModule::Part& part : module.parts) of_part_[part.name] = &module;
}

const PublishedModule* Publication::of(std::string_view module) const {
  const auto found = of_part_.find(module);
  return found == of_part_.end() ? nullptr : found->second;
}

std::string Publication::prefixed(std::string_view name) const {
  constexpr std::string_view kUsual = "model.";
  constexpr std::string_view kHead = "lm_head.";
  if (prefix_.empty()) return std::string(name);
  if (name.starts_with(kUsual)) return fmt::format("{}{}", prefix_, name.substr(kUsual.size()));
  // In "language_model.model." the head is beside the model.
  if (prefix_ == "language_model.model." && (name.starts_with(kHead) || name == kHeadModule))
    return fmt::format("language_model.{}", name);
  return std::string(name);
}

std::vector<PublishedLinear> publish(const std::vector<PlannedLinear>& plan, const Publication& publication) {
  std::vector<PublishedLinear> published;
  std::unordered_map<const PublishedModule*, std::size_t> places;
  for (const PlannedLinear& planned : plan) {
    const PublishedModule* module = publication.of(planned.linear.name);
    if (module == nullptr) {
      PublishedLinear& one = published.emplace_back(PublishedLinear{planned, {{planned, {}}}});
      one.planned.linear.name = publication.prefixed(planned.linear.name);
      continue;
    }
    if (module->stacked && planned.quantized)
      throw UsageError(
          fmt::format("{} is one of a stack, {}, which this format cannot hold quantized: export to another "
                      "format",
                      planned.linear.name, module->name));
    const auto part = std::ranges::find(module->parts, planned.linear.name, &PublishedModule::Part::name);
    const auto [place, is_new] = places.try_emplace(module, published.size());
    if (is_new) {
      PublishedLinear& one = published.emplace_back(PublishedLinear{planned, {}});
      one.planned.linear.name = publication.prefixed(module->name);
      one.planned.linear.out = 0;
    }
    PublishedLinear& whole = published[place->second];
    if (!stored_alike(whole.planned, planned))
      throw UsageError(
          fmt::format("{} and {} are one matrix in this model's files and are stored differently: quantize "
                      "them alike (search and fit with --for do)",
                      whole.parts.front().planned.linear.name, planned.linear.name));
    whole.planned.linear.out += planned.linear.out;
    whole.parts.push_back({planned, part->rows});
  }
  return published;
}

PackedMatrix load_published(const Checkpoint& model, const PublishedLinear& linear) {
  if (linear.parts.size() == 1) return load_planned(model, linear.parts.front().planned);
  PackedMatrix whole;
  const std::int64_t rows = linear.planned.linear.out;
  for (const PublishedLinear::Part& part : linear.parts) {
    const PackedMatrix matrix = load_planned(model, part.planned);
    if (whole.rows == 0) {
      whole.cols = matrix.cols;
      whole.bits = matrix.bits;
      whole.group = matrix.group;
      whole.meta_bits = matrix.meta_bits;
      whole.meta_group = matrix.meta_group;
      whole.rows = rows;
    }
    place_rows(matrix.codes, part.rows, rows, whole.codes);
    place_rows(matrix.scales, part.rows, rows, whole.scales);
    place_rows(matrix.biases, part.rows, rows, whole.biases);
    place_rows(matrix.scale_codes, part.rows, rows, whole.scale_codes);
    place_rows(matrix.zero_codes, part.rows, rows, whole.zero_codes);
    place_rows(matrix.scale_steps, part.rows, rows, whole.scale_steps);
    place_rows(matrix.scale_mins, part.rows, rows, whole.scale_mins);
  }
  return whole;
}

std::vector<DenseTensor> publish_dense(std::span<const TensorSpec> tensors, const Publication& publication) {
  std::vector<DenseTensor> published;
  std::unordered_map<std::string, std::size_t> places;
  for (const TensorSpec& stored : tensors) {
    const std::string& tensor = stored.name;
    const std::size_t dot = tensor.rfind('.');
    const std::string module = tensor.substr(0, dot);
    const std::string ending = tensor.substr(dot);
    const PublishedModule* whole = publication.of(module);
    TensorSpec spec = stored;
    if (whole == nullptr) {
      spec.name = publication.prefixed(tensor);
      published.push_back({.spec = std::move(spec), .parts = {{tensor, {}}}});
      continue;
    }
    const auto part = std::ranges::find(whole->parts, module, &PublishedModule::Part::name);
    const std::string name = publication.prefixed(whole->name + (!whole->stacked     ? ending
                                                                 : ending == ".bias" ? "_bias"
                                                                                     : ""));
    const auto [place, is_new] = places.try_emplace(name, published.size());
    if (is_new) {
      published.push_back({.spec = {name, spec.type, spec.shape},
                           .parts = {},
                           .transposed = whole->transposed && ending == ".weight"});
      if (part->rows.count != 0) published.back().spec.shape[0] = 0;
    }
    DenseTensor& one = published[place->second];
    if (one.spec.type != spec.type)
      throw InputError(fmt::format("{} and {} are one tensor in this model's files, but of different types",
                                   one.parts.front().tensor, tensor));
    if (part->rows.count != 0) one.spec.shape[0] += spec.shape[0];
    one.parts.push_back({tensor, part->rows});
  }
  // Stacks get their shape when all their parts are known.
  for (const auto& [name, index] : places) {
    DenseTensor& one = published[index];
    const std::string& first = one.parts.front().tensor;
    const PublishedModule& whole = *publication.of(first.substr(0, first.rfind('.')));
    if (one.parts.size() != whole.parts.size())
      throw InputError(fmt::format(
          "{} is one tensor in this model's files: keep all its parts as they are, or none", one.spec.name));
    if (!whole.stacked) continue;
    one.spec.shape[0] /= whole.stacks;
    if (one.transposed) std::swap(one.spec.shape[0], one.spec.shape[1]);
    one.spec.shape.insert(one.spec.shape.begin(), whole.stacks);
  }
  return published;
}

void write_dense(const DenseTensor& tensor, const Checkpoint& model, CheckpointWriter& writer) {
  if (tensor.parts.size() == 1 && !tensor.transposed) {
    const std::string& name = tensor.parts.front().tensor;
    const std::string module = name.substr(0, name.rfind('.'));
    carry_tensor(model, name, writer, std::span(&module, 1));
    return model.release(name);
  }
  std::vector<std::byte> whole(tensor.spec.bytes());
  const std::vector<std::int64_t>& shape = tensor.spec.shape;
  const std::size_t element = size_of(tensor.spec.type);
  const std::size_t width = tensor.transposed ? static_cast<std::size_t>(shape[1]) : 0;
  for (const DenseTensor::Part& part : tensor.parts) {
    const TensorView view = model.tensor(part.tensor);
    const std::vector<float> checked = model.floats(part.tensor);  // throws for what is not finite
    const std::size_t row_bytes = view.bytes.size() / static_cast<std::size_t>(part.rows.rows());
    const std::byte* from = view.bytes.data();
    for (std::int64_t repeat = 0; repeat < part.rows.repeats; ++repeat) {
      for (std::int64_t i = 0; i < part.rows.count; ++i, from += row_bytes) {
        const auto row = static_cast<std::size_t>(part.rows.first + repeat * part.rows.stride + i);
        if (!tensor.transposed) {
          std::memcpy(whole.data() + row * row_bytes, from, row_bytes);
          continue;
        }
        const auto of_stack = static_cast<std::size_t>(shape[2]);
        std::byte* const matrix = whole.data() + row / of_stack * of_stack * row_bytes;
        for (std::size_t col = 0; col < width; ++col)
          std::memcpy(matrix + (col * of_stack + row % of_stack) * element, from + col * element, element);
      }
    }
    model.release(part.tensor);
  }
  writer.write(whole);
}

}  // namespace knapsaq
