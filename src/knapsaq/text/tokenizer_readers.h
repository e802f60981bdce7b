#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "knapsaq/text/tokenizer_model.h"
#include "knapsaq/text/tokenizer_settings.h"

namespace knapsaq {

// One reader for each kind of tokenizer file. `where` names the file in errors. All throw InputError for
// damaged files and unsupported features. They check everything: the bytes are untrusted.

/// tokenizer.json of Hugging Face's tokenizers with a BPE model.
TokenizerParts read_tokenizer_json(std::string_view json, const TokenizerSettings& settings,
                                   const std::string& where);

/// vocab.json and merges.txt as GPT-2 has them. The settings' tokenizer class determines the pre-tokenizer:
/// GPT2 (also without a class), GPTNeoX, Qwen2.
TokenizerParts read_vocabulary_and_merges(std::string_view vocabulary_json, std::string_view merges_text,
                                          const TokenizerSettings& settings,
                                          const std::string& vocabulary_where,
                                          const std::string& merges_where);

/// tokenizer.model of SentencePiece, type BPE, without a normalisation table (Llama 2, Mistral).
TokenizerParts read_sentencepiece(std::string_view model, const TokenizerSettings& settings,
                                  const std::string& where);

/// tokenizer.model of Llama 3: lines of base64 and rank, as written by tiktoken. 256 special tokens follow
/// the last rank.
TokenizerParts read_tiktoken(std::string_view text, const TokenizerSettings& settings,
                             const std::string& where);
/// Whether a tokenizer.model is text of this kind rather than SentencePiece's.
bool looks_like_tiktoken(std::string_view model);

// Shared by the readers.

/// An entry of tokenizer.json's added_tokens or of tokenizer_config.json's added_tokens_decoder.
AddedToken read_added_token(const nlohmann::json& json, std::int64_t id, const std::string& where);
/// `id` as a 32-bit number. Throws InputError for one outside 0..Vocabulary::kLargestId.
std::int32_t checked_id(std::int64_t id, const std::string& where);

/// The "vocab" of tokenizer.json, or the whole vocab.json.
Vocabulary read_vocabulary(const nlohmann::json& entries, const std::string& where);
/// The rule for merge number `rank`. Throws InputError if the vocabulary lacks one of the three tokens.
MergeRule make_merge(std::string_view left, std::string_view right, const Vocabulary& vocabulary,
                     std::size_t rank, const std::string& where);

/// Adds a token unless it contradicts the vocabulary.
void add_token(const AddedToken& token, TokenizerParts& parts, const std::string& where);

/// Adds the content of the settings: added tokens, the special ones, BOS and EOS. With `add_ends`, the
/// settings determine the special tokens around a text (add_bos_token, by default `bos_by_default`;
/// add_eos_token).
void apply_settings(const TokenizerSettings& settings, bool add_ends, bool bos_by_default,
                    TokenizerParts& parts, const std::string& where);

/// The expressions of byte-level pre-tokenizers, as in their files.
extern const char* const kGpt2Split;
extern const char* const kLlama3Split;
extern const char* const kQwen2Split;
extern const char* const kQwen35Split;

/// Step that splits at the matches of an expression; every match is a piece.
PreTokenizerStep split_step(std::string_view pattern, const std::string& where);
/// Appends the steps of a ByteLevel pre-tokenizer: a leading blank if `prefix_space`, a split by the
/// expression `split` unless that is nullptr, the step to bytes.
void append_byte_level(bool prefix_space, const char* split, const std::string& where,
                       std::vector<PreTokenizerStep>& steps);

/// The step of Transformers 5's Llama class: a blank before the first stretch of text, or if `legacy` before
/// every stretch, unless it already starts with one; none without `prefix`.
PreTokenizerStep llama_metaspace(bool prefix, bool legacy);

/// The decoder of SentencePiece tokenizers: metaspaces become blanks, byte tokens become bytes, and the
/// leading blank is removed if `prefix`.
std::vector<DecoderStep> sentencepiece_decoder(bool prefix);

/// The merges implied by a vocabulary without merges: all ways to combine a token from two others. Those of
/// the first of `tokens_by_rank` come first; among those of one token, the ones with smaller ids, as in
/// Hugging Face's converters. A token is split between its characters, or between any two bytes.
std::vector<MergeRule> merges_of_vocabulary(const Vocabulary& vocabulary,
                                            const std::vector<std::int32_t>& tokens_by_rank,
                                            bool at_characters);

}  // namespace knapsaq
