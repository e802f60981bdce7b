#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "knapsaq/base/files.h"
#include "knapsaq/compute/tensor.h"

namespace knapsaq {

/// A safetensors file: u64 length, JSON header, tensors. Every offset, shape and type is checked on opening:
/// there are no gaps and no overlaps, nothing lies outside the file, and sizes match shapes.
class SafetensorsFile {
 public:
  /// Throws IoError or InputError (naming file and tensor).
  explicit SafetensorsFile(const std::filesystem::path& path);

  const std::map<std::string, TensorView, std::less<>>& tensors() const { return tensors_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  const MappedFile& file() const { return file_; }

 private:
  MappedFile file_;
  std::map<std::string, TensorView, std::less<>> tensors_;
  std::map<std::string, std::string> metadata_;
};

/// The tensors of a whole safetensors file in memory, as views into `bytes`, and its __metadata__ if
/// requested. Throws InputError without the file's name, which the caller knows.
std::map<std::string, TensorView, std::less<>> parse_safetensors(
    std::span<const std::byte> bytes, std::map<std::string, std::string>* metadata);

/// A tensor of a file to write.
struct TensorSpec {
  std::string name;
  DType type;
  std::vector<std::int64_t> shape;
  std::uint64_t bytes() const;  ///< of its data; throws std::logic_error for an impossible shape
};

/// Bytes of a tensor's entry in the header, without the digits of its two offsets.
std::uint64_t header_entry_bytes(const TensorSpec& tensor);
/// Bytes of length field and header for entries of this many bytes together, digits of offsets included; and
/// the same with the padding.
std::uint64_t unpadded_header_bytes(std::uint64_t entries);
std::uint64_t header_bytes(std::uint64_t entries);
/// Padding takes at most this many bytes.
inline constexpr std::uint64_t kMostPadding = 7;

/// The exact size of the file with these tensors, header and padding included.
std::uint64_t safetensors_file_bytes(std::span<const TensorSpec> tensors);

/// Writes one safetensors file front to back. The layout is declared first, then the bytes of each tensor are
/// streamed in that order, so only the current piece is in memory. The header is padded with spaces to a
/// multiple of 8 and contains {"format": "pt"}, which older readers require.
class SafetensorsWriter {
 public:
  /// Throws IoError, or std::logic_error if two tensors have the same name.
  SafetensorsWriter(const std::filesystem::path& path, std::span<const TensorSpec> tensors);
  /// The next bytes of the current tensor; tensors follow each other without a call in between.
  void write(std::span<const std::byte> bytes);
  /// Throws std::logic_error unless exactly the declared bytes were written; then renames the file into
  /// place.
  void commit();

 private:
  AtomicFile file_;
  std::uint64_t remaining_ = 0;
};

}  // namespace knapsaq
