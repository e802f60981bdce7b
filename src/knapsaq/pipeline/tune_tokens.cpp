#include "knapsaq/pipeline/tune_tokens.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <span>

#include <fmt/format.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/hash.h"
#include "knapsaq/calib/search_text.h"
#include "knapsaq/calib/self_text.h"
#include "knapsaq/checkpoint/safetensors.h"
#include "knapsaq/family/config.h"
#include "knapsaq/pipeline/found_inputs.h"
#include "knapsaq/pipeline/self_samples.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;

std::string checksum(std::string_view key, std::span<const std::span<const std::byte>> parts) {
  Hasher hasher;
  hasher.update(key);
  for (const auto part : parts) hasher.update(part);
  return hasher.hex();
}

constexpr std::array kNames = {"train", "heldout"};

void keep(const fs::path& file, std::string_view key, const TuneTokens& tokens) {
  const std::span<const std::byte> parts[] = {std::as_bytes(std::span(tokens.train)),
                                              std::as_bytes(std::span(tokens.heldout))};
  const std::string digits = checksum(key, parts);
  const TensorSpec specs[] = {{kNames[0], DType::I32, {std::ssize(tokens.train)}},
                              {kNames[1], DType::I32, {std::ssize(tokens.heldout)}},
                              {"checksum", DType::U8, {std::ssize(digits)}}};
  SafetensorsWriter writer(file, specs);
  for (const auto part : parts) writer.write(part);
  writer.write(std::as_bytes(std::span(digits)));
  writer.commit();
}

/// Whether the file holds the tokens of this key; `tokens` has the right sizes.
bool find(const fs::path& file, std::string_view key, TuneTokens& tokens) {
  if (!fs::exists(file)) return false;
  try {
    const SafetensorsFile stored(file);
    std::vector<std::span<const std::byte>> parts;
    for (const auto& [name, wanted] : {std::pair{kNames[0], &tokens.train}, {kNames[1], &tokens.heldout}}) {
      const auto found = stored.tensors().find(name);
      if (found == stored.tensors().end() || found->second.bytes.size() != 4 * wanted->size()) return false;
      parts.push_back(found->second.bytes);
    }
    const std::string digits = checksum(key, parts);
    const auto kept = stored.tensors().find("checksum");
    if (kept == stored.tensors().end() ||
        !std::ranges::equal(kept->second.bytes, std::as_bytes(std::span(digits))))
      return false;
    std::memcpy(tokens.train.data(), parts[0].data(), parts[0].size());
    std::memcpy(tokens.heldout.data(), parts[1].data(), parts[1].size());
    return true;
  } catch (const InputError&) {
    return false;  // it is made anew
  }
}

std::vector<fs::path> files_of(std::span<const std::string> names) { return {names.begin(), names.end()}; }

}  // namespace

TuneTokens tune_tokens(Session& full, const TuneOptions& options, const fs::path& file) {
  SampleOptions train{.samples = options.steps * options.batch,
                      .window = options.window,
                      .seed = options.seed,
                      .held_back = options.held_back};
  train = resolve_self(train, full.config().max_positions);
  SampleOptions heldout = train;
  heldout.samples = std::max<std::int64_t>(1, options.heldout / train.window);
  TuneTokens tokens;
  tokens.window = train.window;
  if (options.text.empty() || is_self(options.text)) {
    const Precision precision = options.precision == "fp32" ? Precision::fp32 : Precision::bf16;
    const std::string key =
        fmt::format("knapsaq tuning text 1;{};{};{};{};{};{}", full.fingerprint(), train.samples,
                    train.window, train.seed, heldout.samples, options.precision);
    tokens.train.resize(static_cast<std::size_t>(train.samples * train.window));
    tokens.heldout.resize(static_cast<std::size_t>(heldout.samples * heldout.window));
    if (!find(file, key, tokens)) {
      tokens.train = self_samples(full, precision, train, SelfTextUse::tuning).tokens;
      tokens.heldout = self_samples(full, precision, heldout, SelfTextUse::tuning_heldout).tokens;
      keep(file, key, tokens);
    }
  } else {
    // A text has only so many windows; steps that need more take them again.
    const CalibrationText& text = full.text(files_of(options.text));
    const std::vector<std::int32_t> all = encode_documents(text, full.tokenizer());
    const std::int64_t stream = std::ssize(front_of(all, train));
    // What search_windows() leaves for them.
    const std::int64_t fitting =
        (stream - std::max(stream / 4, heldout.samples * train.window)) / train.window;
    train.samples = std::clamp<std::int64_t>(fitting, 1, train.samples);
    SearchText windows = search_windows(text, full.tokenizer(), train, heldout.samples);
    tokens.train = std::move(windows.search.tokens);
    tokens.heldout = std::move(windows.heldout.tokens);
  }
  if (!options.foreign.empty()) {
    const std::string names[] = {options.foreign};
    heldout.held_back = 0;
    tokens.foreign = sample_windows(full.text(files_of(names)), full.tokenizer(), heldout).tokens;
  }
  return tokens;
}

}  // namespace knapsaq
