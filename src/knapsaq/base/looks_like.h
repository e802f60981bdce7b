#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace knapsaq {

/// What an unexpected file looks like, judged by its first bytes, for messages: a clause without a subject
/// that says what it is and what to do, such as "is a Git LFS pointer, not the file itself: ...". Empty if
/// nothing common is recognised. `bytes` is the whole file.
///
/// Recognised are the results of failed downloads (an empty file, one of zeros only, a Git LFS pointer, an
/// HTML or XML page, a server's refusal), archives and compressed files (gzip, xz, bzip2, zstd, zip, 7z,
/// tar), and other files that lie beside models (safetensors, GGUF, PyTorch's pickles, numpy, HDF5, Parquet,
/// Arrow, PDF, SQLite, pictures, programs).
std::string looks_like(std::span<const std::byte> bytes);
std::string looks_like(std::string_view text);
/// The same for files that should be texts, as far as it is certain: things that a program rather than a
/// person may have put where a text was expected, such as a Git LFS pointer, an HTML page, or the source of a
/// PDF document.
std::string looks_like_document(std::string_view text);

/// Kinds of files whose readers give better messages themselves.
enum class FileKind : std::uint8_t { other, safetensors, zip, gguf };

/// Why a file that should be of kind `expected` was refused: what it looks like if that is something else,
/// otherwise `reason`.
std::string reason_or_look(std::span<const std::byte> bytes, std::string_view reason,
                           FileKind expected = FileKind::other);
std::string reason_or_look(std::string_view text, std::string_view reason);

}  // namespace knapsaq
