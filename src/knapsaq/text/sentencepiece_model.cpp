// tokenizer.model of SentencePiece. SentencePiece's library reads the pieces. The ids come from Knapsaq's own
// BPE, which gives those of Hugging Face's converted tokenizers and is several times as fast.

#include <algorithm>
#include <cstring>

#include <fmt/format.h>
#include <sentencepiece_processor.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/quote.h"
#include "knapsaq/base/utf8.h"
#include "knapsaq/text/tokenizer_readers.h"

namespace knapsaq {
namespace {

constexpr std::string_view kMetaspace = "\xE2\x96\x81";
/// SentencePiece's default for the longest piece is 16 characters. All splits of a piece are tried, so it
/// must not be long.
constexpr std::size_t kLongestPiece = 1024;

/// One field of a protocol buffer message.
struct Field {
  std::uint64_t number = 0;
  std::uint64_t value = 0;  ///< of an integer field
  std::string_view bytes;   ///< of a field with a length
};

/// Iterates over the fields of a message in the wire format of protocol buffers.
class FieldReader {
 public:
  FieldReader(std::string_view message, const std::string& where) : rest_(message), where_(where) {}

  bool next(Field& field) {
    if (rest_.empty()) return false;
    const std::uint64_t key = varint();
    field = {.number = key >> 3, .value = 0, .bytes = {}};
    switch (key & 7) {
      case 0:
        field.value = varint();
        return true;
      case 1:
        take(8);
        return true;
      case 2:
        field.bytes = take(varint());
        return true;
      case 5:
        take(4);
        return true;
      default:
        damaged();
    }
  }

 private:
  [[noreturn]] void damaged() const {
    throw InputError(where_ + ": not a SentencePiece model; the file is damaged");
  }

  std::string_view take(std::uint64_t count) {
    if (count > rest_.size()) damaged();
    const std::string_view taken = rest_.substr(0, count);
    rest_.remove_prefix(count);
    return taken;
  }

  std::uint64_t varint() {
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<unsigned char>(take(1)[0]);
      value |= std::uint64_t{byte & 0x7FU} << shift;
      if (byte < 0x80) return value;
    }
    damaged();
  }

  std::string_view rest_;
  const std::string& where_;
};

/// The settings of a model that the library's interface does not expose (field numbers of
/// sentencepiece_model.proto).
struct Specification {
  std::uint64_t model_type = 1;  ///< 1 unigram, 2 BPE
  bool byte_fallback = false;
  bool whitespace_as_suffix = false;
  std::vector<std::string> user_defined;
  bool normalizes = false;  ///< has a table of character replacements
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = true;
  bool escape_whitespaces = true;
};

Specification read_specification(std::string_view model, const std::string& where) {
  Specification found;
  FieldReader reader(model, where);
  Field field;
  Field part;
  while (reader.next(field)) {
    if (field.number == 2) {  // trainer_spec
      FieldReader trainer(field.bytes, where);
      while (trainer.next(part)) {
        if (part.number == 3) found.model_type = part.value;
        if (part.number == 24) found.whitespace_as_suffix = part.value != 0;
        if (part.number == 31) found.user_defined.emplace_back(part.bytes);
        if (part.number == 35) found.byte_fallback = part.value != 0;
      }
    } else if (field.number == 3) {  // normalizer_spec
      FieldReader normalizer(field.bytes, where);
      while (normalizer.next(part)) {
        if (part.number == 2) found.normalizes = !part.bytes.empty();
        if (part.number == 3) found.add_dummy_prefix = part.value != 0;
        if (part.number == 4) found.remove_extra_whitespaces = part.value != 0;
        if (part.number == 5) found.escape_whitespaces = part.value != 0;
      }
    }
  }
  return found;
}

void check_supported(const Specification& specification, const std::string& where) {
  const auto refuse = [&](bool wrong, const char* what) {
    if (wrong)
      throw InputError(
          fmt::format("{}: a SentencePiece model {} is not supported; use tokenizer.json", where, what));
  };
  refuse(specification.model_type != 2, "whose type is not BPE");
  refuse(specification.normalizes, "with a normalisation table");
  refuse(specification.remove_extra_whitespaces, "that removes extra white space");
  refuse(!specification.escape_whitespaces, "that does not escape white space");
  refuse(specification.whitespace_as_suffix, "with white space as a suffix");
}

}  // namespace

