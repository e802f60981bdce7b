#pragma once

#include <string>
#include <string_view>

namespace knapsaq {

/// `text` with every character that was added to Unicode after version 14 replaced by an older one of the
/// same general category and the same number of bytes. A regular expression then sees what Hugging Face's
/// tokenizers see (Unicode 16), whatever version PCRE2 has. Returns `text` itself if there is no such
/// character, otherwise a view of `buffer`.
std::string_view replace_unicode_additions(std::string_view text, std::string& buffer);

/// Whether Hugging Face's tokenizers, whose normal forms follow an older Unicode version, leave this
/// character unchanged, and compose or reorder nothing across it, although newer tables would.
bool is_normalization_barrier(char32_t code_point);

}  // namespace knapsaq
