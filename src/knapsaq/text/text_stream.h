#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "knapsaq/text/tokenizer.h"

namespace knapsaq {

/// Text of ids that come one by one, in pieces that are well-formed UTF-8 each. All pieces and finish()
/// together are Tokenizer::decode() of all ids (after begin_after(): what follows the text of those). A piece
/// is held back only while what follows decides what it becomes: half a character, a run of SentencePiece's
/// byte tokens, the end of a text that is stripped there. The tokenizer must outlive it.
class TextStream {
 public:
  explicit TextStream(const Tokenizer& tokenizer, bool skip_special = true);
  TextStream(TextStream&&) noexcept;
  TextStream& operator=(TextStream&&) noexcept;
  ~TextStream();

  /// Ids before the text, whose own text is not given: what follows them is a continuation, which may begin
  /// with a blank where a text of its own would not. Before the first add().
  void begin_after(std::span<const std::int32_t> ids);
  /// What can be shown now that `id` follows; often one token's text, sometimes nothing.
  std::string add(std::int32_t id);
  /// What was held back; the text ends here. Nothing may be added afterwards.
  std::string finish();

  class Step;  ///< one step of the decoder

 private:
  /// `text` without what still belongs to begin_after()'s ids.
  std::string own(std::string text);

  const Tokenizer* tokenizer_;
  bool skip_special_;
  bool first_ = true;
  std::size_t foreign_ = 0;  ///< bytes to come that belong to begin_after()'s ids
  std::vector<std::unique_ptr<Step>> steps_;
};

}  // namespace knapsaq
