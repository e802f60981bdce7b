#include "knapsaq/base/looks_like.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdint>
#include <cstring>

#include <fmt/format.h>

namespace knapsaq {
namespace {

using namespace std::string_view_literals;

constexpr std::string_view kAgain = "download it again";

/// A file that is recognised by what it begins with.
struct Magic {
  std::string_view bytes;
  std::string_view clause;
};

constexpr std::array kMagics{
    Magic{"\x1F\x8B"sv, "is compressed with gzip: unpack it first (gunzip)"},
    Magic{"\xFD"
          "7zXZ\0"sv,
          "is compressed with xz: unpack it first (unxz)"},
    Magic{"BZh91AY&SY"sv, "is compressed with bzip2: unpack it first (bunzip2)"},
    Magic{"\x28\xB5\x2F\xFD"sv, "is compressed with zstd: unpack it first (unzstd)"},
    Magic{"7z\xBC\xAF\x27\x1C"sv, "is a 7z archive: unpack it first (7z x)"},
    Magic{"PK\x03\x04"sv, "is a zip archive (so are files of torch.save and of office programs)"},
    Magic{"PK\x05\x06"sv, "is an empty zip archive"},
    Magic{"PAR1"sv, "is a Parquet table: write its column of text to a file first"},
    Magic{"ARROW1"sv, "is an Arrow table: write its column of text to a file first"},
    Magic{"GGUF"sv, "is a GGUF file"},
    Magic{"ggml"sv, "is a GGML file of before GGUF: convert it with llama.cpp's converters"},
    Magic{"lmgg"sv, "is a GGML file of before GGUF: convert it with llama.cpp's converters"},
    Magic{"tjgg"sv, "is a GGML file of before GGUF: convert it with llama.cpp's converters"},
    Magic{"\x93NUMPY"sv, "is an array of numpy"},
    Magic{"\x89HDF\r\n\x1A\n"sv, "is an HDF5 file (TensorFlow's weights): save the model as safetensors"},
    Magic{"SQLite format 3\0"sv, "is an SQLite database"},
    Magic{"\x89PNG\r\n"sv, "is a picture (PNG)"},
    Magic{"\xFF\xD8\xFF"sv, "is a picture (JPEG)"},
    Magic{"\x7F"
          "ELF"sv,
          "is a program or a library"},
    Magic{"\xD0\xCF\x11\xE0"sv, "is a document of an office program: save it as plain text first"},
    Magic{"\x80\x02"sv, "is a pickle of Python, as PyTorch wrote weights before version 1.6"},
    Magic{"\x80\x04"sv, "is a pickle of Python"},
    Magic{"\x80\x05"sv, "is a pickle of Python"},
};

std::string lower_case(std::string_view text) {
  std::string lower(text);
  std::ranges::transform(lower, lower.begin(), [](unsigned char c) { return std::tolower(c); });
  return lower;
}

/// The answer of a server that gave no file. Such answers are short.
bool is_refusal(std::string_view text) {
  constexpr std::size_t kLongest = 1024;
  if (text.size() > kLongest) return false;
  for (const std::string_view begin :
       {"Entry not found"sv, "Repository not found"sv, "Invalid username or password"sv, "Unauthorized"sv,
        "Access to model"sv, "Not Found"sv, "404: Not Found"sv, "{\"error\""sv,
        "{\"message\":\"Not Found\""sv})
    if (text.starts_with(begin)) return true;
  return false;
}

/// u64 length of a header that begins with a brace.
bool is_safetensors(std::span<const std::byte> bytes) {
  constexpr std::size_t kLengthBytes = 8;
  constexpr std::uint64_t kLongestHeader = 100'000'000;  // the format's own limit
  if (bytes.size() <= kLengthBytes + 1) return false;
  std::uint64_t length = 0;
  std::memcpy(&length, bytes.data(), kLengthBytes);
  return length > 1 && length <= kLongestHeader && bytes[kLengthBytes] == std::byte{'{'} &&
         bytes[kLengthBytes + 1] == std::byte{'"'};
}

bool is_tar(std::string_view text) {
  constexpr std::size_t kMagicAt = 257;
  return text.size() > kMagicAt + 5 && text.substr(kMagicAt, 5) == "ustar";
}

}  // namespace

std::string looks_like_document(std::string_view text) {
  if (text.starts_with("version https://git-lfs.github.com/spec/"))
    return fmt::format(
        "is a Git LFS pointer of {} bytes, not the file itself: run git lfs pull in its folder, or {}",
        text.size(), kAgain);
  if (text.starts_with("%PDF-")) return "is a PDF document: take its text first (pdftotext)";
  if (text.starts_with("{\\rtf")) return "is an RTF document: save it as plain text first";
  const std::size_t first = text.find_first_not_of(" \t\r\n\xEF\xBB\xBF");
  if (first == std::string_view::npos) return "";
  const std::string beginning = lower_case(text.substr(first, 64));
  for (const std::string_view html : {"<!doctype html"sv, "<html"sv, "<head"sv})
    if (beginning.starts_with(html))
      return fmt::format("is an HTML page, not the file itself: {}, logged in where that is needed", kAgain);
  if (beginning.starts_with("<?xml") || beginning.starts_with("<error"))
    return fmt::format("is an XML document, such as a server sends with an error: {}", kAgain);
  if (is_refusal(text.substr(first)))
    return fmt::format("is a server's message that there is no such file, or no access to it: {}", kAgain);
  return "";
}

std::string looks_like(std::span<const std::byte> bytes) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (text.empty()) return fmt::format("is empty: {}, or see whether the disk was full", kAgain);
  if (std::string document = looks_like_document(text); !document.empty()) return document;
  for (const Magic& magic : kMagics)
    if (text.starts_with(magic.bytes)) return std::string(magic.clause);
  if (is_safetensors(bytes)) return "is a safetensors file";
  if (is_tar(text)) return "is a tar archive: unpack it first (tar xf)";
  if (text.find_first_not_of(" \t\r\n") == std::string_view::npos)
    return fmt::format("holds nothing but white space: {}", kAgain);
  // Quick where a file is anything else: the first byte decides.
  if (std::ranges::all_of(bytes, [](std::byte byte) { return byte == std::byte{0}; }))
    return fmt::format("has {} bytes, all of them zero: it was never written; {}", text.size(), kAgain);
  return "";
}

std::string looks_like(std::string_view text) {
  return looks_like(std::as_bytes(std::span(text.data(), text.size())));
}

std::string reason_or_look(std::span<const std::byte> bytes, std::string_view reason, FileKind expected) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const bool is_expected = (expected == FileKind::safetensors && is_safetensors(bytes)) ||
                           (expected == FileKind::zip && text.starts_with("PK")) ||
                           (expected == FileKind::gguf && text.starts_with("GGUF"));
  const std::string look = is_expected ? std::string() : looks_like(bytes);
  return look.empty() ? std::string(reason) : look;
}

std::string reason_or_look(std::string_view text, std::string_view reason) {
  return reason_or_look(std::as_bytes(std::span(text.data(), text.size())), reason);
}

}  // namespace knapsaq
