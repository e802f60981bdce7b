#include "knapsaq/checkpoint/gguf_file.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <fstream>
#include <limits>
#include <optional>
#include <set>
#include <stdexcept>
#include <type_traits>

#include <fmt/core.h>
#include <fmt/ranges.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/looks_like.h"
#include "knapsaq/base/quote.h"

namespace knapsaq {
namespace {

static_assert(std::endian::native == std::endian::little, "GGUF files are little-endian");

constexpr std::string_view kMagic = "GGUF";
constexpr std::uint32_t kVersion = 3;
constexpr std::string_view kAlignmentKey = "general.alignment";
constexpr std::uint64_t kDefaultAlignment = 32;
/// ggml's own limits.
constexpr std::size_t kMostDimensions = 4;
constexpr std::size_t kLongestName = 64;

struct DenseType {
  DType type;
  std::uint32_t number;
};
/// Their numbers in files; those of block types are GgmlType's own.
constexpr std::array kDense = {DenseType{DType::F32, 0}, DenseType{DType::F16, 1},
                               DenseType{DType::BF16, 30}};

std::uint32_t number_of(GgufType type) {
  if (const auto* blocks = std::get_if<GgmlType>(&type)) return static_cast<std::uint32_t>(*blocks);
  const auto* found = std::ranges::find(kDense, std::get<DType>(type), &DenseType::type);
  if (found == kDense.end()) throw std::logic_error("GGUF: only F32, F16 and BF16 are dense types");
  return found->number;
}

std::optional<GgufType> type_of(std::uint32_t number) {
  const auto* dense = std::ranges::find(kDense, number, &DenseType::number);
  if (dense != kDense.end()) return dense->type;
  for (const GgmlTypeInfo& one : ggml_types())
    if (static_cast<std::uint32_t>(one.type) == number) return one.type;
  return std::nullopt;
}

/// Bytes of a tensor; empty if they do not fit into 63 bits or rows are not whole blocks.
std::optional<std::uint64_t> checked_bytes(GgufType type, std::span<const std::int64_t> shape) {
  std::int64_t count = 1;
  for (const std::int64_t size : shape)
    if (size < 0 || __builtin_mul_overflow(count, size, &count)) return std::nullopt;
  std::int64_t block = 1;
  std::int64_t bytes = 0;
  if (const auto* blocks = std::get_if<GgmlType>(&type)) {
    block = info(*blocks).block;
    bytes = info(*blocks).bytes;
  } else {
    bytes = static_cast<std::int64_t>(size_of(std::get<DType>(type)));
  }
  if (shape.empty() || shape.back() % block != 0) return std::nullopt;
  if (__builtin_mul_overflow(count / block, bytes, &bytes)) return std::nullopt;
  return static_cast<std::uint64_t>(bytes);
}

std::uint64_t padded(std::uint64_t bytes, std::uint64_t alignment) {
  return (bytes + alignment - 1) / alignment * alignment;
}

/// Reads a file front to back.
class Reader {
 public:
  explicit Reader(std::span<const std::byte> bytes) : bytes_(bytes) {}

  std::uint64_t position() const { return position_; }
  std::uint64_t left() const { return bytes_.size() - position_; }

  std::span<const std::byte> take(std::uint64_t count) {
    if (count > left())
      throw InputError(fmt::format("is truncated: {} bytes are due at byte {}, but only {} follow", count,
                                   position_, left()));
    const auto taken = bytes_.subspan(position_, count);
    position_ += count;
    return taken;
  }

  template <class T>
  T number() {
    T value;
    std::memcpy(&value, take(sizeof value).data(), sizeof value);
    return value;
  }

  std::string string() {
    const auto length = number<std::uint64_t>();
    const auto bytes = take(length);
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }

