#include "knapsaq/bank/paired_streams.h"

#include <algorithm>
#include <functional>
#include <utility>

#include <fmt/core.h>

#include "knapsaq/base/cancellation.h"
#include "knapsaq/base/not_finite_error.h"
#include "knapsaq/compute/tensor.h"

namespace knapsaq {
namespace {

void download(Backend& backend, const Array& array, std::int64_t rows, std::vector<float>& values) {
  values.resize(static_cast<std::size_t>(rows * array.cols()));
  backend.download(array, 0, values);
}

/// a - b for the first `rows` rows, `working`. Exact for inputs in bf16 before it is rounded to what products
/// read: 2^-9 of each difference at random, where the difference of two products would lose digits of all.
Array difference(Backend& backend, std::int64_t rows, const std::vector<float>& a,
                 const std::vector<float>& b) {
  std::vector<float> values(a.size());
  std::ranges::transform(a, b, values.begin(), std::minus());
  const std::int64_t cols = std::ssize(values) / rows;
  Array out = backend.allocate(rows, cols, Element::working);
  backend.convert(backend.upload(values, rows, cols), rows, out);
  return out;
}

bool adds_to_residual(Stage stage) { return stage == Stage::attention_output || stage == Stage::mlp_output; }

}  // namespace

PairedStreams::PairedStreams(const Checkpoint& checkpoint, const ModelConfig& config, const Samples& samples,
                             Backend& backend, const Folding* folding, const StoredMatrix* embedding)
    : checkpoint_(checkpoint), folding_(folding), decoder_(Decoder::open(checkpoint, config, backend)) {
  const std::int64_t most = decoder_.windows_per_batch(samples.options.window);
  const std::int64_t judge = samples.options.samples / 4;
  const auto add = [&](std::int64_t windows) {
    for (; windows > 0; windows -= most) batches_.emplace_back().windows = std::min(most, windows);
  };
  add(samples.options.samples - judge);
  fit_ = batches_.size();
  add(judge);
  decoder_.load_embedding(checkpoint);
  embed(samples, &Batch::full);
  if (embedding != nullptr) {
    const Matrix matrix = matrices(config).front();
    // A tied embedding is prepared as the head too.
    if (matrix.is_multiplied()) decoder_.load_head(checkpoint);
    decoder_.place(matrix.number, decoder_.prepare(matrix.number, *embedding));
  }
  embed(samples, &Batch::quantized);
  decoder_.unload_embedding();
  decoder_.unload_head();
}

void PairedStreams::embed(const Samples& samples, PartialPass Batch::*stream) {
  const auto length = static_cast<std::size_t>(samples.options.window);
  std::span<const std::int32_t> tokens = samples.tokens;
  for (Batch& batch : batches_) {
    const std::size_t count = static_cast<std::size_t>(batch.windows) * length;
    (batch.*stream).hidden = decoder_.embed(tokens.first(count), batch.windows, samples.options.window);
    tokens = tokens.subspan(count);
  }
}

void PairedStreams::begin_block(std::int64_t index) {
  if (folding_ != nullptr) {
    decoder_.load_block(checkpoint_, index, *folding_);
  } else {
    decoder_.load_block(checkpoint_, index);
  }
  block_ = index;
  matrices_.clear();
  full_.clear();
  for (Matrix& matrix : linears(decoder_.config())) {
    if (matrix.block != index) continue;
    full_.push_back(decoder_.placed(matrix.number));
    matrices_.push_back(std::move(matrix));
  }
  quantized_ = full_;
}

const Matrix& PairedStreams::first_of(Stage stage) const {
  return *std::ranges::find(matrices_, stage, [](const Matrix& one) { return stage_of(one.role); });
}

void PairedStreams::place(const std::vector<PreparedMatrix>& prepared) {
  for (std::size_t i = 0; i < matrices_.size(); ++i) decoder_.place(matrices_[i].number, prepared[i]);
}

PairedInputs PairedStreams::measure(Stage stage, Progress& progress) {
  const std::span batches(batches_);
  return {first_of(stage), sums_of(stage, batches.first(fit_), progress),
          sums_of(stage, batches.subspan(fit_), progress)};
}

PairedSums PairedStreams::sums_of(Stage stage, std::span<const Batch> batches, Progress& progress) {
  Backend& backend = decoder_.backend();
  const Matrix& first = first_of(stage);
  PairedSums sums{InputSums(first.in), {}, {}};
  Array errors = backend.allocate(first.in, first.in, Element::full);
  Array residual_errors;
  if (adds_to_residual(stage)) residual_errors = backend.allocate(first.out, first.in, Element::full);
  std::vector<float> full;
  std::vector<float> quantized;
  for (const Batch& batch : batches) {
    check_cancelled();
    const std::int64_t rows = batch.full.hidden.tokens();
    download(backend, decoder_.stage_input(block_, stage, batch.full), rows, full);
    const Array y = decoder_.stage_input(block_, stage, batch.quantized);
    download(backend, y, rows, quantized);
    backend.sum_inputs(y, rows, sums.quantized);
    backend.add_product_of_columns(difference(backend, rows, full, quantized), y, rows, errors);
    if (!residual_errors.empty()) {
      download(backend, batch.full.hidden.state, rows, full);
      download(backend, batch.quantized.hidden.state, rows, quantized);
      backend.add_product_of_columns(difference(backend, rows, full, quantized), y, rows, residual_errors);
    }
    progress.advance(static_cast<std::uint64_t>(batch.windows));
  }
  download(backend, errors, first.in, sums.errors);
  if (!residual_errors.empty()) download(backend, residual_errors, first.out, sums.residual_errors);
  return sums;
}

void PairedStreams::replace(const Matrix& matrix, const StoredMatrix& stored) {
  const auto place = std::ranges::find(matrices_, matrix.number, &Matrix::number) - matrices_.begin();
  quantized_[static_cast<std::size_t>(place)] = decoder_.prepare(matrix.number, stored);
}

void PairedStreams::advance(Stage stage, Progress& progress) {
  const auto run = [&](PartialPass& pass) {
    decoder_.run(block_, stage, pass);
    if (stage == Stage::attention_output) pass.attended = {};
    if (stage == Stage::mlp_output) {
      pass.mlp = {};
      pass.mixture = {};
    }
  };
  place(full_);
  for (Batch& batch : batches_) {
    check_cancelled();
    run(batch.full);
  }
  place(quantized_);
  for (Batch& batch : batches_) {
    check_cancelled();
    run(batch.quantized);
    progress.advance(static_cast<std::uint64_t>(batch.windows));
  }
}

void PairedStreams::end_block() {
  std::vector<float> values;
  for (const Batch& batch : batches_)
    for (const PartialPass* pass : {&batch.full, &batch.quantized}) {
      download(decoder_.backend(), pass->hidden.state, pass->hidden.tokens(), values);
      if (first_not_finite(values))
        throw NotFiniteError(fmt::format("the output of block {} {} is not finite on this text", block_,
                                         pass == &batch.full
                                             ? "of the full-precision model"
                                             : "with the matrices that are quantized so far"));
    }
  full_.clear();
  quantized_.clear();
  decoder_.unload_block(block_);
}

}  // namespace knapsaq
