#include "knapsaq/export/carried.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <string_view>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"
#include "knapsaq/base/float16.h"
#include "knapsaq/checkpoint/gguf_fields.h"
#include "knapsaq/export/gguf/source_metadata.h"
#include "knapsaq/export/tokenizer_check.h"
#include "knapsaq/quant/quantizer.h"
#include "knapsaq/text/gguf_tokenizer.h"
#include "knapsaq/text/tokenizer_readers.h"
#include "knapsaq/text/tokenizer_writer.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;
using namespace std::string_view_literals;

// Elements that are checked and copied at a time.
constexpr std::int64_t kCopyElements = std::int64_t{1} << 20;

/// Whole names, in lower case.
constexpr std::array kNames{"vocab.json"sv,
                            "vocab.txt"sv,
                            "merges.txt"sv,
                            "gpt2-vocab.json"sv,
                            "gpt2-merges.txt"sv,
                            "tekken.json"sv,
                            "added_tokens.json"sv,
                            "special_tokens_map.json"sv,
                            "generation_config.json"sv,
                            "chat_template.json"sv,
                            "preprocessor_config.json"sv,
                            "video_preprocessor_config.json"sv,
                            "processor_config.json"sv};
/// The tokenizers of SentencePiece, tiktoken and others; templates.
constexpr std::array kEndings{".model"sv, ".tiktoken"sv, ".spm"sv, ".jinja"sv};
/// Licence files, which people name as they like.
constexpr std::array kBeginnings{"license"sv, "licence"sv, "copying"sv, "notice"sv, "use_policy"sv};
/// Named templates beside the default one, as Transformers saves them.
constexpr std::string_view kTemplates = "additional_chat_templates";

bool is_carried(std::string name) {
  std::ranges::transform(name, name.begin(), [](unsigned char c) { return std::tolower(c); });
  const auto ends = [&](std::string_view ending) { return name.ends_with(ending); };
  const auto begins = [&](std::string_view beginning) { return name.starts_with(beginning); };
  return std::ranges::find(kNames, name) != kNames.end() || std::ranges::any_of(kEndings, ends) ||
         std::ranges::any_of(kBeginnings, begins) || (begins("tokenizer") && ends(".json"));
}

/// The generation_config.json of a GGUF file: the tokens with roles in config.json, and what its maker
/// recommends to sample with.
nlohmann::ordered_json generation_config(const GgufMetadata& metadata, const nlohmann::json& config,
                                         const TokenizerParts& parts, const std::string& where) {
  nlohmann::ordered_json json;
  for (const char* key : {"bos_token_id", "eos_token_id"})
    if (config.contains(key)) json[key] = config[key];
  if (parts.pad) json["pad_token_id"] = *parts.pad;
  const GgufFields fields(metadata, where);
  const auto top_k = fields.integer("general.sampling.top_k");
  if (top_k) json["top_k"] = *top_k;
  bool samples = top_k.has_value();
  for (const auto& [key, name] : {std::pair{"general.sampling.top_p", "top_p"},
                                  {"general.sampling.min_p", "min_p"},
                                  {"general.sampling.temp", "temperature"}})
    if (const auto number = fields.number(key)) {
      // A float's shortest decimal: 0.6 and not 0.6000000238.
      json[name] = nlohmann::json::parse(fmt::format("{}", static_cast<float>(*number)));
      samples = true;
    }
  if (samples) json["do_sample"] = true;
  return json;
}

/// As tokenizer_config.json has them: a text, or a list if there are others beside the default one.
nlohmann::ordered_json chat_templates(const GgufMetadata& metadata, const std::string& where) {
  const GgufFields fields(metadata, where);
  const auto usual = fields.text("tokenizer.chat_template");
  const std::vector<std::string>* names = fields.texts("tokenizer.chat_templates");
  if (names == nullptr || names->empty()) return usual ? nlohmann::ordered_json(*usual) : nullptr;
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  if (usual) list.push_back({{"name", "default"}, {"template", *usual}});
  for (const std::string& name : *names)
    if (const auto text = fields.text("tokenizer.chat_template." + name))
      list.push_back({{"name", name}, {"template", *text}});
  return list;
}

/// Whether config.json has a rule for positions that only Knapsaq has (checkpoint/gguf_config.h).
bool has_frequency_factors(const nlohmann::json& config) {
  const auto scaling = config.find("rope_scaling");
  return scaling != config.end() && scaling->is_object() && scaling->value("rope_type", "") == "divisors";
}

/// Why tokenizer.json would not do; empty if it gives the same ids.
std::string obstacle_to(const TokenizerParts& parts, const std::string& json, const nlohmann::json& config,
                        const nlohmann::ordered_json& tokenizer_config, const std::string& where,
                        FolderReader reader) {
  TokenizerSettings settings;
  settings.tokenizer_class = tokenizer_config.value("tokenizer_class", "");
  settings.model_type = config.value("model_type", "");
  const TokenizerModel ours(parts);
  const TokenizerModel theirs(read_tokenizer_json(json, settings, where));
  const TokenizerDifference difference = compare_tokenizers(ours, theirs, trial_texts(parts));
  if (!difference.ordinary.empty()) return "other ids for " + describe(difference.ordinary, difference.texts);
  if (reader == FolderReader::knapsaq && !difference.unusual.empty())
    return "other ids for " + describe(difference.unusual, difference.texts);
  return "";
}

}  // namespace

