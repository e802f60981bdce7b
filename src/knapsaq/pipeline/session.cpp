#include "knapsaq/pipeline/session.h"

#include <map>
#include <optional>
#include <system_error>
#include <utility>

#include "knapsaq/calib/samples.h"
#include "knapsaq/checkpoint/checkpoint.h"
#include "knapsaq/checkpoint/fingerprint.h"
#include "knapsaq/compute/backend.h"
#include "knapsaq/family/family.h"
#include "knapsaq/model/loaded_decoder.h"
#include "knapsaq/model/stored_tensors.h"
#include "knapsaq/pipeline/find_model.h"
#include "knapsaq/text/tokenizer.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;

/// Files as they are now: another size or time is another text.
struct FileState {
  fs::path path;
  std::uintmax_t bytes = 0;
  fs::file_time_type time;
  auto operator<=>(const FileState&) const = default;
};

std::vector<FileState> state_of(std::span<const fs::path> files) {
  std::vector<FileState> states;
  for (const fs::path& file : files) {
    std::error_code ignored;  // reading the file says it better
    states.push_back({file, fs::file_size(file, ignored), fs::last_write_time(file, ignored)});
  }
  return states;
}

Checkpoint open(const fs::path& path, Session::Weights weights) {
  const bool decoded = weights == Session::Weights::decoded;
  return Checkpoint::open(path, decoded ? Checkpoint::As::dense : Checkpoint::As::stored);
}

}  // namespace

struct Session::State {
  State(Environment& environment_, const fs::path& model, Weights weights)
      : environment(environment_), path(find_model(model)), checkpoint(open(path, weights)) {}

  Environment& environment;
  fs::path path;
  Checkpoint checkpoint;
  ModelConfig config;
  std::optional<Tokenizer> tokenizer;
  std::string fingerprint;
  std::map<std::vector<FileState>, CalibrationText> texts;
  LoadedDecoder loaded;
};

Session::Session(Environment& environment, const fs::path& model, Weights weights)
    : state_(std::make_unique<State>(environment, model, weights)) {
  state_->config = parse_model_config(state_->checkpoint.config());
  for (const std::string& note : notes_about(state_->checkpoint, state_->config)) listener().note(note);
}

Session::~Session() = default;

Environment& Session::environment() const { return state_->environment; }
Listener& Session::listener() const { return state_->environment.listener(); }
Execution Session::execution() const { return state_->environment.execution(); }
const fs::path& Session::path() const { return state_->path; }
const Checkpoint& Session::checkpoint() const { return state_->checkpoint; }
const ModelConfig& Session::config() const { return state_->config; }

const Tokenizer& Session::tokenizer() {
  if (!state_->tokenizer) state_->tokenizer.emplace(Tokenizer::load(state_->path));
  return *state_->tokenizer;
}

const std::string& Session::fingerprint() {
  if (state_->fingerprint.empty()) state_->fingerprint = knapsaq::fingerprint(state_->checkpoint, listener());
  return state_->fingerprint;
}

const CalibrationText& Session::text(std::span<const fs::path> files) {
  std::vector<FileState> key = state_of(files);
  auto found = state_->texts.find(key);
  if (found == state_->texts.end()) {
    state_->texts.clear();  // who asks for other files is done with these
    found = state_->texts.emplace(std::move(key), read_calibration_text(files)).first;
  }
  return found->second;
}

Decoder& Session::decoder(Precision precision) {
  if (Decoder* there = loaded_decoder(precision)) return *there;
  state_->loaded = {};
  LoadedDecoder loaded;
  loaded.backend = make_backend({.precision = precision});
  loaded.decoder = std::make_unique<Decoder>(
      Decoder::load(state_->checkpoint, state_->config, *loaded.backend, listener()));
  state_->loaded = std::move(loaded);
  return *state_->loaded.decoder;
}

Decoder* Session::loaded_decoder(Precision precision) {
  const LoadedDecoder& loaded = state_->loaded;
  return loaded.decoder != nullptr && loaded.backend->precision() == precision ? loaded.decoder.get()
                                                                               : nullptr;
}

LoadedDecoder Session::take_decoder(Precision precision) {
  decoder(precision);
  return std::exchange(state_->loaded, {});
}

void Session::make_room() {
  if (state_->loaded.backend == nullptr) return;
  const auto available = state_->loaded.backend->available_memory();
  if (available && *available < state_->checkpoint.tensor_bytes()) state_->loaded = {};
}

}  // namespace knapsaq
