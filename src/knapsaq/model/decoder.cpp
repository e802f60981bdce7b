#include "knapsaq/model/decoder.h"

#include <algorithm>
#include <stdexcept>
#include <string>
#include <utility>

#include <fmt/core.h>

#include "knapsaq/base/cancellation.h"
#include "knapsaq/base/error.h"
#include "knapsaq/model/architecture.h"
#include "knapsaq/model/decoder_impl.h"
#include "knapsaq/model/expected_tensors.h"

namespace knapsaq {
namespace {

/// Embedding and head are not part of any fold point.
const Folding kUnfolded;

}  // namespace

void Decoder::Impl::embed(std::span<const std::int32_t> tokens, const RowLayout& layout, Hidden& hidden) {
  pass.check_tokens(tokens);
  const std::int64_t rows = layout.rows();
  const std::int64_t width = weights.config.hidden;
  if (hidden.state.rows() != rows || hidden.state.cols() != width)
    hidden.state = weights.backend->allocate(rows, width, Element::full);
  hidden.windows = layout.windows;
  hidden.length = layout.length;
  const std::int64_t before = layout.past == nullptr ? 0 : layout.past->length();
  const std::int64_t length = layout.length;
  pass.embed(
      tokens, [&](std::int64_t row) { return before + row % length; }, hidden.state);
}

Decoder::Decoder(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Decoder::Decoder(Decoder&&) noexcept = default;
Decoder& Decoder::operator=(Decoder&&) noexcept = default;
Decoder::~Decoder() = default;

Decoder Decoder::open(const Checkpoint& checkpoint, const ModelConfig& config, Backend& backend) {
  check_shapes(checkpoint, config);
  return Decoder(std::make_unique<Impl>(config, backend, checkpoint.folder().string()));
}

void Decoder::load_embedding(const Checkpoint& checkpoint) {
  impl_->weights.read_embedding(WeightReader(checkpoint, kUnfolded));
}

void Decoder::unload_embedding() {
  impl_->weights.embedding.reset();
  impl_->weights.positions.reset();
  impl_->weights.project_in.reset();
}

void Decoder::load_head(const Checkpoint& checkpoint) {
  impl_->weights.read_head(WeightReader(checkpoint, kUnfolded));
}

void Decoder::unload_head() {
  impl_->weights.head.reset();
  impl_->weights.project_out.reset();
  impl_->weights.final_norm = {};
}

void Decoder::load_block(const Checkpoint& checkpoint, std::int64_t index, const Folding& folding) {
  unload_block(index);  // not the old and the new one at once
  impl_->weights.read_block(WeightReader(checkpoint, folding), index);
}
void Decoder::load_block(const Checkpoint& checkpoint, std::int64_t index) {
  load_block(checkpoint, index, kUnfolded);
}

void Decoder::unload_block(std::int64_t index) {
  impl_->weights.blocks.at(static_cast<std::size_t>(index)) = {};
}

Decoder Decoder::load(const Checkpoint& checkpoint, const ModelConfig& config, Backend& backend,
                      Progress& progress) {
  return load(checkpoint, config, backend, kUnfolded, progress);
}

Decoder Decoder::load(const Checkpoint& checkpoint, const ModelConfig& config, Backend& backend,
                      const Folding& folding, Progress& progress) {
  Decoder decoder = open(checkpoint, config, backend);
  ProgressScope scope(progress, "loading", static_cast<std::uint64_t>(config.layers) + 1, "blocks");
  decoder.load_embedding(checkpoint);
  decoder.load_head(checkpoint);
  scope.advance();
  for (std::int64_t i = 0; i < config.layers; ++i) {
    check_cancelled();
    decoder.load_block(checkpoint, i, folding);
    scope.advance();
  }
  return decoder;
}

const ModelConfig& Decoder::config() const { return impl_->weights.config; }
Backend& Decoder::backend() const { return *impl_->weights.backend; }

void Decoder::check_length(std::int64_t length) const {
  const ModelConfig& config = impl_->weights.config;
  if (config.positions == Positions::learned && length > config.max_positions)
    throw InputError(
        fmt::format("a window of {} tokens is longer than the {} positions that the model knows; use "
                    "a shorter window",
                    length, config.max_positions));
}

std::int64_t Decoder::windows_per_batch(std::int64_t length) const {
  return std::max<std::int64_t>(1, backend().batch_rows() / std::max<std::int64_t>(1, length));
}

Hidden Decoder::embed(std::span<const std::int32_t> tokens, std::int64_t windows, std::int64_t length) {
  Hidden hidden;
  embed(tokens, windows, length, hidden);
  return hidden;
}

void Decoder::embed(std::span<const std::int32_t> tokens, std::int64_t windows, std::int64_t length,
                    Hidden& hidden) {
  if (windows < 0 || length < 1 || static_cast<std::int64_t>(tokens.size()) != windows * length)
    throw std::invalid_argument("embed: tokens are not windows x length");
  check_length(length);
  impl_->pass.prepare_rotation(length, length);
  impl_->embed(tokens, {.windows = windows, .length = length}, hidden);
}

void Decoder::block(std::int64_t index, Hidden& hidden, const InputObserver& observer) {
  impl_->pass.block(index, hidden, {.windows = hidden.windows, .length = hidden.length}, observer);
}

void Decoder::run(std::int64_t index, Stage stage, PartialPass& pass) {
  impl_->pass.run(index, stage, pass, {.windows = pass.hidden.windows, .length = pass.hidden.length});
}

Array Decoder::stage_input(std::int64_t index, Stage stage, const PartialPass& pass) {
  return impl_->pass.input(index, stage, pass, pass.hidden.tokens());
}

Array Decoder::attention_output(std::int64_t index, const Array& x, std::int64_t windows,
                                std::int64_t length) {
  return impl_->pass.attention_output(index, x, {.windows = windows, .length = length});
}

Array Decoder::mlp_output(std::int64_t index, const Array& x, std::int64_t rows) {
  return impl_->pass.mlp_output(index, x, rows);
}

void Decoder::head_losses(const Hidden& hidden, std::span<const std::int32_t> tokens, std::span<float> out) {
  const std::int64_t length = hidden.length;
  if (static_cast<std::int64_t>(tokens.size()) != hidden.tokens() ||
      static_cast<std::int64_t>(out.size()) != hidden.windows * (length - 1))
    throw std::invalid_argument("head_losses: sizes do not fit the hidden state");
  impl_->pass.check_tokens(tokens);
  std::vector<std::int32_t> targets(tokens.size());
  for (std::size_t i = 0; i < targets.size(); ++i)
    targets[i] = (i + 1) % static_cast<std::size_t>(length) == 0 ? -1 : tokens[i + 1];
  std::vector<float> losses(tokens.size());
  const Array input = impl_->pass.head_input(hidden);  // also notices a head that is not loaded
  impl_->pass.look_at_logits(input, hidden.tokens());
  impl_->weights.backend->losses(input, {impl_->weights.head.get(), config().logit_softcap}, targets, losses);
  for (std::int64_t w = 0; w < hidden.windows; ++w)
    std::copy_n(losses.begin() + w * length, length - 1, out.begin() + w * (length - 1));
}

void Decoder::losses(std::span<const std::int32_t> tokens, std::int64_t windows, std::int64_t length,
                     std::span<float> out) {
  if (windows < 0 || length < 1 || static_cast<std::int64_t>(tokens.size()) != windows * length ||
      static_cast<std::int64_t>(out.size()) != windows * (length - 1))
    throw std::invalid_argument("losses: sizes do not fit windows x length");
  check_length(length);
  impl_->pass.check_tokens(tokens);
  const std::int64_t batch = windows_per_batch(length);
  for (std::int64_t first = 0; first < windows; first += batch) {
    const std::int64_t count = std::min(batch, windows - first);
    const auto some =
        tokens.subspan(static_cast<std::size_t>(first * length), static_cast<std::size_t>(count * length));
    const auto of_some = out.subspan(static_cast<std::size_t>(first * (length - 1)),
                                     static_cast<std::size_t>(count * (length - 1)));
    impl_->pass.finite_pass(of_some, [&] {
      Hidden hidden = embed(some, count, length);
      for (std::int64_t i = 0; i < impl_->weights.config.layers; ++i) {
        check_cancelled();
        block(i, hidden);
      }
      head_losses(hidden, some, of_some);
    });
  }
}

std::vector<float> Decoder::logits(std::span<const std::int32_t> tokens, std::int64_t first) {
  const auto length = static_cast<std::int64_t>(tokens.size());
  if (first < 0 || first >= length) throw std::invalid_argument("logits: no such position");
  const std::int64_t rows = length - first;
  std::vector<float> result(static_cast<std::size_t>(rows * impl_->weights.config.vocab));
  impl_->pass.finite_pass(result, [&] {
    Hidden hidden = embed(tokens, 1, length);
    for (std::int64_t i = 0; i < impl_->weights.config.layers; ++i) block(i, hidden);
    Backend& backend = *impl_->weights.backend;
    Array logits = backend.allocate(rows, impl_->weights.config.vocab, Element::full);
    impl_->pass.multiply_by_head(backend.view(impl_->pass.head_input(hidden), first, rows), rows, logits);
    backend.download(logits, 0, result);
  });
  return result;
}

void Decoder::head_input(const Hidden& hidden, Array& out) { impl_->pass.head_input(hidden, out); }

void Decoder::look_for_not_finite(bool on) { impl_->pass.looking = on; }

void Decoder::require_finite(std::span<const std::int32_t> tokens, std::int64_t windows,
                             std::int64_t length) {
  std::vector<float> found(static_cast<std::size_t>(windows * (length - 1)));
  const bool before = std::exchange(impl_->pass.looking, true);
  try {
    losses(tokens, windows, length, found);
  } catch (...) {
    impl_->pass.looking = before;
    throw;
  }
  impl_->pass.looking = before;
}

std::shared_ptr<const Weight> Decoder::head() const {
  if (!impl_->weights.head) throw std::logic_error("the head is not loaded");
  return impl_->weights.head;
}

DecoderMemory Decoder::memory() const {
  DecoderMemory memory = impl_->weights.memory();
  memory.work = impl_->pass.bytes();
  return memory;
}

PreparedMatrix Decoder::prepare(std::size_t number, const StoredMatrix& matrix) {
  check(matrix);
  return impl_->weights.prepare(number, matrix, rows_of(matrix), cols_of(matrix));
}

PreparedMatrix Decoder::prepare(std::size_t number, const StoredMatrix& matrix, std::span<const float> bias) {
  check(matrix);
  return impl_->weights.prepare(number, matrix, rows_of(matrix), cols_of(matrix), bias);
}

void Decoder::place(std::size_t number, PreparedMatrix matrix) {
  impl_->weights.place(number, std::move(matrix));
}

PreparedMatrix Decoder::placed(std::size_t number) const { return impl_->weights.placed(number); }

void Decoder::replace(std::string_view name, const TensorView& weight) {
  if (weight.shape.size() != 2) throw std::invalid_argument("replace: not a matrix");
  WeightReader::check_finite(weight, "replacement", std::string(name));
  const std::size_t number = impl_->weights.number_of(name);
  place(number, impl_->weights.prepare(number, weight, weight.shape[0], weight.shape[1]));
}

void Decoder::replace(std::string_view name, const StoredMatrix& weight) {
  const std::size_t number = impl_->weights.number_of(name);
  place(number, prepare(number, weight));
}

void Decoder::set_norm(std::string_view tensor, std::span<const float> values) {
  impl_->weights.set_norm(tensor, values);
}

}  // namespace knapsaq
