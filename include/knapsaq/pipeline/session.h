#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "knapsaq/pipeline/environment.h"

namespace knapsaq {

class Checkpoint;
class Decoder;
class Tokenizer;
struct CalibrationText;
struct LoadedDecoder;
struct ModelConfig;
enum class Precision : std::uint8_t;

/// A model that is worked with. What the steps of the work share (tokenizer, fingerprint, texts, the decoder)
/// is read when it is first asked for, and once.
///
/// Files are checked when they are opened; what is wrong is InputError, naming file and tensor.
class Session {
 public:
  /// How the weights of a model that somebody else quantized are worked with.
  enum class Weights : std::uint8_t {
    as_stored,  ///< as they are: to run and to judge them, and to write them in another format
    decoded     ///< in full precision, which a note says: to quantize them
  };

  /// `model`: a folder in Hugging Face layout, a GGUF file, or a repository of the local Hugging Face cache
  /// (find_model()). Notes about its files go to the listener. `environment` must outlive the session.
  Session(Environment& environment, const std::filesystem::path& model, Weights weights = Weights::as_stored);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  Environment& environment() const;
  Listener& listener() const;
  Execution execution() const;

  /// Where the model is.
  const std::filesystem::path& path() const;
  const Checkpoint& checkpoint() const;
  const ModelConfig& config() const;
  const Tokenizer& tokenizer();
  /// Of the checkpoint, which is read whole for it (checkpoint/fingerprint.h).
  const std::string& fingerprint();
  /// The text of these files (read_calibration_text()); read again where a file has changed.
  const CalibrationText& text(std::span<const std::filesystem::path> files);

  /// The whole model, loaded when it is first asked for in this precision.
  Decoder& decoder(Precision precision);
  /// decoder() if it is loaded, else null.
  Decoder* loaded_decoder(Precision precision);
  /// decoder() for somebody who changes its weights; the session has none afterwards.
  LoadedDecoder take_decoder(Precision precision);
  /// Lets go of the decoder where less memory is free than the model's files take: what comes next needs
  /// some.
  void make_room();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace knapsaq