 private:
  std::span<const std::byte> bytes_;
  std::uint64_t position_ = 0;
};

template <class T>
T read_value(Reader& reader, const std::string& key) {
  if constexpr (std::is_same_v<T, std::string>) {
    return reader.string();
  } else if constexpr (std::is_same_v<T, bool>) {
    const auto byte = reader.number<std::uint8_t>();
    if (byte > 1) throw InputError(fmt::format("{} has a truth value of {}", in_quotes(key), byte));
    return byte == 1;
  } else {
    return reader.number<T>();
  }
}

template <class T>
constexpr std::uint64_t kSmallestBytes = std::is_same_v<T, std::string> ? 8 : sizeof(T);

[[noreturn]] void refuse_type(const std::string& key, std::uint32_t type) {
  throw InputError(
      fmt::format("{} is of type {}, which is not one of the format's types", in_quotes(key), type));
}

template <std::size_t... Index>
GgufArray read_array_of(Reader& reader, const std::string& key, std::uint32_t type, std::uint64_t count,
                        std::index_sequence<Index...>) {
  GgufArray array;
  const auto read = [&]<std::size_t Number>() {
    using List = std::variant_alternative_t<Number, GgufArray>;
    if constexpr (!std::is_same_v<List, std::monostate>) {
      using T = typename List::value_type;
      // A false count must not create a list that the file cannot fill.
      if (count > reader.left() / kSmallestBytes<T>)
        throw InputError(fmt::format("is truncated: {} has {} elements, but only {} bytes follow",
                                     in_quotes(key), count, reader.left()));
      List list;
      list.reserve(count);
      for (std::uint64_t i = 0; i < count; ++i) list.push_back(read_value<T>(reader, key));
      array = std::move(list);
    }
  };
  ((Index == type ? read.template operator()<Index>() : void()), ...);
  return array;
}

GgufArray read_array(Reader& reader, const std::string& key) {
  const auto type = reader.number<std::uint32_t>();
  const auto count = reader.number<std::uint64_t>();
  if (type == GgufValue(GgufArray()).index())
    throw InputError(fmt::format("{} is a list of lists, which is not supported", in_quotes(key)));
  if (type >= std::variant_size_v<GgufArray>) refuse_type(key, type);
  return read_array_of(reader, key, type, count, std::make_index_sequence<std::variant_size_v<GgufArray>>());
}

template <std::size_t... Index>
GgufValue read_value_of(Reader& reader, const std::string& key, std::uint32_t type,
                        std::index_sequence<Index...>) {
  GgufValue value;
  const auto read = [&]<std::size_t Number>() {
    using T = std::variant_alternative_t<Number, GgufValue>;
    if constexpr (std::is_same_v<T, GgufArray>) {
      value = read_array(reader, key);
    } else {
      value.emplace<Number>(read_value<T>(reader, key));
    }
  };
  ((Index == type ? read.template operator()<Index>() : void()), ...);
  return value;
}

/// Builds the bytes before the tensors' data.
class HeaderBuilder {
 public:
  template <class T>
  void number(T value) {
    const auto at = bytes_.size();
    bytes_.resize(at + sizeof value);
    std::memcpy(bytes_.data() + at, &value, sizeof value);
  }
  void string(std::string_view text) {
    number<std::uint64_t>(text.size());
    bytes_ += text;
  }
  void value(const GgufValue& value) {
    std::visit([this](const auto& one) { put(one); }, value);
  }
  void pad() { bytes_.resize(padded(bytes_.size(), kDefaultAlignment), '\0'); }
  const std::string& bytes() const { return bytes_; }

 private:
  template <class T>
  void put(const T& one) {
    if constexpr (std::is_same_v<T, std::string>) {
      string(one);
    } else if constexpr (std::is_same_v<T, bool>) {
      number<std::uint8_t>(one ? 1 : 0);
    } else if constexpr (std::is_same_v<T, GgufArray>) {
      number(static_cast<std::uint32_t>(one.index()));
      std::visit([this](const auto& list) { this->put_list(list); }, one);
    } else {
      number(one);
    }
  }
  void put_list(const std::monostate&) { throw std::logic_error("GGUF: a list of lists"); }
  template <class T>
  void put_list(const std::vector<T>& list) {
    number<std::uint64_t>(list.size());
    for (const auto& one : list) put(static_cast<const T&>(one));
  }

