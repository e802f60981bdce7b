#include "knapsaq/checkpoint/safetensors.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <set>
#include <stdexcept>
#include <utility>

#include <fmt/core.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "knapsaq/base/error.h"
#include "knapsaq/base/json_text.h"
#include "knapsaq/base/looks_like.h"

namespace knapsaq {
namespace {

using nlohmann::json;

constexpr std::size_t kLengthBytes = 8;
/// Headers are padded to a multiple of this, so that tensors are aligned in memory.
constexpr std::size_t kAlignment = kMostPadding + 1;
static_assert(kLengthBytes % kAlignment == 0);
/// The format's own limit on the header.
constexpr std::uint64_t kLongestHeader = 100'000'000;
/// No real tensor has more dimensions; a longer list is an attempt to exhaust memory.
constexpr std::size_t kMostDimensions = 16;

/// A tensor as the header describes it.
struct Entry {
  std::string name;
  std::string type;
  std::vector<std::int64_t> shape;
  std::vector<std::uint64_t> offsets;
  bool has_type = false;
  bool has_shape = false;
  bool has_offsets = false;
};

/// Reads the header token by token. Only this detects duplicate keys, and it refuses a header of any other
/// structure before it takes memory.
class HeaderReader : public nlohmann::json_sax<json> {
 public:
  std::vector<Entry> entries;
  std::map<std::string, std::string> metadata;

  bool null() override {
    if (place_ != Place::metadata) return unexpected("null");
    place_ = Place::in_header;  // MLX's notation for missing metadata
    return true;
  }
  bool boolean(bool) override { return unexpected("a truth value"); }
  bool number_integer(number_integer_t) override { return unexpected("a negative number"); }
  bool number_float(number_float_t, const string_t&) override { return unexpected("a fraction"); }
  bool binary(binary_t&) override { return unexpected("binary data"); }

  bool number_unsigned(number_unsigned_t value) override {
    if (place_ == Place::in_shape) {
      if (value > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))
        fail("has a dimension that is too large");
      if (entry().shape.size() == kMostDimensions) fail("has too many dimensions");
      entry().shape.push_back(static_cast<std::int64_t>(value));
      return true;
    }
    if (place_ == Place::in_offsets) {
      if (entry().offsets.size() == 2) fail("has more than two data_offsets");
      entry().offsets.push_back(value);
      return true;
    }
    return unexpected("a number");
  }

  bool string(string_t& value) override {
    if (place_ == Place::metadata_value) {
      metadata.emplace(metadata_key_, std::move(value));
      place_ = Place::in_metadata;
      return true;
    }
    if (place_ == Place::type) {
      entry().type = std::move(value);
      place_ = Place::in_tensor;
      return true;
    }
    return unexpected("a string");
  }

  bool start_object(std::size_t) override {
    switch (place_) {
      case Place::before:
        place_ = Place::in_header;
        return true;
      case Place::metadata:
        place_ = Place::in_metadata;
        return true;
      case Place::tensor:
        place_ = Place::in_tensor;
        return true;
      default:
        return unexpected("an object");
    }
  }

  bool key(string_t& name) override {
    switch (place_) {
      case Place::in_header:
        if (!names_.insert(name).second) throw InputError(in_quotes(name) + " occurs twice in the header");
        if (name == "__metadata__") {
          place_ = Place::metadata;
        } else {
          entries.emplace_back().name = std::move(name);
          place_ = Place::tensor;
        }
        return true;
      case Place::in_metadata:
        if (metadata.contains(name))
          throw InputError(in_quotes(name) + " occurs twice in the header's __metadata__");
        metadata_key_ = std::move(name);
        place_ = Place::metadata_value;
        return true;
      case Place::in_tensor:
        if (name == "dtype") {
          begin_field(entry().has_type, name, Place::type);
        } else if (name == "shape") {
          begin_field(entry().has_shape, name, Place::shape);
        } else if (name == "data_offsets") {
          begin_field(entry().has_offsets, name, Place::offsets);
        } else {
          fail("has the unknown field " + in_quotes(name));
        }
        return true;
      default:
        return unexpected("a key");
    }
  }

  bool end_object() override {
    if (place_ == Place::in_tensor) {
      const Entry& done = entry();
      if (!done.has_type || !done.has_shape || !done.has_offsets || done.offsets.size() != 2)
        fail("needs dtype, shape and two data_offsets");
    }
    place_ = place_ == Place::in_header ? Place::after : Place::in_header;
    return true;
  }