TokenizerParts read_sentencepiece(std::string_view model, const TokenizerSettings& given,
                                  const std::string& where) {
  const Specification specification = read_specification(model, where);
  check_supported(specification, where);
  sentencepiece::SentencePieceProcessor processor;
  const auto status = processor.LoadFromSerializedProto(absl::string_view(model.data(), model.size()));
  if (!status.ok())
    throw InputError(fmt::format("{}: not a SentencePiece model; the file is damaged", where));

  // Transformers' own class for Llama, which it never uses for Mistral's models.
  const bool is_llama = given.tokenizer_class == "LlamaTokenizer" && given.model_type != "mistral";
  TokenizerParts parts;
  std::vector<std::int32_t> by_rank;
  std::optional<std::int32_t> unknown;
  const int count = processor.GetPieceSize();
  Vocabulary vocabulary(where, static_cast<std::size_t>(count));
  for (int id = 0; id < count; ++id) {
    const std::string& piece = processor.IdToPiece(id);
    if (piece.empty() || piece.size() > kLongestPiece || find_invalid_utf8(piece) != piece.size()) {
      throw InputError(fmt::format("{}: piece {} ({}) is empty, too long or not UTF-8; the file is damaged",
                                   where, id, in_quotes(piece)));
    }
    vocabulary.add(piece, id);
    parts.scores.push_back(processor.GetScore(id));
    if (processor.IsUnknown(id)) unknown = id;
    const bool user_defined = std::find(specification.user_defined.begin(), specification.user_defined.end(),
                                        piece) != specification.user_defined.end();
    if (processor.IsControl(id) || processor.IsUnknown(id) || user_defined) {
      parts.added.push_back({.id = id,
                             .content = piece,
                             .special = !user_defined,
                             .normalized = user_defined && !is_llama,
                             .verbatim = user_defined && !is_llama});
    } else if (!processor.IsByte(id)) {
      by_rank.push_back(id);
    }
  }
  std::stable_sort(by_rank.begin(), by_rank.end(), [&](std::int32_t a, std::int32_t b) {
    return processor.GetScore(a) > processor.GetScore(b);
  });
  const std::vector<MergeRule> merges = merges_of_vocabulary(vocabulary, by_rank, true);

  const bool prefix = given.add_prefix_space.value_or(specification.add_dummy_prefix);
  if (is_llama) {
    parts.pre_tokenizer = PreTokenizer({llama_metaspace(prefix, given.legacy.value_or(false))});
  } else {
    // SentencePiece's own algorithm, stretch by stretch.
    using Kind = NormalizerStep::Kind;
    std::vector<NormalizerStep> steps;
    if (prefix)
      steps.push_back(
          {.kind = Kind::kPrepend, .pattern = {}, .content = std::string(kMetaspace), .regex = {}});
    steps.push_back(
        {.kind = Kind::kReplace, .pattern = " ", .content = std::string(kMetaspace), .regex = {}});
    parts.normalizer = Normalizer(std::move(steps));
  }
  parts.decoder = sentencepiece_decoder(prefix);
  parts.bpe = Bpe(std::move(vocabulary), merges,
                  {.byte_fallback = specification.byte_fallback, .fuse_unknown = true, .unknown = unknown});

  TokenizerSettings settings = given;
  const auto piece_of = [&](int id) -> std::optional<std::string> {
    if (id < 0 || id >= count) return std::nullopt;
    return processor.IdToPiece(id);
  };
  if (!settings.bos) settings.bos = piece_of(processor.bos_id());
  if (!settings.eos) settings.eos = piece_of(processor.eos_id());
  apply_settings(settings, true, true, parts, where);
  return parts;
}

}  // namespace knapsaq
