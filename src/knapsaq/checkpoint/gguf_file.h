#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "knapsaq/base/files.h"
#include "knapsaq/compute/ggml_matrix.h"
#include "knapsaq/compute/tensor.h"

namespace knapsaq {

// GGUF, llama.cpp's file format (ggml's docs/gguf.md), versions 2 and 3, little-endian: u32 magic, u32
// version, u64 tensors, u64 entries, the metadata entries, the tensors' names, shapes and offsets, then their
// data. The data of each tensor begins at a multiple of the alignment.

/// A list of metadata values of one type. The index of the alternative is the type's number in files; lists
/// of lists (number 9) do not occur in models and are refused.
using GgufArray =
    std::variant<std::vector<std::uint8_t>, std::vector<std::int8_t>, std::vector<std::uint16_t>,
                 std::vector<std::int16_t>, std::vector<std::uint32_t>, std::vector<std::int32_t>,
                 std::vector<float>, std::vector<bool>, std::vector<std::string>, std::monostate,
                 std::vector<std::uint64_t>, std::vector<std::int64_t>, std::vector<double>>;

/// A metadata value. The index of the alternative is the type's number in files.
using GgufValue =
    std::variant<std::uint8_t, std::int8_t, std::uint16_t, std::int16_t, std::uint32_t, std::int32_t, float,
                 bool, std::string, GgufArray, std::uint64_t, std::int64_t, double>;

/// Keys and values in the order of the file; no key occurs twice.
class GgufMetadata {
 public:
  /// Throws std::logic_error for a second value of a key, and for an empty list, which the format does not
  /// have.
  void add(std::string key, GgufValue value);
  /// Null if there is no such key.
  const GgufValue* find(std::string_view key) const;
  const std::vector<std::pair<std::string, GgufValue>>& entries() const { return entries_; }

 private:
  friend struct GgufContent parse_gguf(std::span<const std::byte>);
  std::vector<std::pair<std::string, GgufValue>> entries_;
};

/// The type of a tensor's elements: one of the dense types F32, F16 and BF16, or blocks of a GGML type.
using GgufType = std::variant<DType, GgmlType>;

/// "F16", "q4_k", ...
std::string_view name_of(GgufType type);

/// A tensor of a file to write.
struct GgufTensorSpec {
  std::string name;
  GgufType type;
  std::vector<std::int64_t> shape;  ///< outermost first, unlike in the file; 1 to 4 dimensions
  std::uint64_t bytes() const;      ///< of its data; throws std::logic_error for an impossible shape
};

/// A tensor of a file; a view into it.
struct GgufTensor {
  GgufType type;
  std::vector<std::int64_t> shape;  ///< outermost first
  std::span<const std::byte> bytes;
};

struct GgufContent {
  GgufMetadata metadata;
  std::map<std::string, GgufTensor, std::less<>> tensors;
};

/// A whole file in memory. Every count, length, type and offset is checked before it is used. Tensors follow
/// each other in the order of their entries, as ggml itself requires. Throws InputError without the file's
/// name, which the caller knows; also for tensors of types that are not in GgufType.
GgufContent parse_gguf(std::span<const std::byte> bytes);

/// Whether a file begins like GGUF.
bool looks_like_gguf(std::span<const std::byte> bytes);
/// The same of a regular file; false if there is none or it cannot be read.
bool is_gguf_file(const std::filesystem::path& path);

/// A GGUF file, memory-mapped.
class GgufFile {
 public:
  /// Throws IoError or InputError naming the file.
  explicit GgufFile(const std::filesystem::path& path);

  const GgufMetadata& metadata() const { return content_.metadata; }
  const std::map<std::string, GgufTensor, std::less<>>& tensors() const { return content_.tensors; }
  const MappedFile& file() const { return file_; }

 private:
  MappedFile file_;
  GgufContent content_;
};

/// Bytes of a tensor in a file, padding included.
std::uint64_t gguf_tensor_bytes(const GgufTensorSpec& tensor);
/// The exact size of the file that GgufWriter makes from these.
std::uint64_t gguf_file_bytes(const GgufMetadata& metadata, std::span<const GgufTensorSpec> tensors);

/// A key of the files that Knapsaq writes, among their first. A later command uses it to decide what it may
/// replace.
inline constexpr std::string_view kGgufWriterKey = "knapsaq.writer";
/// Whether a file that begins like this (4 KiB) has that key.
bool is_own_gguf(std::string_view beginning);

/// In a folder of Knapsaq's: a GGUF file without tensors, with what is known of the model in GGUF's keys.
/// Made of a GGUF file, it has that file's metadata as far as they are not about how it was quantized, so
/// that they reach another GGUF file unchanged.
inline constexpr std::string_view kGgufMetadataName = "metadata.gguf";

/// Writes a GGUF file (version 3) front to back. Metadata and layout are declared first, then the bytes of
/// the tensors are streamed in that order. The writer adds the padding between them.
class GgufWriter {
 public:
  /// Throws IoError, or std::logic_error if two tensors have the same name. Replaces an existing file at
  /// commit().
  GgufWriter(const std::filesystem::path& path, const GgufMetadata& metadata,
             std::span<const GgufTensorSpec> tensors);
  /// The next bytes of the current tensor; a call may continue into the next tensor.
  void write(std::span<const std::byte> bytes);
  /// Throws std::logic_error unless exactly the declared bytes were written; then renames the file into
  /// place.
  void commit();

 private:
  void finish_full_tensors();

  AtomicFile file_;
  std::vector<std::uint64_t> sizes_;  ///< of the tensors' data
  std::size_t tensor_ = 0;            ///< being written
  std::uint64_t written_ = 0;         ///< bytes of it
};

}  // namespace knapsaq