  bool start_array(std::size_t) override {
    if (place_ == Place::shape) {
      place_ = Place::in_shape;
    } else if (place_ == Place::offsets) {
      place_ = Place::in_offsets;
    } else {
      return unexpected("a list");
    }
    return true;
  }

  bool end_array() override {
    place_ = Place::in_tensor;
    return true;
  }

  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception& error) override {
    throw InputError("the header is not valid JSON: " + json_reason(error));
  }

 private:
  /// The position of the next token in the header: inside something, or where the value of a field is
  /// expected.
  enum class Place {
    before,
    in_header,
    metadata,
    in_metadata,
    metadata_value,
    tensor,
    in_tensor,
    type,
    shape,
    in_shape,
    offsets,
    in_offsets,
    after
  };

  Entry& entry() { return entries.back(); }

  void begin_field(bool& seen, const std::string& name, Place next) {
    if (std::exchange(seen, true)) fail("has " + name + " twice");
    place_ = next;
  }

  [[noreturn]] void fail(const std::string& reason) {
    throw InputError("tensor " + in_quotes(entry().name) + " " + reason);
  }

  bool unexpected(std::string_view token) {
    const std::string where = entries.empty() ? "" : " at or after tensor " + in_quotes(entry().name);
    throw InputError(fmt::format("the header has {} where none may be{}", token, where));
  }

  Place place_ = Place::before;
  std::set<std::string, std::less<>> names_;
  std::string metadata_key_;
};

/// Bytes of a tensor; empty if they do not fit into 63 bits.
std::optional<std::uint64_t> checked_bytes(DType type, std::span<const std::int64_t> shape) {
  std::int64_t bytes = static_cast<std::int64_t>(size_of(type));
  // A zero anywhere makes the tensor empty, whatever overflow the other dimensions would give.
  if (std::ranges::find(shape, 0) != shape.end()) return 0;
  for (const std::int64_t size : shape) {
    if (__builtin_mul_overflow(bytes, size, &bytes)) return std::nullopt;
  }
  return static_cast<std::uint64_t>(bytes);
}

/// The text before the entries; one more brace follows them.
constexpr std::string_view kBeforeEntries = R"({"__metadata__":{"format":"pt"})";

std::string entry_text(const TensorSpec& tensor, std::string_view begin, std::string_view end) {
  return fmt::format(R"(,{}:{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})", json(tensor.name).dump(),
                     name_of(tensor.type), fmt::join(tensor.shape, ","), begin, end);
}

/// u64 length, JSON, padding.
std::string build_header(std::span<const TensorSpec> tensors) {
  std::string text(kBeforeEntries);
  std::set<std::string_view> names;
  std::uint64_t offset = 0;
  for (const TensorSpec& tensor : tensors) {
    if (tensor.name == "__metadata__" || !names.insert(tensor.name).second)
      throw std::logic_error("SafetensorsWriter: a second tensor named " + tensor.name);
    const std::uint64_t end = offset + tensor.bytes();
    text += entry_text(tensor, std::to_string(offset), std::to_string(end));
    offset = end;
  }
  text += '}';
  text.resize((text.size() + kAlignment - 1) / kAlignment * kAlignment, ' ');
  const std::uint64_t length = text.size();
  std::string header(kLengthBytes, '\0');
  std::memcpy(header.data(), &length, kLengthBytes);
  return header + text;
}

}  // namespace

