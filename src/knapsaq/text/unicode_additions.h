#pragma once

#include <string>
#include <string_view>

namespace knapsaq {

/// `text` with every character that Unicode got after version 14 replaced by an older one of the same general
/// category and the same number of bytes, so that a regular expression sees in it what Hugging Face's
/// tokenizers see (Unicode 16), whatever version PCRE2 has. Gives `text` itself if there is none, otherwise a
/// view of `buffer`.
std::string_view replace_unicode_additions(std::string_view text, std::string& buffer);

/// Whether Hugging Face's tokenizers, whose normal forms are those of an older Unicode, leave this character
/// alone, and compose or reorder nothing across it, although newer tables would.
bool is_normalization_barrier(char32_t code_point);

}  // namespace knapsaq
