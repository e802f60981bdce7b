#include "knapsaq/text/tokenizer_model.h"

#include <algorithm>
#include <iterator>
#include <limits>

#include "knapsaq/base/error.h"
#include "knapsaq/base/utf8.h"

namespace knapsaq {

/// A Scratch from the tokenizer's store for the duration of one call.
class TokenizerModel::ScratchLease {
 public:
  explicit ScratchLease(const TokenizerModel& owner) : owner_(owner) {
    const std::lock_guard lock(owner_.mutex_);
    if (!owner_.free_.empty()) {
      scratch_ = std::move(owner_.free_.back());
      owner_.free_.pop_back();
    }
  }
  ~ScratchLease() {
    if (!scratch_) return;
    const std::lock_guard lock(owner_.mutex_);
    owner_.free_.push_back(std::move(scratch_));
  }
  ScratchLease(const ScratchLease&) = delete;
  ScratchLease& operator=(const ScratchLease&) = delete;

  Scratch& get() {
    if (!scratch_) scratch_ = std::make_unique<Scratch>();
    return *scratch_;
  }

 private:
  const TokenizerModel& owner_;
  std::unique_ptr<Scratch> scratch_;
};

TokenizerModel::TokenizerModel(TokenizerParts parts)
    : parts_(std::move(parts)), size_(parts_.bpe.vocabulary().size()) {
  for (const AddedToken& token : parts_.added) size_ = std::max(size_, token.id + 1);
  for (const AddedToken& token : parts_.added) added_by_id_.emplace(token.id, &token);
  RegexScratch scratch;
  const auto finder = [&](bool normalize, auto&& wanted) {
    std::vector<AddedToken> tokens;
    std::copy_if(parts_.added.begin(), parts_.added.end(), std::back_inserter(tokens), wanted);
    return AddedTokenFinder(tokens, [&](const AddedToken& token) {
      return normalize && !token.verbatim ? parts_.normalizer.apply(token.content, scratch) : token.content;
    });
  };
  in_text_ = finder(false, [](const AddedToken& token) { return !token.normalized; });
  in_normalized_ = finder(true, [](const AddedToken& token) { return token.normalized; });
  plain_in_text_ = finder(false, [](const AddedToken& token) { return !token.normalized && !token.special; });
  plain_in_normalized_ =
      finder(true, [](const AddedToken& token) { return token.normalized && !token.special; });
  special_ = finder(false, [](const AddedToken& token) { return token.special; });
  special_normalized_ =
      finder(true, [](const AddedToken& token) { return token.normalized && token.special; });
}

std::vector<std::int32_t> TokenizerModel::encode(std::string_view text, bool add_special) const {
  // Positions inside a piece are kept in 32 bits.
  constexpr std::size_t kLongestText = std::numeric_limits<std::int32_t>::max();
  if (text.size() > kLongestText)
    throw InputError("a text of more than 2 GiB cannot be tokenized at once; split it");
  std::string valid;
  if (find_invalid_utf8(text) != text.size()) {
    valid = replace_invalid_utf8(text);
    text = valid;
  }
  ScratchLease lease(*this);
  Scratch& scratch = lease.get();
  std::vector<std::int32_t> ids;
  // Ordinary text has four bytes a token.
  ids.reserve(text.size() / 4 + parts_.before.size() + parts_.after.size());
  if (add_special) ids.insert(ids.end(), parts_.before.begin(), parts_.before.end());
  encode_text(text, true, Recognise::all, scratch, ids);
  if (add_special) ids.insert(ids.end(), parts_.after.begin(), parts_.after.end());
  return ids;
}

std::vector<std::int32_t> TokenizerModel::encode(std::span<const TextPart> parts) const {
  std::string whole;
  for (const TextPart& part : parts) whole += part.text;
  ScratchLease lease(*this);
  Scratch& scratch = lease.get();

  // Whether a special token lies in foreign text, or extends into it.
  bool spelled = false;
  std::size_t part = 0;
  std::size_t part_end = parts.empty() ? 0 : parts[0].text.size();
  special_.split(whole, [&](std::size_t begin, std::size_t end, const AddedToken* token) {
    while (part_end <= begin && part + 1 < parts.size()) part_end += parts[++part].text.size();
    if (token == nullptr) return;
    spelled = spelled || parts[part].foreign;
    for (std::size_t next = part, next_end = part_end; next_end < end && next + 1 < parts.size();
         next_end += parts[next].text.size())
      spelled = spelled || parts[++next].foreign;
  });
  for (const TextPart& one : parts) {
    if (!one.foreign) continue;
    const std::string normalized = parts_.normalizer.apply(replace_invalid_utf8(one.text), scratch.regex);
    special_normalized_.split(normalized, [&](std::size_t, std::size_t, const AddedToken* token) {
      spelled = spelled || token != nullptr;
    });
  }
  if (!spelled) return encode(whole, false);

  std::vector<std::int32_t> ids;
  bool first = true;
  for (const TextPart& one : parts) {
    const std::string valid = replace_invalid_utf8(one.text);
    encode_text(valid, first, one.foreign ? Recognise::no_special : Recognise::all, scratch, ids);
    first = first && one.text.empty();
  }
  return ids;
}

void TokenizerModel::encode_text(std::string_view text, bool first, Recognise recognise, Scratch& scratch,
                                 std::vector<std::int32_t>& ids) const {
  const AddedTokenFinder& finder = recognise == Recognise::all ? in_text_ : plain_in_text_;
  finder.split(text, [&](std::size_t begin, std::size_t end, const AddedToken* token) {
    if (token != nullptr) {
      ids.push_back(token->id);
    } else {
      encode_part(text.substr(begin, end - begin), first && begin == 0, recognise, scratch, ids);
    }
  });
}

void TokenizerModel::encode_part(std::string_view text, bool first, Recognise recognise, Scratch& scratch,
                                 std::vector<std::int32_t>& ids) const {
  std::string normalized;
  if (!parts_.normalizer.empty()) {
    normalized = parts_.normalizer.apply(text, scratch.regex);
    text = normalized;
  }
  const AddedTokenFinder& finder = recognise == Recognise::all ? in_normalized_ : plain_in_normalized_;
  finder.split(text, [&](std::size_t begin, std::size_t end, const AddedToken* token) {
    if (token != nullptr) {
      ids.push_back(token->id);
      return;
    }
    parts_.pre_tokenizer.split(text.substr(begin, end - begin), first && begin == 0, scratch.regex,
                               [&](std::string_view piece) { encode_piece(piece, scratch, ids); });
  });
}

void TokenizerModel::encode_piece(std::string_view piece, Scratch& scratch,
                                  std::vector<std::int32_t>& ids) const {
  if (!parts_.bpe.may_cut_before_metaspace()) return parts_.bpe.encode(piece, scratch.bpe, ids);
  // Without a pre-tokenizer that splits (as in SentencePiece), a whole text is one piece. Words are the same
  // ids and can be remembered.
  constexpr std::string_view kMetaspace = "\xE2\x96\x81";
  std::size_t begin = 0;
  std::size_t from = 0;
  for (;;) {
    // Skips the metaspaces at the beginning of the word, then searches for the next one.
    while (piece.substr(from).starts_with(kMetaspace)) from += kMetaspace.size();
    const std::size_t end = std::min(piece.find(kMetaspace, from), piece.size());
    parts_.bpe.encode(piece.substr(begin, end - begin), scratch.bpe, ids);
    if (end == piece.size()) return;
    begin = from = end;
  }
}

std::optional<std::string_view> TokenizerModel::token_text(std::int32_t id, bool skip_special) const {
  const auto added = added_by_id_.find(id);
  if (added != added_by_id_.end()) {
    if (skip_special && added->second->special) return std::nullopt;
    return added->second->content;
  }
  if (!parts_.bpe.vocabulary().contains(id)) return std::nullopt;
  return parts_.bpe.vocabulary().token(id);
}

std::string TokenizerModel::decode(std::span<const std::int32_t> ids, bool skip_special) const {
  std::vector<std::string> tokens;
  tokens.reserve(ids.size());
  for (const std::int32_t id : ids)
    if (const auto text = token_text(id, skip_special)) tokens.emplace_back(*text);
  return decode_tokens(parts_.decoder, std::move(tokens));
}

}  // namespace knapsaq