std::map<std::string, TensorView, std::less<>> parse_safetensors(
    std::span<const std::byte> bytes, std::map<std::string, std::string>* metadata) {
  if (bytes.size() < kLengthBytes)
    throw InputError(fmt::format("is truncated: {} bytes are no safetensors file", bytes.size()));
  std::uint64_t length = 0;
  std::memcpy(&length, bytes.data(), kLengthBytes);
  if (length > kLongestHeader)
    throw InputError(
        fmt::format("is not a safetensors file: it says that its header has {} bytes, more than the format's "
                    "limit of {}",
                    length, kLongestHeader));
  if (length > bytes.size() - kLengthBytes)
    throw InputError(fmt::format("is truncated: it says that its header has {} bytes, but only {} follow",
                                 length, bytes.size() - kLengthBytes));
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + kLengthBytes, length);
  // The format requires it, so that a file can be recognised by its ninth byte.
  if (!text.starts_with('{')) throw InputError("is not a safetensors file: its header does not begin with {");

  HeaderReader header;
  json::sax_parse(text, &header);
  const std::span<const std::byte> data = bytes.subspan(kLengthBytes + length);

  std::vector<const Entry*> order;
  std::map<std::string, TensorView, std::less<>> tensors;
  for (const Entry& entry : header.entries) {
    const std::string name = "tensor " + in_quotes(entry.name);
    const std::uint64_t begin = entry.offsets[0];
    const std::uint64_t end = entry.offsets[1];
    const std::optional<DType> type = parse_dtype(entry.type);
    if (!type) throw InputError(name + " has the type " + in_quotes(entry.type) + ", which is not supported");
    if (begin > end) throw InputError(fmt::format("{} ends at {}, before its start {}", name, end, begin));
    if (end > data.size())
      throw InputError(
          fmt::format("{} ends at byte {} of the data, but only {} bytes are there: the file is "
                      "truncated, or its header lies; download it again",
                      name, end, data.size()));
    const std::optional<std::uint64_t> expected = checked_bytes(*type, entry.shape);
    if (expected != end - begin)
      throw InputError(fmt::format("{} of shape [{}] and type {} cannot have {} bytes", name,
                                   fmt::join(entry.shape, ", "), entry.type, end - begin));
    tensors.emplace(entry.name, TensorView{*type, entry.shape, data.subspan(begin, end - begin)});
    order.push_back(&entry);
  }

  std::ranges::sort(order, {}, [](const Entry* entry) { return entry->offsets; });
  std::uint64_t position = 0;
  for (const Entry* entry : order) {
    if (entry->offsets[0] != position)
      throw InputError(fmt::format("tensor {} starts at byte {} of the data, but {} was due: tensors {}",
                                   in_quotes(entry->name), entry->offsets[0], position,
                                   entry->offsets[0] < position ? "overlap" : "leave a gap"));
    position = entry->offsets[1];
  }
  if (position != data.size())
    throw InputError(
        fmt::format("has {} bytes after its last tensor that belong to nothing", data.size() - position));
  if (metadata != nullptr) *metadata = std::move(header.metadata);
  return tensors;
}

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path) : file_(path) {
  try {
    tensors_ = parse_safetensors(file_.bytes(), &metadata_);
  } catch (const InputError& error) {
    throw InputError(fmt::format("{}: {}", path.string(),
                                 reason_or_look(file_.bytes(), error.what(), FileKind::safetensors)));
  }
}

std::uint64_t TensorSpec::bytes() const {
  const std::optional<std::uint64_t> bytes = checked_bytes(type, shape);
  if (!bytes || std::ranges::any_of(shape, [](std::int64_t size) { return size < 0; }))
    throw std::logic_error("TensorSpec: " + name + " has an impossible shape");
  return *bytes;
}

std::uint64_t header_entry_bytes(const TensorSpec& tensor) { return entry_text(tensor, "", "").size(); }

std::uint64_t unpadded_header_bytes(std::uint64_t entries) {
  return kLengthBytes + kBeforeEntries.size() + entries + 1;
}

std::uint64_t header_bytes(std::uint64_t entries) {
  // The length field is as long as the padding's multiple.
  return (unpadded_header_bytes(entries) + kMostPadding) / kAlignment * kAlignment;
}

std::uint64_t safetensors_file_bytes(std::span<const TensorSpec> tensors) {
  std::uint64_t bytes = build_header(tensors).size();
  for (const TensorSpec& tensor : tensors) bytes += tensor.bytes();
  return bytes;
}

SafetensorsWriter::SafetensorsWriter(const std::filesystem::path& path, std::span<const TensorSpec> tensors)
    : file_(path, AtomicFile::Leftovers::not_looked_for) {
  const std::string header = build_header(tensors);
  remaining_ = safetensors_file_bytes(tensors) - header.size();
  file_.write(header);
}

void SafetensorsWriter::write(std::span<const std::byte> bytes) {
  if (bytes.size() > remaining_) throw std::logic_error("SafetensorsWriter: more bytes than declared");
  file_.write(bytes);
  remaining_ -= bytes.size();
}

void SafetensorsWriter::commit() {
  if (remaining_ != 0)
    throw std::logic_error(fmt::format("SafetensorsWriter: {} declared bytes are missing", remaining_));
  file_.commit();
}

}  // namespace knapsaq
