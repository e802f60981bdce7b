#include "knapsaq/calib/imatrix.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>

#include <fmt/format.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/hash.h"
#include "knapsaq/base/looks_like.h"
#include "knapsaq/base/quote.h"
#include "knapsaq/checkpoint/gguf_file.h"
#include "knapsaq/checkpoint/gguf_names.h"
#include "knapsaq/model/architecture.h"

namespace knapsaq {
namespace {

using Entries = std::map<std::string, ImatrixEntry, std::less<>>;

constexpr std::string_view kSums = ".in_sum2";
constexpr std::string_view kCounts = ".counts";
/// The longest name in ggml has 63 characters.
constexpr std::uint32_t kLongestName = 64;

void check_squares(const std::string& name, const std::vector<float>& values) {
  for (const float value : values) {
    if (!(value >= 0 && std::isfinite(value)))
      throw InputError(
          fmt::format("the entry {} has a mean square of {}; make the file again", in_quotes(name), value));
  }
}

std::vector<float> floats_of(const std::string& name, const GgufTensor& tensor) {
  if (tensor.type != GgufType(DType::F32))
    throw InputError(fmt::format("tensor {} is of type {}, not F32", in_quotes(name), name_of(tensor.type)));
  return read_floats({DType::F32, tensor.shape, tensor.bytes});
}

Entries parse_gguf_imatrix(std::span<const std::byte> bytes) {
  const GgufContent content = parse_gguf(bytes);
  const GgufValue* type = content.metadata.find("general.type");
  const auto* text = type == nullptr ? nullptr : std::get_if<std::string>(type);
  if (text == nullptr || *text != "imatrix")
    throw InputError("is a GGUF file, but no imatrix (general.type)");
  Entries entries;
  for (const auto& [name, tensor] : content.tensors) {
    if (!name.ends_with(kSums)) continue;
    const std::string weight = name.substr(0, name.size() - kSums.size());
    const auto counts = content.tensors.find(weight + std::string(kCounts));
    if (counts == content.tensors.end())
      throw InputError(
          fmt::format("has {} without {}{}; make the file again", in_quotes(name), weight, kCounts));
    const std::vector<float> tokens = floats_of(counts->first, counts->second);
    if (tokens.size() != 1 || tokens[0] == 0) continue;
    if (!(tokens[0] > 0 && tokens[0] < 0x1p63F))
      throw InputError(fmt::format("the entry {} says that it saw {} tokens", in_quotes(weight), tokens[0]));
    ImatrixEntry entry;
    entry.tokens = static_cast<std::uint64_t>(tokens[0]);
    entry.mean_square = floats_of(name, tensor);
    for (float& value : entry.mean_square) value /= tokens[0];
    check_squares(weight, entry.mean_square);
    entries.emplace(weight, std::move(entry));
  }
  return entries;
}

/// i32 entries; each i32 length, name, i32 chunks, i32 values, the values as f32: mean squares times chunks.
/// The rest (the last chunk, the data set's name) is not needed here.
Entries parse_legacy(std::span<const std::byte> bytes) {
  const auto take = [&](std::uint64_t count) {
    if (count > bytes.size()) throw InputError("is truncated, or is no imatrix file of llama.cpp");
    const auto taken = bytes.first(count);
    bytes = bytes.subspan(count);
    return taken;
  };
  const auto number = [&](std::uint32_t largest) {
    std::int32_t value = 0;
    std::memcpy(&value, take(sizeof value).data(), sizeof value);
    if (value < 1 || static_cast<std::uint32_t>(value) > largest)
      throw InputError("is damaged, or is no imatrix file of llama.cpp");
    return static_cast<std::uint32_t>(value);
  };
  constexpr std::uint32_t kMost = 0x7FFFFFFF;
  Entries entries;
  const std::uint32_t count = number(kMost);
  for (std::uint32_t i = 0; i < count; ++i) {
    const auto letters = take(number(kLongestName));
    const std::string name(reinterpret_cast<const char*>(letters.data()), letters.size());
    const std::uint32_t chunks = number(kMost);
    const std::uint64_t width = number(kMost);
    const auto data = take(width * sizeof(float));
    ImatrixEntry entry;
    entry.tokens = chunks;
    entry.mean_square.resize(width);
    std::memcpy(entry.mean_square.data(), data.data(), data.size());
    for (float& value : entry.mean_square) value /= static_cast<float>(chunks);
    check_squares(name, entry.mean_square);
    if (!entries.emplace(name, std::move(entry)).second)
      throw InputError(fmt::format("the entry {} occurs twice", in_quotes(name)));
  }
  return entries;
}

std::string weight_name(const GgufNames& names, std::string_view linear) {
  const auto module = names.module(linear);
  if (!module)
    throw InputError(fmt::format("GGUF has no name for the linear {}: no imatrix can hold it", linear));
  return *module + ".weight";
}

}  // namespace

Entries parse_imatrix(std::span<const std::byte> bytes) {
  return looks_like_gguf(bytes) ? parse_gguf_imatrix(bytes) : parse_legacy(bytes);
}

Imatrix Imatrix::open(const std::filesystem::path& path, const ModelConfig& config) {
  Imatrix imatrix;
  imatrix.where_ = path.string();
  imatrix.names_ = std::make_shared<const GgufNames>(config);
  const GgufNames& names = *imatrix.names_;
  const MappedFile file(path);
  try {
    imatrix.entries_ = parse_imatrix(file.bytes());
  } catch (const InputError& error) {
    throw InputError(
        fmt::format("{}: {}", path.string(), reason_or_look(file.bytes(), error.what(), FileKind::gguf)));
  }
  std::vector<Matrix> all = matrices(config);
  std::erase_if(all, [](const Matrix& matrix) { return !matrix.is_multiplied(); });
  std::uint64_t tokens = 0;
  const std::vector<std::size_t> owners = input_owners(all);
  for (std::size_t i = 0; i < all.size(); ++i) {
    const std::string name = weight_name(names, all[i].name);
    if (!imatrix.entries_.contains(name)) {
      // Matrices with the same input have the same mean squares.
      std::size_t other = 0;
      while (other < all.size() &&
             (owners[other] != owners[i] || !imatrix.entries_.contains(weight_name(names, all[other].name))))
        ++other;
      if (other == all.size()) {
        imatrix.missing_.push_back(all[i].name);
        continue;
      }
      imatrix.entries_.emplace(name, imatrix.entries_.at(weight_name(names, all[other].name)));
    }
    tokens = std::max(tokens, imatrix.inputs(all[i].name, all[i].in).tokens);
  }
  if (2 * imatrix.missing_.size() > all.size())
    throw InputError(fmt::format(
        "{}: is an imatrix of another model: it has no entry {}, and none for {} of {} matrices",
        path.string(), weight_name(names, imatrix.missing_.front()), imatrix.missing_.size(), all.size()));
  imatrix.identity_ = fmt::format("imatrix {}, {} tokens", hash_hex(file.bytes()), tokens);
  return imatrix;
}

InputStatistics Imatrix::inputs(std::string_view matrix, std::int64_t width) const {
  const std::string name = weight_name(*names_, matrix);
  InputStatistics inputs{.name = std::string(matrix),
                         .width = width,
                         .tokens = 0,
                         .mean_square = {},
                         .mean_abs = {},
                         .max_abs = {},
                         .second_moment = {}};
  const auto found = entries_.find(name);
  if (found == entries_.end()) {
    if (std::ranges::find(missing_, matrix) == missing_.end())
      throw InputError(fmt::format("{}: is an imatrix of another model: it has no entry {}", where_, name));
    inputs.mean_square.assign(static_cast<std::size_t>(width), 1.0F);
    return inputs;
  }
  const ImatrixEntry& entry = found->second;
  if (std::ssize(entry.mean_square) != width)
    throw InputError(
        fmt::format("{}: is an imatrix of another model: {} has {} inputs there, {} in this model", where_,
                    name, entry.mean_square.size(), width));
  inputs.tokens = entry.tokens;
  inputs.mean_square = entry.mean_square;
  return inputs;
}

std::vector<std::string> Imatrix::notes() const {
  if (missing_.empty()) return {};
  constexpr std::size_t kShown = 4;
  std::string names;
  for (std::size_t i = 0; i < std::min(kShown, missing_.size()); ++i)
    names += (names.empty() ? "" : ", ") + missing_[i];
  if (missing_.size() > kShown) names += fmt::format(" and {} more", missing_.size() - kShown);
  return {fmt::format("{}: has no entry for {}: their columns count alike, as without an imatrix", where_,
                      names)};
}

std::string Imatrix::identity() const { return identity_; }

void write_imatrix(const InputSource& source, const ModelConfig& config, const ImatrixNotes& notes,
                   const std::filesystem::path& path) {
  GgufMetadata metadata;
  metadata.add("general.type", "imatrix");
  metadata.add(std::string(kGgufWriterKey), "imatrix");
  metadata.add("imatrix.datasets", GgufArray(notes.datasets));
  metadata.add("imatrix.chunk_count", notes.chunks);
  metadata.add("imatrix.chunk_size", notes.chunk_size);
  std::vector<Matrix> all = matrices(config);
  const GgufNames names(config);
  std::set<std::string> written;
  // What llama.cpp holds in one tensor has one entry.
  std::erase_if(all, [&](const Matrix& matrix) {
    return !matrix.is_multiplied() || !written.insert(weight_name(names, matrix.name)).second;
  });
  std::vector<GgufTensorSpec> specs;
  for (const Matrix& linear : all) {
    const std::string name = weight_name(names, linear.name);
    specs.push_back({name + std::string(kSums), DType::F32, {1, linear.in}});
    specs.push_back({name + std::string(kCounts), DType::F32, {1, 1}});
  }
  GgufWriter writer(path, metadata, specs);
  for (const Matrix& linear : all) {
    InputStatistics inputs = source.inputs(linear.name, linear.in);
    const float tokens = static_cast<float>(inputs.tokens);
    for (float& value : inputs.mean_square) value *= tokens;
    writer.write(std::as_bytes(std::span(inputs.mean_square)));
    writer.write(std::as_bytes(std::span(&tokens, 1)));
  }
  writer.commit();
}

}  // namespace knapsaq
