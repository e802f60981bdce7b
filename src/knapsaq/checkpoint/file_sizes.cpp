#include "knapsaq/checkpoint/file_sizes.h"

#include <algorithm>
#include <stdexcept>

namespace knapsaq {
namespace {

/// Decimal digits.
std::uint64_t digits(std::uint64_t number) {
  std::uint64_t count = 1;
  for (; number >= 10; number /= 10) ++count;
  return count;
}

template <class Tensors>
std::uint64_t data_of(const Tensors& tensors) {
  std::uint64_t bytes = 0;
  for (const auto& tensor : tensors) bytes += tensor.bytes;
  return bytes;
}

/// Digits of the offsets of consecutive tensors, starting at `begin`.
template <class Tensors>
std::uint64_t digits_of(const Tensors& tensors, std::uint64_t begin) {
  std::uint64_t count = 0;
  std::uint64_t before = digits(begin);
  for (const auto& tensor : tensors) {
    begin += tensor.bytes;
    const std::uint64_t after = digits(begin);
    count += before + after;
    before = after;
  }
  return count;
}

/// The minimum and maximum of a number over the forms of a part.
struct Range {
  std::uint64_t least = 0;
  std::uint64_t most = 0;
};
template <class Forms, class Value>
Range range_of(const Forms& forms, Value&& value) {
  Range range{value(forms.front()), value(forms.front())};
  for (const auto& form : forms) {
    const std::uint64_t one = value(form);
    range = {std::min(range.least, one), std::max(range.most, one)};
  }
  return range;
}

}  // namespace

std::uint64_t SummedSizes::total(std::span<const std::size_t> forms) const {
  if (forms.size() != bytes_.size()) throw std::invalid_argument("file sizes: one form for each module");
  std::uint64_t sum = constant_;
  for (std::size_t module = 0; module < forms.size(); ++module) sum += bytes_[module].at(forms[module]);
  return sum;
}

FileSizes::Sum SummedSizes::sum_within(std::uint64_t /*budget*/) const {
  const auto constant = static_cast<std::int64_t>(constant_);
  return {bytes_, constant, constant};
}

CheckpointSizes::CheckpointSizes(std::span<const FilePart> parts, std::uint64_t shard_bytes)
    : shard_bytes_(shard_bytes) {
  for (const FilePart& part : parts) {
    if (part.forms.empty()) throw std::invalid_argument("file sizes: a part without forms");
    std::vector<Form>& forms = parts_.emplace_back();
    for (const std::vector<TensorSpec>& tensors : part.forms) {
      if (!part.module && !forms.empty()) break;  // nothing to choose
      Form& form = forms.emplace_back();
      for (const TensorSpec& tensor : tensors)
        form.push_back({tensor.bytes(), static_cast<std::uint32_t>(header_entry_bytes(tensor)),
                        static_cast<std::uint32_t>(index_entry_bytes(tensor.name))});
    }
    module_of_.push_back(part.module);
    if (!part.module) continue;
    if (part_of_.size() <= *part.module) part_of_.resize(*part.module + 1, parts.size());
    part_of_[*part.module] = parts_.size() - 1;
  }
  if (std::ranges::find(part_of_, parts.size()) != part_of_.end())
    throw std::invalid_argument("file sizes: a module without a part");
}

std::uint64_t CheckpointSizes::total(std::span<const std::size_t> forms) const {
  if (forms.size() != part_of_.size()) throw std::invalid_argument("file sizes: one form for every module");
  std::uint64_t files = 0;    // of the shards that are full
  std::uint64_t data = 0;     // of this shard
  std::uint64_t entries = 0;  // of its header
  std::uint64_t all_data = 0;
  std::uint64_t index = 0;
  bool empty = true;
  bool split = false;
  for (std::size_t p = 0; p < parts_.size(); ++p) {
    for (const Tensor& tensor : parts_[p][module_of_[p] ? forms[*module_of_[p]] : 0]) {
      if (!empty && data + tensor.bytes > shard_bytes_) {
        files += header_bytes(entries) + data;
        data = entries = 0;
        split = true;
      }
      empty = false;
      entries += tensor.header + digits(data) + digits(data + tensor.bytes);
      data += tensor.bytes;
      all_data += tensor.bytes;
      index += tensor.index;
    }
  }
  return files + header_bytes(entries) + data + (split ? index_bytes(index, all_data) : 0);
}

std::uint64_t CheckpointSizes::least_data() const {
  std::uint64_t least = 0;
  for (const std::vector<Form>& forms : parts_) least += range_of(forms, data_of<Form>).least;
  return least;
}

std::uint64_t CheckpointSizes::largest_tensor() const {
  std::uint64_t largest = 0;
  for (const std::vector<Form>& forms : parts_)
    for (const Form& form : forms)
      for (const Tensor& tensor : form) largest = std::max(largest, tensor.bytes);
  return largest;
}

/// The minimum that several shards take besides tensors and their entries in headers and index.
std::uint64_t CheckpointSizes::least_in_shards() const {
  const std::uint64_t data = least_data();
  // A tensor that is larger than a shard gets a shard of its own.
  const std::uint64_t most = std::max(shard_bytes_, largest_tensor());
  const std::uint64_t shards = std::max<std::uint64_t>(2, (data + most - 1) / most);
  return shards * unpadded_header_bytes(0) + index_bytes(0, data);
}

FileSizes::Sum CheckpointSizes::sum_within(std::uint64_t budget) const {
  // Everything that fits has at most this much data.
  std::uint64_t limit = 0;
  std::uint64_t tensors = 0;
  for (const std::vector<Form>& forms : parts_) {
    limit += range_of(forms, data_of<Form>).most;
    tensors += range_of(forms, [](const Form& form) { return form.size(); }).least;
  }
  limit = std::min(limit, budget);
  if (limit <= shard_bytes_) return sum_in_one_file(limit);
  const bool always_shards = least_data() > shard_bytes_ && tensors > 1;
  return sum_in_shards(limit, always_shards || (tensors > 1 && one_file_fits_sum_in_shards(budget)));
}

/// Whether choices that are one file are within the budget even with the index and the second header, which
/// they do not have.
bool CheckpointSizes::one_file_fits_sum_in_shards(std::uint64_t budget) const {
  const std::uint64_t most_digits = digits(std::max(shard_bytes_, largest_tensor()));
  std::uint64_t most = shard_bytes_ + least_in_shards();
  for (const std::vector<Form>& forms : parts_)
    most += range_of(forms, [&](const Form& form) {
              std::uint64_t text = 2 * most_digits * form.size();
              for (const Tensor& tensor : form) text += tensor.header + tensor.index;
              return text;
            }).most;
  return most <= budget;
}

/// Offsets grow with everything before them. They have at least the digits that they have after the smallest
/// forms, and at most those after the largest forms within `limit`.
FileSizes::Sum CheckpointSizes::sum_in_one_file(std::uint64_t limit) const {
  Sum sum;
  sum.bytes.resize(part_of_.size());
  std::uint64_t fixed = unpadded_header_bytes(0);
  std::uint64_t spread = 0;
  std::uint64_t least_begin = 0;
  std::uint64_t most_begin = 0;
  std::uint64_t least_rest = least_data();  // of this part and the later ones
  for (std::size_t p = 0; p < parts_.size(); ++p) {
    const std::vector<Form>& forms = parts_[p];
    const Range data = range_of(forms, data_of<Form>);
    most_begin = std::max(least_begin, std::min(most_begin, limit - std::min(limit, least_rest)));
    std::uint64_t wider = 0;
    for (const Form& form : forms) {
      const std::uint64_t least_digits = digits_of(form, least_begin);
      std::uint64_t bytes = data_of(form) + least_digits;
      for (const Tensor& tensor : form) bytes += tensor.header;
      wider = std::max(wider, digits_of(form, most_begin) - least_digits);
      if (module_of_[p]) {
        sum.bytes[*module_of_[p]].push_back(bytes);
      } else {
        fixed += bytes;
      }
    }
    spread += wider;
    least_begin += data.least;
    most_begin += data.most;
    least_rest -= data.least;
  }
  sum.least = static_cast<std::int64_t>(fixed);
  sum.most = static_cast<std::int64_t>(fixed + spread + kMostPadding);
  return sum;
}

/// Maximum number of consecutive tensors that together take less than `bytes`, whatever their forms.
std::uint64_t CheckpointSizes::most_tensors_below(std::uint64_t bytes) const {
  struct Part {
    std::uint64_t data = 0;     // least of a form
    std::uint64_t tensors = 0;  // most of a form
    std::uint64_t first =
        0;  // maximum number of tensors at the beginning of a form that take less than `bytes`
    std::uint64_t last = 0;  // and at its end
  };
  std::vector<Part> parts;
  std::uint64_t most = 0;
  for (const std::vector<Form>& forms : parts_) {
    Part& part = parts.emplace_back();
    part.data = range_of(forms, data_of<Form>).least;
    for (const Form& form : forms) {
      part.tensors = std::max<std::uint64_t>(part.tensors, form.size());
      for (std::size_t begin = 0; begin < form.size(); ++begin) {
        std::uint64_t data = 0;
        std::size_t end = begin;
        while (end < form.size() && data + form[end].bytes < bytes) data += form[end++].bytes;
        if (begin == 0) part.first = std::max<std::uint64_t>(part.first, end);
        if (end == form.size()) part.last = std::max<std::uint64_t>(part.last, end - begin);
        most = std::max<std::uint64_t>(most, end - begin);
      }
    }
  }
  for (std::size_t a = 0; a < parts.size(); ++a) {
    std::uint64_t tensors = parts[a].last;
    std::uint64_t data = 0;
    for (std::size_t b = a + 1; b < parts.size() && data < bytes; ++b) {
      most = std::max(most, tensors + parts[b].first);
      tensors += parts[b].tensors;
      data += parts[b].data;
    }
    if (data < bytes) most = std::max(most, tensors);
  }
  return most;
}

/// The places where shards begin are left open. Every offset has at most the digits of the largest one; only
/// as many as fit at the beginning of a shard can have fewer.
FileSizes::Sum CheckpointSizes::sum_in_shards(std::uint64_t limit, bool with_index) const {
  Sum sum;
  sum.bytes.resize(part_of_.size());
  const std::uint64_t largest = largest_tensor();
  const std::uint64_t most_digits = digits(std::max(shard_bytes_, largest));
  std::uint64_t fixed = 0;
  std::uint64_t most_index = 0;
  std::uint64_t tensors = 0;
  for (std::size_t p = 0; p < parts_.size(); ++p) {
    for (const Form& form : parts_[p]) {
      std::uint64_t bytes = 0;
      for (const Tensor& tensor : form)
        bytes += tensor.bytes + tensor.header + 2 * most_digits + (with_index ? tensor.index : 0);
      if (module_of_[p]) {
        sum.bytes[*module_of_[p]].push_back(bytes);
      } else {
        fixed += bytes;
      }
    }
    most_index += range_of(parts_[p], [](const Form& form) {
                    std::uint64_t index = 0;
                    for (const Tensor& tensor : form) index += tensor.index;
                    return index;
                  }).most;
    tensors += range_of(parts_[p], [](const Form& form) { return form.size(); }).most;
  }
  // A shard and the next one together exceed the limit of one, and every shard but the last leaves less room
  // than the largest tensor.
  std::uint64_t most_shards = std::min(tensors, 2 * (limit / shard_bytes_) + 1);
  if (largest < shard_bytes_) most_shards = std::min(most_shards, limit / (shard_bytes_ - largest) + 1);
  std::uint64_t missing = 0;  // digits of small offsets
  std::uint64_t power = 1;
  for (std::uint64_t d = 1; d < most_digits; ++d) {
    power *= 10;
    missing += most_shards * (2 * most_tensors_below(power) + 1);
  }
  const std::uint64_t overhead = with_index ? least_in_shards() : unpadded_header_bytes(0);
  sum.most = static_cast<std::int64_t>(
      fixed + (with_index ? 0 : most_index) +
      std::max(overhead, most_shards * (unpadded_header_bytes(0) + kMostPadding) + index_bytes(0, limit)));
  sum.least = static_cast<std::int64_t>(fixed + overhead) - static_cast<std::int64_t>(missing);
  return sum;
}

bool CheckpointSizes::alike(std::size_t module, std::size_t a, std::size_t b) const {
  const std::vector<Form>& forms = parts_[part_of_[module]];
  return forms[a] == forms[b];
}

}  // namespace knapsaq
