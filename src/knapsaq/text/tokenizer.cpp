#include "knapsaq/text/tokenizer.h"

#include <fmt/format.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"
#include "knapsaq/base/looks_like.h"
#include "knapsaq/checkpoint/gguf_file.h"
#include "knapsaq/text/gguf_tokenizer.h"
#include "knapsaq/text/tokenizer_model.h"
#include "knapsaq/text/tokenizer_readers.h"
#include "knapsaq/text/tokenizer_settings.h"

namespace knapsaq {
namespace {

/// The largest real tokenizer.json (vocabulary of 262,144) has 33 MB.
constexpr std::uint64_t kLargestFile = std::uint64_t{512} << 20;

/// A file without a mark by which its reader could recognise it.
std::string read_plain(const std::filesystem::path& path) {
  std::string content = read_file(path, kLargestFile);
  if (const std::string look = looks_like(content); !look.empty())
    throw InputError(fmt::format("{}: {}", path.string(), look));
  return content;
}

TokenizerParts read_parts(const std::filesystem::path& folder) {
  using std::filesystem::exists;
  if (is_gguf_file(folder)) return read_gguf_tokenizer(GgufFile(folder).metadata(), folder.string());
  TokenizerSettings settings = read_tokenizer_settings(folder);
  if (const auto path = folder / "tokenizer.json"; exists(path)) {
    return read_tokenizer_json(read_file(path, kLargestFile), settings, path.string());
  }
  // The second pair of names is that of Meta's own publication of OPT, which has no other tokenizer files.
  for (const char* prefix : {"", "gpt2-"}) {
    const auto vocabulary = folder / fmt::format("{}vocab.json", prefix);
    const auto merges = folder / fmt::format("{}merges.txt", prefix);
    if (!exists(vocabulary) && !exists(merges)) continue;
    for (const auto& path : {vocabulary, merges}) {
      if (!exists(path))
        throw InputError(fmt::format("{}: missing; copy it from where the model came from", path.string()));
    }
    if (*prefix != '\0' && settings.model_type.empty()) settings.model_type = "opt";
    return read_vocabulary_and_merges(read_plain(vocabulary), read_plain(merges), settings,
                                      vocabulary.string(), merges.string());
  }
  if (const auto path = folder / "tokenizer.model"; exists(path)) {
    const std::string model = read_plain(path);
    return looks_like_tiktoken(model) ? read_tiktoken(model, settings, path.string())
                                      : read_sentencepiece(model, settings, path.string());
  }
  // Of a GGUF file whose tokenizer has no form as tokenizer.json.
  if (const auto path = folder / kGgufMetadataName; exists(path)) {
    const GgufFile file(path);
    if (file.metadata().find("tokenizer.ggml.tokens") != nullptr)
      return read_gguf_tokenizer(file.metadata(), path.string());
  }
  throw InputError(fmt::format(
      "{}: no tokenizer: neither tokenizer.json, nor vocab.json with merges.txt, nor tokenizer.model; "
      "copy one from where the model came from",
      folder.string()));
}

}  // namespace

Tokenizer Tokenizer::load(const std::filesystem::path& path) {
  return Tokenizer(std::make_unique<TokenizerModel>(read_parts(path)));
}

Tokenizer::Tokenizer(std::unique_ptr<TokenizerModel> model) : model_(std::move(model)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

std::vector<std::int32_t> Tokenizer::encode(std::string_view text, bool add_special) const {
  return model_->encode(text, add_special);
}

std::vector<std::int32_t> Tokenizer::encode(std::span<const TextPart> parts) const {
  return model_->encode(parts);
}

std::string Tokenizer::decode(std::span<const std::int32_t> ids, bool skip_special) const {
  return model_->decode(ids, skip_special);
}

std::int32_t Tokenizer::vocabulary_size() const { return model_->vocabulary_size(); }

std::vector<std::int32_t> Tokenizer::unused_ids() const {
  std::vector<std::int32_t> ids;
  for (std::int32_t id = 0; id < vocabulary_size(); ++id)
    if (!model_->token_text(id, false)) ids.push_back(id);
  return ids;
}

std::optional<std::int32_t> Tokenizer::bos() const { return model_->parts().bos; }
std::optional<std::int32_t> Tokenizer::eos() const { return model_->parts().eos; }

bool Tokenizer::adds_bos() const {
  const TokenizerParts& parts = model_->parts();
  return !parts.before.empty() && parts.bos == parts.before.front();
}

}  // namespace knapsaq
