#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "knapsaq/text/tokenizer.h"

namespace knapsaq {

/// Turns ids that arrive one by one into pieces of well-formed UTF-8. All pieces and finish() together equal
/// Tokenizer::decode() of all ids (after begin_after(): the part that follows the text of those ids). A piece
/// is held back only while later ids can change it: half a character, a sequence of SentencePiece's byte
/// tokens, the end of a text that is stripped there. The tokenizer must outlive it.
class TextStream {
 public:
  explicit TextStream(const Tokenizer& tokenizer, bool skip_special = true);
  TextStream(TextStream&&) noexcept;
  TextStream& operator=(TextStream&&) noexcept;
  ~TextStream();

  /// Ids before the text, whose own text is not returned. The text is then a continuation, which may begin
  /// with a blank where a separate text would not. Call it before the first add().
  void begin_after(std::span<const std::int32_t> ids);
  /// The text that is certain after `id`: often one token's text, sometimes empty.
  std::string add(std::int32_t id);
  /// The text that was held back, at the end of the text. Nothing may be added afterwards.
  std::string finish();

  class Step;  ///< one step of the decoder

 private:
  /// `text` without the part that belongs to begin_after()'s ids.
  std::string own(std::string text);

  const Tokenizer* tokenizer_;
  bool skip_special_;
  bool first_ = true;
  std::size_t foreign_ = 0;  ///< further bytes that belong to begin_after()'s ids
  std::vector<std::unique_ptr<Step>> steps_;
};

}  // namespace knapsaq
