#include "knapsaq/checkpoint/zip_directory.h"

#include <cstdint>
#include <cstring>
#include <optional>
#include <string_view>
#include <type_traits>

#include <fmt/core.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/json_text.h"

// Structures and field offsets: PKWARE's APPNOTE.TXT 6.3, sections 4.3.7 to 4.3.16 and 4.5.3.

namespace knapsaq {
namespace {

using Bytes = std::span<const std::byte>;

constexpr std::uint32_t kLocalHeader = 0x04034b50;
constexpr std::uint32_t kCentralHeader = 0x02014b50;
constexpr std::uint32_t kEnd = 0x06054b50;
constexpr std::uint32_t kEnd64 = 0x06064b50;
constexpr std::uint32_t kEnd64Locator = 0x07064b50;
constexpr std::size_t kLocalBytes = 30;
constexpr std::size_t kCentralBytes = 46;
constexpr std::size_t kEndBytes = 22;
constexpr std::size_t kEnd64Bytes = 56;
constexpr std::size_t kLocatorBytes = 20;
constexpr std::size_t kLongestComment = 0xFFFF;
/// A 32-bit field with this value is stored in the 64-bit extra field instead.
constexpr std::uint32_t kElsewhere = 0xFFFFFFFF;
constexpr std::uint16_t kExtra64 = 1;
constexpr std::uint16_t kStored = 0;
constexpr std::uint16_t kEncrypted = 1;

Bytes part(Bytes bytes, std::uint64_t offset, std::uint64_t size, std::string_view what) {
  if (offset > bytes.size() || size > bytes.size() - offset)
    throw InputError(
        fmt::format("is truncated or damaged: {} of the zip archive lies outside the file", what));
  return bytes.subspan(offset, size);
}

/// Little-endian number at `offset`; `bytes` is known to be long enough.
template <class Number>
Number number(Bytes bytes, std::size_t offset) {
  Number value;
  std::memcpy(&value, bytes.subspan(offset, sizeof value).data(), sizeof value);
  return value;
}

struct Directory {
  std::uint64_t entries;
  std::uint64_t size;
  std::uint64_t offset;
};

Directory find_directory(Bytes bytes) {
  // The end record is the last part of the file, except for a comment of its own.
  for (std::size_t comment = 0; comment <= kLongestComment && comment + kEndBytes <= bytes.size();
       ++comment) {
    const std::size_t at = bytes.size() - comment - kEndBytes;
    const Bytes end = bytes.subspan(at);
    if (number<std::uint32_t>(end, 0) != kEnd || number<std::uint16_t>(end, 20) != comment) continue;
    if (at >= kLocatorBytes && number<std::uint32_t>(bytes, at - kLocatorBytes) == kEnd64Locator) {
      const Bytes end64 =
          part(bytes, number<std::uint64_t>(bytes, at - kLocatorBytes + 8), kEnd64Bytes, "the end record");
      if (number<std::uint32_t>(end64, 0) != kEnd64)
        throw InputError("is damaged: the zip archive's 64-bit end record is not where it should be");
      return {number<std::uint64_t>(end64, 32), number<std::uint64_t>(end64, 40),
              number<std::uint64_t>(end64, 48)};
    }
    return {number<std::uint16_t>(end, 10), number<std::uint32_t>(end, 12), number<std::uint32_t>(end, 16)};
  }
  throw InputError("is truncated or no zip archive: it has no end record");
}

struct Location {
  std::uint64_t size;
  std::uint64_t compressed;
  std::uint64_t header;  ///< offset of the local header
};

/// Replaces the fields that are marked as stored elsewhere by those of the 64-bit extra field.
void read_extra(Bytes extra, const std::string& name, Location& location) {
  while (extra.size() >= 4) {
    const auto id = number<std::uint16_t>(extra, 0);
    const Bytes field = part(extra, 4, number<std::uint16_t>(extra, 2), "an extra field");
    if (id == kExtra64) {
      std::size_t at = 0;
      for (std::uint64_t* value : {&location.size, &location.compressed, &location.header}) {
        if (*value != kElsewhere) continue;
        if (at + 8 > field.size()) throw InputError("is damaged: no 64-bit size for " + name);
        *value = number<std::uint64_t>(field, at);
        at += 8;
      }
      return;
    }
    extra = extra.subspan(4 + field.size());
  }
}

}  // namespace

std::map<std::string, std::span<const std::byte>, std::less<>> read_zip_directory(Bytes bytes) {
  const Directory directory = find_directory(bytes);
  Bytes rest = part(bytes, directory.offset, directory.size, "the directory");
  std::map<std::string, Bytes, std::less<>> entries;
  for (std::uint64_t i = 0; i < directory.entries; ++i) {
    const Bytes fixed = part(rest, 0, kCentralBytes, "the directory");
    if (number<std::uint32_t>(fixed, 0) != kCentralHeader)
      throw InputError("is damaged: the zip archive's directory ends early");
    const std::size_t name_bytes = number<std::uint16_t>(fixed, 28);
    const std::size_t extra_bytes = number<std::uint16_t>(fixed, 30);
    const std::size_t comment_bytes = number<std::uint16_t>(fixed, 32);
    const Bytes variable =
        part(rest, kCentralBytes, name_bytes + extra_bytes + comment_bytes, "the directory");
    rest = rest.subspan(kCentralBytes + variable.size());
    const std::string name(reinterpret_cast<const char*>(variable.data()), name_bytes);
    const std::string label = "zip entry " + in_quotes(name);

    if ((number<std::uint16_t>(fixed, 8) & kEncrypted) != 0) throw InputError(label + " is encrypted");
    if (number<std::uint16_t>(fixed, 10) != kStored)
      throw InputError(label +
                       " is compressed, which torch.save never does; unpack the archive and pack it without "
                       "compression");
    Location location{number<std::uint32_t>(fixed, 24), number<std::uint32_t>(fixed, 20),
                      number<std::uint32_t>(fixed, 42)};
    read_extra(variable.subspan(name_bytes, extra_bytes), label, location);
    if (location.size != location.compressed)
      throw InputError(label + " is damaged: it is stored, but has two different sizes");

    const Bytes local = part(bytes, location.header, kLocalBytes, label);
    if (number<std::uint32_t>(local, 0) != kLocalHeader)
      throw InputError(label + " is damaged: it does not begin where the directory says");
    // The local header's name and extra field may have other lengths than in the directory.
    const std::uint64_t start =
        location.header + kLocalBytes + number<std::uint16_t>(local, 26) + number<std::uint16_t>(local, 28);
    if (!entries.emplace(name, part(bytes, start, location.size, label)).second)
      throw InputError(label + " occurs twice");
  }
  return entries;
}

}  // namespace knapsaq