  std::string bytes_;
};

std::string build_header(const GgufMetadata& metadata, std::span<const GgufTensorSpec> tensors) {
  if (metadata.find(kAlignmentKey) != nullptr)
    throw std::logic_error("GgufWriter: the alignment is always the default");
  HeaderBuilder header;
  header.number<std::uint32_t>(std::uint32_t{'G'} | std::uint32_t{'G'} << 8 | std::uint32_t{'U'} << 16 |
                               std::uint32_t{'F'} << 24);
  header.number(kVersion);
  header.number<std::uint64_t>(tensors.size());
  header.number<std::uint64_t>(metadata.entries().size());
  for (const auto& [key, value] : metadata.entries()) {
    header.string(key);
    header.number(static_cast<std::uint32_t>(value.index()));
    header.value(value);
  }
  std::set<std::string_view> names;
  std::uint64_t offset = 0;
  for (const GgufTensorSpec& tensor : tensors) {
    if (!names.insert(tensor.name).second || tensor.name.size() >= kLongestName)
      throw std::logic_error("GgufWriter: a second tensor, or a name that is too long: " + tensor.name);
    header.string(tensor.name);
    header.number(static_cast<std::uint32_t>(tensor.shape.size()));
    for (auto size = tensor.shape.rbegin(); size != tensor.shape.rend(); ++size)
      header.number(static_cast<std::uint64_t>(*size));
    header.number(number_of(tensor.type));
    header.number(offset);
    offset += padded(tensor.bytes(), kDefaultAlignment);
  }
  header.pad();
  return header.bytes();
}

/// ggml's name for a type that is not read here, with its number (enum ggml_type).
std::string name_of_unsupported(std::uint32_t number) {
  constexpr std::array<std::pair<std::uint32_t, std::string_view>, 11> kNames{{{9, "Q8_1"},
                                                                               {15, "Q8_K"},
                                                                               {24, "I8"},
                                                                               {25, "I16"},
                                                                               {26, "I32"},
                                                                               {27, "I64"},
                                                                               {28, "F64"},
                                                                               {34, "TQ1_0"},
                                                                               {35, "TQ2_0"},
                                                                               {39, "MXFP4"},
                                                                               {40, "NVFP4"}}};
  const auto* found = std::ranges::find(kNames, number, &std::pair<std::uint32_t, std::string_view>::first);
  return found == kNames.end() ? fmt::format("number {}", number)
                               : fmt::format("{} (number {})", found->second, number);
}

std::string block_type_names() {
  std::string names;
  for (const GgmlTypeInfo& type : ggml_types()) {
    if (!names.empty()) names += ", ";
    for (const char c : type.name) names += c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  }
  return names;
}

/// The entry of a tensor, without its data.
struct Entry {
  std::string name;
  GgufTensor tensor;
  std::uint64_t size = 0;
};

Entry read_entry(Reader& reader) {
  Entry entry;
  entry.name = reader.string();
  const std::string name = "tensor " + in_quotes(entry.name);
  if (entry.name.size() >= kLongestName)
    throw InputError(
        fmt::format("{} has a name of {} bytes; ggml reads {}", name, entry.name.size(), kLongestName - 1));
  const auto dimensions = reader.number<std::uint32_t>();
  if (dimensions < 1 || dimensions > kMostDimensions)
    throw InputError(
        fmt::format("{} has {} dimensions where 1 to {} are possible", name, dimensions, kMostDimensions));
  std::vector<std::int64_t>& shape = entry.tensor.shape;
  for (std::uint32_t i = 0; i < dimensions; ++i) {
    const auto size = reader.number<std::uint64_t>();
    if (size > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))
      throw InputError(name + " has a dimension that is too large");
    shape.push_back(static_cast<std::int64_t>(size));
  }
  std::ranges::reverse(shape);
  const auto number = reader.number<std::uint32_t>();
  const auto type = type_of(number);
  if (!type)
    throw InputError(
        fmt::format("{} is of ggml's type {}, which is not supported; supported are F32, F16, BF16 and {}",
                    name, name_of_unsupported(number), block_type_names()));
  entry.tensor.type = *type;
  const auto bytes = checked_bytes(*type, shape);
  if (!bytes)
    throw InputError(
        fmt::format("{} of shape [{}] cannot be of type {}", name, fmt::join(shape, ", "), name_of(*type)));
  entry.size = *bytes;
  return entry;
}

}  // namespace

