#include "knapsaq/checkpoint/canonical_tensors.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/quote.h"

namespace knapsaq {
namespace {

/// Rows that a module's parts need.
std::int64_t end_of(const PublishedModule& module) {
  std::int64_t end = 0;
  for (const PublishedModule::Part& part : module.parts)
    end = std::max(end, part.rows.first + part.rows.stride * (part.rows.repeats - 1) + part.rows.count);
  return end;
}

/// What a stacked tensor of a module is called beyond the module's name, and the parts' tensors.
constexpr std::pair<std::string_view, std::string_view> kStackedEndings[] = {{"", ".weight"},
                                                                             {"_bias", ".bias"}};

}  // namespace

void CanonicalTensors::add(std::string name, std::string in_table) {
  const auto [place, added] = entries_.try_emplace(std::move(name), Entry{.in_table = std::move(in_table)});
  if (!added)
    throw InputError(fmt::format("{}: tensor {} is there both with and without a prefix", where_,
                                 in_quotes(place->first)));
}

void CanonicalTensors::rename(const std::string& name, std::string to) {
  auto entry = entries_.extract(name);
  entry.key() = std::move(to);
  entries_.insert(std::move(entry));
}

void CanonicalTensors::take_apart(const PublishedModule& module) {
  // A name that is a part's, too: the others are there if it has been taken apart, in files that Knapsaq
  // wrote.
  const bool is_part =
      std::ranges::find(module.parts, module.name, &PublishedModule::Part::name) != module.parts.end();
  if (is_part && std::ranges::any_of(module.parts, [&](const PublishedModule::Part& part) {
        return part.name != module.name && !endings(part.name + ".").empty();
      }))
    return;
  std::vector<std::pair<std::string, std::string>> endings;  // of the published tensor, and of the parts'
  if (module.stacked) {
    for (const auto& [published, own] : kStackedEndings)
      if (entries_.contains(module.name + std::string(published))) endings.emplace_back(published, own);
  } else {
    for (std::string& ending : this->endings(module.name + ".")) {
      // Of a module below this one.
      if (ending.find('.') != ending.npos) continue;
      endings.emplace_back("." + ending, "." + ending);
    }
  }
  for (const auto& [published, own] : endings) {
    const Entry whole = entries_.extract(module.name + published).mapped();
    if (whole.rows.count != 0)
      throw std::logic_error("published module of a published module: " + module.name);
    for (const PublishedModule::Part& part : module.parts) {
      Entry entry{.in_table = whole.in_table,
                  .rows = part.rows,
                  .stacked = module.stacked,
                  .transposed = module.transposed && own == ".weight"};
      if (part.rows.count != 0) {
        const TensorSpec spec = table_.spec(entry.in_table);
        const Rows found = rows_of(spec, entry);
        if (found.stacks * found.rows != end_of(module))
          throw InputError(fmt::format("{}: tensor {} has the shape [{}], but config.json asks for {} rows",
                                       where_, in_quotes(spec.name), fmt::join(spec.shape, ", "),
                                       end_of(module)));
      }
      if (!entries_.try_emplace(part.name + own, std::move(entry)).second)
        throw InputError(fmt::format("{}: tensor {} is there both alone and as a part of {}", where_,
                                     in_quotes(part.name + own), in_quotes(whole.in_table)));
      published_.try_emplace(part.name, module.name);
    }
  }
}

std::vector<std::string> CanonicalTensors::names() const {
  std::vector<std::string> names;
  names.reserve(entries_.size());
  for (const auto& [name, entry] : entries_) names.push_back(name);
  return names;
}

std::vector<std::string> CanonicalTensors::endings(std::string_view beginning) const {
  std::vector<std::string> endings;
  for (auto at = entries_.lower_bound(beginning); at != entries_.end() && at->first.starts_with(beginning);
       ++at)
    endings.push_back(at->first.substr(beginning.size()));
  return endings;
}

std::string_view CanonicalTensors::published_name(std::string_view module) const {
  const auto found = published_.find(module);
  return found == published_.end() ? std::string_view() : std::string_view(found->second);
}

CanonicalTensors::Rows CanonicalTensors::rows_of(const TensorSpec& spec, const Entry& entry) const {
  const std::vector<std::int64_t>& shape = spec.shape;
  const std::size_t outer = entry.stacked ? 1 : 0;
  if (shape.size() <= outer || shape.size() > outer + 2)
    throw InputError(fmt::format("{}: tensor {} has the shape [{}], which is not a {}", where_,
                                 in_quotes(spec.name), fmt::join(shape, ", "),
                                 entry.stacked ? "stack of matrices" : "matrix"));
  Rows rows{.stacks = entry.stacked ? shape[0] : 1, .rows = shape[outer]};
  if (shape.size() == outer + 2) rows.inputs = shape[outer + 1];
  if (entry.transposed) std::swap(rows.rows, rows.inputs);
  return rows;
}

TensorSpec CanonicalTensors::spec(std::string_view name) const {
  const Entry& entry = find(name);
  TensorSpec spec = table_.spec(entry.in_table);
  if (entry.rows.count != 0) {
    const Rows rows = rows_of(spec, entry);
    spec.shape = {entry.rows.rows()};
    if (rows.inputs != 0) spec.shape.push_back(rows.inputs);
  }
  spec.name = name;
  return spec;
}

std::vector<std::byte> CanonicalTensors::gather(const Entry& entry) const {
  const TensorSpec whole = table_.spec(entry.in_table);
  const Rows shape = rows_of(whole, entry);
  const std::size_t element = size_of(whole.type);
  const auto width = static_cast<std::size_t>(std::max<std::int64_t>(shape.inputs, 1));
  const std::size_t row_bytes = width * element;
  const RowPattern& rows = entry.rows;
  std::vector<std::byte> out(static_cast<std::size_t>(rows.rows()) * row_bytes);
  // The stacks that hold the rows, each of which is made once: parts of one expert are in one stack.
  const std::int64_t last = rows.first + rows.stride * (rows.repeats - 1) + rows.count - 1;
  const std::int64_t first_stack = rows.first / shape.rows;
  const std::int64_t stacks = last / shape.rows - first_stack + 1;
  const TensorTable::Slices some = entry.stacked
                                       ? table_.slices(entry.in_table, first_stack, stacks)
                                       : (entry.transposed ? table_.slices(entry.in_table, 0, shape.inputs)
                                                           : table_.slices(entry.in_table, 0, shape.rows));
  const std::byte* const from = some.view.bytes.data();
  std::byte* to = out.data();
  for (std::int64_t repeat = 0; repeat < rows.repeats; ++repeat) {
    for (std::int64_t i = 0; i < rows.count; ++i) {
      const auto row =
          static_cast<std::size_t>(rows.first + repeat * rows.stride + i - first_stack * shape.rows);
      if (!entry.transposed) {
        std::memcpy(to, from + row * row_bytes, row_bytes);
      } else {
        const auto of_stack = static_cast<std::size_t>(shape.rows);
        const std::byte* const matrix = from + row / of_stack * of_stack * row_bytes;
        for (std::size_t col = 0; col < width; ++col)
          std::memcpy(to + col * element, matrix + (col * of_stack + row % of_stack) * element, element);
      }
      to += row_bytes;
    }
  }
  return out;
}

TensorView CanonicalTensors::tensor(std::string_view name) const {
  const Entry& entry = find(name);
  if (entry.rows.count == 0) return table_.tensor(entry.in_table);
  const TensorSpec own = spec(name);
  if (entry.rows.is_run() && !entry.transposed && !table_.is_derived(entry.in_table)) {
    const std::span<const std::byte> all = table_.tensor(entry.in_table).bytes;
    const std::size_t row_bytes = own.bytes() / static_cast<std::uint64_t>(entry.rows.count);
    return {own.type, own.shape,
            all.subspan(static_cast<std::size_t>(entry.rows.first) * row_bytes,
                        static_cast<std::size_t>(own.bytes()))};
  }
  {
    const std::lock_guard lock(mutex_);
    if (const auto found = made_.find(name); found != made_.end())
      return {own.type, own.shape, found->second};
  }
  std::vector<std::byte> bytes = gather(entry);
  const std::lock_guard lock(mutex_);
  return {own.type, own.shape, made_.try_emplace(std::string(name), std::move(bytes)).first->second};
}

void CanonicalTensors::release(std::string_view name) const {
  table_.release(find(name).in_table);
  const std::lock_guard lock(mutex_);
  if (const auto found = made_.find(name); found != made_.end()) made_.erase(found);
}

const CanonicalTensors::Entry& CanonicalTensors::find(std::string_view name) const {
  const auto found = entries_.find(name);
  if (found == entries_.end()) throw std::out_of_range("CanonicalTensors: no tensor " + std::string(name));
  return found->second;
}

}  // namespace knapsaq