CarriedFiles::CarriedFiles(const Checkpoint& model, FolderReader reader) : model_(model.folder()) {
  if (reader == FolderReader::others && has_frequency_factors(model.config()))
    throw InputError(
        fmt::format("{}: its RoPE frequency factors have no form in config.json, which other programs read; "
                    "write a GGUF file",
                    model_.string()));
  if (fs::is_directory(model_)) find_files();
  GgufMetadata metadata = metadata_of(model_);
  if (has_tokenizer(metadata) && !fs::exists(model_ / "tokenizer.json")) make_files(metadata, model, reader);
  if (reader == FolderReader::knapsaq) metadata_ = std::move(metadata);
}

void CarriedFiles::find_files() {
  for (const fs::directory_entry& entry : fs::directory_iterator(model_))
    if (entry.is_regular_file() && is_carried(entry.path().filename().string()))
      copied_.push_back(entry.path().filename());
  if (const fs::path folder = model_ / kTemplates; fs::is_directory(folder))
    for (const fs::directory_entry& entry : fs::directory_iterator(folder))
      if (entry.is_regular_file() && entry.path().extension() == ".jinja")
        copied_.push_back(fs::path(kTemplates) / entry.path().filename());
  std::ranges::sort(copied_);
}

void CarriedFiles::make_files(const GgufMetadata& metadata, const Checkpoint& model, FolderReader reader) {
  const std::string where = model_.string();
  const auto refuse = [&](const std::string& why) {
    if (reader == FolderReader::others)
      throw InputError(fmt::format(
          "{}: its tokenizer has no form as tokenizer.json, which other programs read: {}; write a GGUF file",
          where, why));
  };
  TokenizerParts parts;
  try {
    parts = read_gguf_tokenizer(metadata, where);
  } catch (const InputError& error) {
    return refuse(error.what());
  }
  nlohmann::ordered_json config = tokenizer_config_json(parts);
  if (model.config().contains("max_position_embeddings"))
    config["model_max_length"] = model.config()["max_position_embeddings"];
  if (auto templates = chat_templates(metadata, where); !templates.is_null())
    config["chat_template"] = std::move(templates);
  std::string tokenizer = tokenizer_json(parts);
  const std::string obstacle = obstacle_to(parts, tokenizer, model.config(), config, where, reader);
  if (!obstacle.empty()) refuse(obstacle);
  if (obstacle.empty()) made_.emplace_back("tokenizer.json", std::move(tokenizer));
  // A folder that was made of a GGUF file has the rest.
  if (fs::is_directory(model_)) return;
  made_.emplace_back("tokenizer_config.json", config.dump(2) + "\n");
  made_.emplace_back("generation_config.json",
                     generation_config(metadata, model.config(), parts, where).dump(2) + "\n");
}

void CarriedFiles::write(const fs::path& folder) const {
  for (const fs::path& name : copied_) {
    fs::create_directories((folder / name).parent_path());
    write_file(folder / name, read_file(model_ / name));
  }
  for (const auto& [name, content] : made_) write_file(folder / name, content);
  if (!metadata_.entries().empty()) write_source_metadata(metadata_, folder / kGgufMetadataName);
  check_carried_tokenizer(model_, folder);
}

TensorSpec carried_spec(const Checkpoint& checkpoint, const std::string& name,
                        std::span<const std::string> kept) {
  TensorSpec spec = checkpoint.spec(name);
  const std::string_view module = std::string_view(name).substr(0, name.rfind('.'));
  const bool is_kept = std::ranges::find(kept, module) != kept.end() && !checkpoint.is_decoded(name);
  if (spec.type == DType::F32 && spec.shape.size() == 2 && !is_kept) spec.type = DType::F16;
  return spec;
}

void carry_untouched(const Checkpoint& checkpoint, const std::string& name, CheckpointWriter& writer) {
  writer.write(checkpoint.tensor(name).bytes);
  checkpoint.release(name);
}

void carry_tensor(const Checkpoint& checkpoint, const std::string& name, CheckpointWriter& writer,
                  std::span<const std::string> kept) {
  const TensorView view = checkpoint.tensor(name);
  const bool narrows = carried_spec(checkpoint, name, kept).type != view.type;
  std::vector<float> values;
  std::vector<std::uint16_t> halves;
  for (std::int64_t first = 0; first < view.elements(); first += kCopyElements) {
    const std::int64_t count = std::min(kCopyElements, view.elements() - first);
    values.resize(static_cast<std::size_t>(count));
    read_floats(view, first, values);
    check_finite({1, count, values}, name);
    if (narrows) {
      halves.resize(values.size());
      std::ranges::transform(values, halves.begin(), float_to_half);
      for (std::size_t i = 0; i < halves.size(); ++i)
        if (!std::isfinite(half_to_float(halves[i])))
          throw InputError(
              fmt::format("{}: {} at {} is beyond what F16 holds; keep this matrix as it is stored", name,
                          values[i], first + static_cast<std::int64_t>(i)));
      writer.write(std::as_bytes(std::span(halves)));
      continue;
    }
    writer.write(view.bytes.subspan(static_cast<std::size_t>(first) * size_of(view.type),
                                    static_cast<std::size_t>(count) * size_of(view.type)));
  }
}

}  // namespace knapsaq