void GgufMetadata::add(std::string key, GgufValue value) {
  if (find(key) != nullptr) throw std::logic_error("GGUF: a second value for " + key);
  if (const auto* array = std::get_if<GgufArray>(&value)) {
    const bool empty = std::visit(
        [](const auto& list) {
          if constexpr (std::is_same_v<std::decay_t<decltype(list)>, std::monostate>) {
            return true;
          } else {
            return list.empty();
          }
        },
        *array);
    if (empty) throw std::logic_error("GGUF: an empty list for " + key);
  }
  entries_.emplace_back(std::move(key), std::move(value));
}

const GgufValue* GgufMetadata::find(std::string_view key) const {
  const auto found = std::ranges::find(entries_, key, &std::pair<std::string, GgufValue>::first);
  return found == entries_.end() ? nullptr : &found->second;
}

std::string_view name_of(GgufType type) {
  if (const auto* blocks = std::get_if<GgmlType>(&type)) return info(*blocks).name;
  return name_of(std::get<DType>(type));
}

std::uint64_t GgufTensorSpec::bytes() const {
  const auto bytes = checked_bytes(type, shape);
  if (!bytes || shape.size() > kMostDimensions)
    throw std::logic_error("GgufTensorSpec: " + name + " has an impossible shape");
  return *bytes;
}

bool looks_like_gguf(std::span<const std::byte> bytes) {
  return bytes.size() >= kMagic.size() && std::memcmp(bytes.data(), kMagic.data(), kMagic.size()) == 0;
}

bool is_gguf_file(const std::filesystem::path& path) {
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(path, ignored)) return false;
  std::array<char, kMagic.size()> start{};
  std::ifstream file(path, std::ios::binary);
  file.read(start.data(), start.size());
  return file && looks_like_gguf(std::as_bytes(std::span(start)));
}

