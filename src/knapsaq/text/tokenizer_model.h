#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "knapsaq/text/added_tokens.h"
#include "knapsaq/text/bpe.h"
#include "knapsaq/text/decoder.h"
#include "knapsaq/text/normalizer.h"
#include "knapsaq/text/pre_tokenizer.h"
#include "knapsaq/text/tokenizer.h"

namespace knapsaq {

/// The parts of a tokenizer, as read from its files, in the order in which a text passes through them.
struct TokenizerParts {
  std::vector<AddedToken> added;
  Normalizer normalizer;
  PreTokenizer pre_tokenizer;
  Bpe bpe;
  std::vector<std::int32_t> before;  ///< ids before every text: a BOS, or nothing
  std::vector<std::int32_t> after;
  std::vector<DecoderStep> decoder;
  std::optional<std::int32_t> bos;
  std::optional<std::int32_t> eos;
  std::optional<std::int32_t> pad;
  std::optional<std::int32_t> unknown;  ///< the token with that role; see also BpeOptions::unknown
  /// SentencePiece's scores by id, which imply the merges; empty if the file had merges instead.
  std::vector<float> scores;
};

/// A tokenizer ready for use. Const functions may be called from several threads.
class TokenizerModel {
 public:
  explicit TokenizerModel(TokenizerParts parts);

  std::vector<std::int32_t> encode(std::string_view text, bool add_special) const;
  std::vector<std::int32_t> encode(std::span<const TextPart> parts) const;
  std::string decode(std::span<const std::int32_t> ids, bool skip_special) const;
  /// The decoder's input for an id; nullopt for ids without a token and for omitted ones.
  std::optional<std::string_view> token_text(std::int32_t id, bool skip_special) const;
  const TokenizerParts& parts() const { return parts_; }
  std::int32_t vocabulary_size() const { return size_; }

 private:
  struct Scratch {
    RegexScratch regex;
    BpeScratch bpe;
  };
  class ScratchLease;

  /// The added tokens that are searched for in a text.
  enum class Recognise : std::uint8_t { all, no_special };

  void encode_text(std::string_view text, bool first, Recognise recognise, Scratch& scratch,
                   std::vector<std::int32_t>& ids) const;
  void encode_part(std::string_view text, bool first, Recognise recognise, Scratch& scratch,
                   std::vector<std::int32_t>& ids) const;
  void encode_piece(std::string_view piece, Scratch& scratch, std::vector<std::int32_t>& ids) const;

  TokenizerParts parts_;
  AddedTokenFinder in_text_;
  AddedTokenFinder in_normalized_;
  AddedTokenFinder plain_in_text_;  ///< the same without special tokens
  AddedTokenFinder plain_in_normalized_;
  AddedTokenFinder special_;             ///< in the original text, including those meant for normalised text
  AddedTokenFinder special_normalized_;  ///< in normalised text
  std::unordered_map<std::int32_t, const AddedToken*> added_by_id_;
  std::int32_t size_ = 0;
  mutable std::mutex mutex_;
  /// One for every thread that was encoding at the same time. They are kept because they hold the pieces seen
  /// so far.
  mutable std::vector<std::unique_ptr<Scratch>> free_;
};

}  // namespace knapsaq
