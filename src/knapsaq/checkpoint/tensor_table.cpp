#include "knapsaq/checkpoint/tensor_table.h"

#include <algorithm>
#include <set>
#include <stdexcept>
#include <utility>

namespace knapsaq {
namespace {

/// Ends the key of a source that a derived tensor took the name of.
constexpr char kAside = '\n';

/// Bytes of one index of the outermost dimension.
std::size_t slice_bytes(const TensorSpec& spec) {
  return spec.shape.empty() || spec.shape[0] == 0
             ? 0
             : static_cast<std::size_t>(spec.bytes() / static_cast<std::uint64_t>(spec.shape[0]));
}

}  // namespace

bool TensorTable::add(std::string name, const TensorView& view, const MappedFile& file) {
  return entries_.emplace(std::move(name), Entry{view, &file, {}, {}, false}).second;
}

bool TensorTable::derive(DerivedTensor tensor) {
  for (const std::string& source : tensor.sources) {
    const auto found = entries_.find(source);
    if (found == entries_.end()) throw std::logic_error("TensorTable: no source " + source);
    found->second.is_source = true;
  }
  // A source may have the name that its floats get (FP8's weights do). It moves aside.
  const std::string& name = tensor.spec.name;
  const auto own = std::ranges::find(tensor.sources, name);
  if (own != tensor.sources.end()) {
    auto moved = entries_.extract(name);
    moved.key() = name + kAside;
    *own = moved.key();
    if (!entries_.insert(std::move(moved)).inserted) return false;
  }
  TensorView view{tensor.spec.type, tensor.spec.shape, {}};
  return entries_
      .emplace(name,
               Entry{std::move(view), nullptr, std::move(tensor.sources), std::move(tensor.make), false})
      .second;
}

void TensorTable::hide(std::string_view name) {
  if (const auto found = entries_.find(name); found != entries_.end()) found->second.is_source = true;
}

std::vector<std::string> TensorTable::names() const {
  std::vector<std::string> names;
  for (const auto& [name, entry] : entries_)
    if (!entry.is_source) names.push_back(name);
  return names;
}

bool TensorTable::contains(std::string_view name) const {
  const auto found = entries_.find(name);
  return found != entries_.end() && !found->second.is_source;
}

TensorSpec TensorTable::spec(std::string_view name) const {
  const TensorView& view = find(name).view;
  return {std::string(name), view.type, view.shape};
}

bool TensorTable::is_derived(std::string_view name) const { return find(name).file == nullptr; }

TensorView TensorTable::tensor(std::string_view name) const {
  const Entry& entry = find(name);
  if (entry.file != nullptr) return entry.view;
  TensorView view = entry.view;
  {
    const std::lock_guard lock(mutex_);
    if (const auto found = made_.find(name); found != made_.end()) {
      view.bytes = found->second;
      return view;
    }
  }
  // Not under the lock: `make` has loops of its own, and a thread that waited for it could hold an index of
  // the loop around it. Two threads may make the same; the first result is kept.
  std::vector<std::byte> bytes = entry.make(0, view.shape.empty() ? 1 : view.shape[0]);
  if (bytes.size() != spec(name).bytes())
    throw std::logic_error("TensorTable: wrong size of a derived tensor");
  for (const std::string& source : entry.sources) release(source);
  const std::lock_guard lock(mutex_);
  view.bytes = made_.try_emplace(std::string(name), std::move(bytes)).first->second;
  return view;
}

TensorTable::Slices TensorTable::slices(std::string_view name, std::int64_t first, std::int64_t count) const {
  const Entry& entry = find(name);
  const std::vector<std::int64_t>& shape = entry.view.shape;
  if (shape.empty() || first < 0 || count < 0 || first > shape[0] || count > shape[0] - first)
    throw std::out_of_range("TensorTable: slices outside a tensor");
  Slices out;
  out.view = entry.view;
  out.view.shape[0] = count;
  const std::size_t size = slice_bytes(spec(name));
  if (entry.file != nullptr) {
    out.view.bytes = entry.view.bytes.subspan(static_cast<std::size_t>(first) * size,
                                              static_cast<std::size_t>(count) * size);
  } else {
    out.made = entry.make(first, count);
    if (out.made.size() != static_cast<std::size_t>(count) * size)
      throw std::logic_error("TensorTable: wrong size of a part of a derived tensor");
    out.view.bytes = out.made;
  }
  return out;
}

void TensorTable::release(std::string_view name) const {
  const Entry& entry = find(name);
  if (entry.file == nullptr) {
    for (const std::string& source : entry.sources) release(source);
    const std::lock_guard lock(mutex_);
    if (const auto found = made_.find(name); found != made_.end()) made_.erase(found);
    return;
  }
  const std::span<const std::byte> all = entry.file->bytes();
  const std::span<const std::byte> part = entry.view.bytes;
  // A copy of a tensor that was not contiguous in its file must not be released: it exists nowhere else.
  const std::less_equal<const std::byte*> at_most;
  if (at_most(all.data(), part.data()) && at_most(part.data() + part.size(), all.data() + all.size()))
    entry.file->release(part);
}

std::uint64_t TensorTable::bytes() const {
  std::uint64_t bytes = 0;
  std::set<const std::byte*> seen;
  for (const auto& [name, entry] : entries_) {
    if (entry.is_source) continue;
    if (entry.file == nullptr) {
      bytes += spec(name).bytes();
    } else if (!entry.view.bytes.empty() && seen.insert(entry.view.bytes.data()).second) {
      // An empty tensor begins where its neighbour does.
      bytes += entry.view.bytes.size();
    }
  }
  return bytes;
}

void TensorTable::visit_stored(
    const std::function<void(const std::string&, const TensorView&)>& visit) const {
  for (const auto& [name, entry] : entries_) {
    if (entry.file == nullptr) continue;
    visit(name.ends_with(kAside) ? name.substr(0, name.size() - 1) : name, entry.view);
    release(name);
  }
}

const TensorTable::Entry& TensorTable::find(std::string_view name) const {
  const auto found = entries_.find(name);
  if (found == entries_.end()) throw std::out_of_range("TensorTable: no tensor " + std::string(name));
  return found->second;
}

}  // namespace knapsaq
