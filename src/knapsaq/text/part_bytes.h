#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "knapsaq/text/tokenizer.h"

namespace knapsaq {

/// Parts of a text as bytes, one part after the other: 1 if it is foreign, else 0; the length of its text in
/// eight bytes, little-endian; its text.
std::string to_bytes(std::span<const TextPart> parts);

/// The inverse. Throws InputError for bytes that to_bytes() cannot produce: they come from a process that a
/// hostile template may have taken over.
std::vector<TextPart> parts_of(std::string_view bytes);

}  // namespace knapsaq