GgufContent parse_gguf(std::span<const std::byte> bytes) {
  if (!looks_like_gguf(bytes)) throw InputError("is not a GGUF file: it does not begin with GGUF");
  Reader reader(bytes);
  reader.take(kMagic.size());
  const auto version = reader.number<std::uint32_t>();
  if (version != 2 && version != kVersion)
    throw InputError(fmt::format(
        "is GGUF of version {}; supported are 2 and 3, little-endian: convert it with llama.cpp", version));
  const auto tensors = reader.number<std::uint64_t>();
  const auto entries = reader.number<std::uint64_t>();

  GgufContent content;
  // Looked up here, so that a file of many keys does not take quadratic time.
  std::set<std::string, std::less<>> keys;
  std::uint64_t alignment = kDefaultAlignment;
  for (std::uint64_t i = 0; i < entries; ++i) {
    std::string key = reader.string();
    if (!keys.insert(key).second) throw InputError(in_quotes(key) + " occurs twice in the metadata");
    const auto type = reader.number<std::uint32_t>();
    if (type >= std::variant_size_v<GgufValue>) refuse_type(key, type);
    GgufValue value =
        read_value_of(reader, key, type, std::make_index_sequence<std::variant_size_v<GgufValue>>());
    if (key == kAlignmentKey) {
      const auto* number = std::get_if<std::uint32_t>(&value);
      if (number == nullptr || !std::has_single_bit(*number))
        throw InputError("general.alignment is not a power of two");
      alignment = *number;
    }
    content.metadata.entries_.emplace_back(std::move(key), std::move(value));
  }

  std::vector<Entry> order;
  std::uint64_t due = 0;
  for (std::uint64_t i = 0; i < tensors; ++i) {
    Entry entry = read_entry(reader);
    const auto offset = reader.number<std::uint64_t>();
    if (offset != due)
      throw InputError(fmt::format("tensor {} starts at byte {} of the data, but {} was due: tensors {}",
                                   in_quotes(entry.name), offset, due,
                                   offset < due ? "overlap" : "leave a gap"));
    // Both are below 2^63, so the sum does not overflow; anything outside the file is refused below.
    if (padded(entry.size, alignment) > bytes.size() + alignment || due > bytes.size())
      throw InputError(fmt::format("is truncated: tensor {} has {} bytes, which the file does not have",
                                   in_quotes(entry.name), entry.size));
    due += padded(entry.size, alignment);
    order.push_back(std::move(entry));
  }

  const std::uint64_t data = padded(reader.position(), alignment);
  std::uint64_t offset = 0;
  for (Entry& entry : order) {
    if (data > bytes.size() || offset > bytes.size() - data || entry.size > bytes.size() - data - offset)
      throw InputError(
          fmt::format("is truncated: tensor {} ends at byte {}, but the file has {}; download it again",
                      in_quotes(entry.name), data + offset + entry.size, bytes.size()));
    entry.tensor.bytes = bytes.subspan(data + offset, entry.size);
    offset += padded(entry.size, alignment);
    if (!content.tensors.emplace(entry.name, std::move(entry.tensor)).second)
      throw InputError("tensor " + in_quotes(entry.name) + " occurs twice");
  }
  return content;
}

GgufFile::GgufFile(const std::filesystem::path& path) : file_(path) {
  try {
    content_ = parse_gguf(file_.bytes());
  } catch (const InputError& error) {
    throw InputError(
        fmt::format("{}: {}", path.string(), reason_or_look(file_.bytes(), error.what(), FileKind::gguf)));
  }
}

bool is_own_gguf(std::string_view beginning) {
  return beginning.starts_with("GGUF") && beginning.find(kGgufWriterKey) != std::string_view::npos;
}

std::uint64_t gguf_tensor_bytes(const GgufTensorSpec& tensor) {
  return padded(tensor.bytes(), kDefaultAlignment);
}

std::uint64_t gguf_file_bytes(const GgufMetadata& metadata, std::span<const GgufTensorSpec> tensors) {
  std::uint64_t bytes = build_header(metadata, tensors).size();
  for (const GgufTensorSpec& tensor : tensors) bytes += padded(tensor.bytes(), kDefaultAlignment);
  return bytes;
}

GgufWriter::GgufWriter(const std::filesystem::path& path, const GgufMetadata& metadata,
                       std::span<const GgufTensorSpec> tensors)
    : file_(path) {
  file_.write(build_header(metadata, tensors));
  for (const GgufTensorSpec& tensor : tensors) sizes_.push_back(tensor.bytes());
  finish_full_tensors();
}

void GgufWriter::finish_full_tensors() {
  constexpr std::array<std::byte, kDefaultAlignment> kZeros{};
  while (tensor_ < sizes_.size() && written_ == sizes_[tensor_]) {
    file_.write(std::span(kZeros).first(padded(written_, kDefaultAlignment) - written_));
    ++tensor_;
    written_ = 0;
  }
}

void GgufWriter::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    if (tensor_ == sizes_.size()) throw std::logic_error("GgufWriter: more bytes than declared");
    const auto part = bytes.first(std::min<std::uint64_t>(bytes.size(), sizes_[tensor_] - written_));
    file_.write(part);
    written_ += part.size();
    bytes = bytes.subspan(part.size());
    finish_full_tensors();
  }
}

void GgufWriter::commit() {
  if (tensor_ != sizes_.size())
    throw std::logic_error(fmt::format("GgufWriter: tensor {} is not complete", tensor_));
  file_.commit();
}

}  // namespace knapsaq
