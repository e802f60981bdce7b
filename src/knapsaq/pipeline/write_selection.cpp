#include "knapsaq/pipeline/write_selection.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include <fmt/core.h>

#include "knapsaq/bank/corrected_codes.h"
#include "knapsaq/bank/matrix_scheme.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/hash.h"
#include "knapsaq/base/partial_output.h"
#include "knapsaq/checkpoint/gguf_file.h"
#include "knapsaq/export/engine.h"
#include "knapsaq/export/matrix_source.h"
#include "knapsaq/export/rewrite_quantized.h"
#include "knapsaq/export/writer.h"
#include "knapsaq/pipeline/named_allocation.h"

namespace knapsaq {
namespace {

/// The scheme of the same bits, groups and metadata by another method.
Scheme counterpart(const BankIndex& bank, const Scheme& scheme, const std::string& linear) {
  const auto there = std::ranges::find_if(
      bank.linears, [&](const BankedLinear& banked) { return banked.linear.name == linear; });
  if (there != bank.linears.end())
    for (Scheme one : there->schemes) {
      Scheme found = one;
      one.method = scheme.method;
      if (one == scheme) return found;
    }
  throw UsageError(
      fmt::format("the bank has no counterpart of {} for {}: build it with the run's menu and another "
                  "method",
                  to_string(scheme), linear));
}

/// Where the model is on its way to the engine's format, in the run's folder.
constexpr std::string_view kWrittenName = "written";
/// Folders of corrected codes, in the run's folder.
constexpr std::string_view kCorrectedName = "corrected";

/// A folder in Knapsaq's own format in that of the run's engine.
WrittenPoint export_folder(const Run& run, const std::filesystem::path& folder,
                           const std::filesystem::path& output, bool force, Progress& progress) {
  const Engine& engine = find_engine(run.settings().engine);
  ExportOptions how;
  how.replace = force;
  how.fusing_readers = engine.ties != "none";
  how.name = run.model_name();
  ExportReport report =
      writer(engine.format).write(Checkpoint::open(folder), run.config(), output, how, progress);
  return {report.bytes, 0, std::move(report.notes)};
}

/// Writes the matrices of `source` in the format of the run's engine.
WrittenPoint write_matrices(const Run& run, std::span<const MatrixScheme> allocation,
                            const MatrixSource& source, const std::filesystem::path& output, bool force,
                            Progress& progress) {
  const WriteOptions writing{.kept = run.settings().kept};
  if (run.settings().engine.empty()) {
    const QuantizedModel model =
        write_quantized(run.checkpoint(), run.config(), allocation, source, output, force, progress, writing);
    return {model.bytes, model.bits, {}};
  }
  // By way of Knapsaq's own format, which the writers read.
  const std::filesystem::path place = run.folder() / kWrittenName;
  remove_leftovers(place);
  const PartialOutput work(place, PartialOutput::Kind::folder);  // others may write at the same time
  const std::filesystem::path native = work.path() / "model";
  const QuantizedModel model =
      write_quantized(run.checkpoint(), run.config(), allocation, source, native, true, progress, writing);
  WrittenPoint written = export_folder(run, native, output, force, progress);
  written.bits = model.bits;
  return written;
}

}  // namespace

std::vector<MatrixScheme> allocation_of(const Run& run, const Point& point) {
  return allocation_of(find_matrices(run.config(), run.space().linears), run.space().allocation(point));
}

JudgedModel judged_model(const Candidate& one) {
  const double perplexity = one.heldout.perplexity();
  return {.bytes = one.bytes,
          .bits = one.bits,
          .kl = one.heldout.kl,
          .perplexity = perplexity,
          // From that of its logarithm.
          .perplexity_standard_error = perplexity * loss_standard_error(one.heldout),
          .agreement = one.heldout.agreement};
}

std::filesystem::path plan_result(OutputPlan& plan, const std::string& engine, const std::string& output,
                                  bool force) {
  const bool file = !engine.empty() && writer(find_engine(engine).format).makes_file();
  return file ? plan.file(output, force, is_own_gguf) : plan.folder(output, force);
}

void check_codes(const Run& run, const std::string& codes) {
  if (codes.empty()) return;
  const Bank other = Bank::open(codes);
  other.check_model(run.settings().model, run.config());
  for (std::size_t i = 0; i < run.space().linears.size(); ++i)
    for (const Scheme& scheme : run.space().schemes[i])
      static_cast<void>(counterpart(other.index(), scheme, run.space().linears[i]));
}

WrittenPoint write_point(const Run& run, const Point& point, const std::string& codes,
                         const std::filesystem::path& output, bool force, Progress& progress) {
  std::vector<MatrixScheme> allocation = allocation_of(run, point);
  std::optional<Bank> other;
  if (!codes.empty()) {
    other = Bank::open(codes);
    other->check_model(run.settings().model, run.config());
    for (MatrixScheme& one : allocation)
      one.scheme = counterpart(other->index(), one.scheme, one.matrix.name);
  }
  return write_matrices(run, allocation, BankSource(other ? *other : run.bank(), run.config()), output, force,
                        progress);
}

WrittenPoint write_folder(const Run& run, const std::filesystem::path& folder,
                          const std::filesystem::path& output, bool force, Progress& progress) {
  if (!run.settings().engine.empty()) return export_folder(run, folder, output, force, progress);
  return {rewrite_quantized(Checkpoint::open(folder), run.config(), {}, output, force, progress), 0, {}};
}

WrittenModel describe(const Run& run, const Selection& selection, WrittenPoint written,
                      const std::filesystem::path& output) {
  const Point& point = selection.chosen.point;
  WrittenModel model;
  model.path = output;
  model.bytes = written.bytes;
  model.bits = written.bits;
  model.is_uniform = selection.is_uniform;
  model.chosen = judged_model(selection.chosen);
  if (selection.other) {
    model.other = judged_model(*selection.other);
    model.difference = selection.difference.mean;
    model.difference_standard_error = selection.difference.standard_error;
  }
  model.divergence = name_of(run.settings().divergence);
  model.heldout_tokens = selection.chosen.heldout.tokens;
  model.reference_perplexity = std::exp(selection.reference_loss);
  model.allocation = named_allocation(run.space(), point);
  model.counts = scheme_counts(run.space(), point);
  model.notes = std::move(written.notes);
  return model;
}

WrittenModel write_selection(const Run& run, const Selection& selection, const std::string& codes,
                             const std::filesystem::path& output, bool force, Progress& progress) {
  WrittenModel model = describe(
      run, selection, write_point(run, selection.chosen.point, codes, output, force, progress), output);
  model.codes = codes;
  return model;
}

std::unique_ptr<const MatrixSource> correct_point(const Run& run, const Point& point, const Samples& samples,
                                                  const InputSource* outputs, Progress& progress) {
  const std::vector<MatrixScheme> allocation = allocation_of(run, point);
  auto bank = std::make_unique<BankSource>(run.bank(), run.config());
  std::string name = samples.hash;
  if (outputs != nullptr) name += fmt::format(" {}", outputs->identity());
  for (const MatrixScheme& one : allocation)
    name += fmt::format(" {}={}", one.matrix.name, to_string(one.scheme));
  const std::filesystem::path folder = run.folder() / kCorrectedName / hash_hex(name);
  std::filesystem::create_directories(folder.parent_path());
  const auto backend = make_backend({.precision = run.settings().precision});
  const CorrectionRecipe recipe{
      .model = run.settings().model,
      .allocation = allocation,
      .embedding = [&](const Matrix& matrix,
                       const Scheme& scheme) { return bank->matrix(matrix, scheme).stored; },
      .samples = samples,
      .folding = bank->folding(),
      .outputs = outputs};
  std::vector<LinearFile> files =
      correct_codes(run.checkpoint(), run.config(), recipe, *backend, folder, progress);
  return std::make_unique<CorrectedSource>(std::move(files), allocation, std::move(bank));
}

void remove_corrections(const Run& run) {
  const std::filesystem::path place = run.folder() / kCorrectedName;
  if (!std::filesystem::exists(place)) return;
  for (const std::filesystem::directory_entry& entry : std::filesystem::directory_iterator(place))
    remove_corrected(entry.path(), run.config());
  std::error_code not_empty;
  std::filesystem::remove(place, not_empty);
}

}  // namespace knapsaq
