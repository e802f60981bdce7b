#include <nanobind/stl/filesystem.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "bindings.h"
#include "knapsaq/pipeline/allocate.h"
#include "knapsaq/pipeline/bench.h"
#include "knapsaq/pipeline/compare.h"
#include "knapsaq/pipeline/export_model.h"
#include "knapsaq/pipeline/fit.h"
#include "knapsaq/pipeline/front.h"
#include "knapsaq/pipeline/info.h"
#include "knapsaq/pipeline/judge_files.h"
#include "knapsaq/pipeline/make_bank.h"
#include "knapsaq/pipeline/quantize.h"
#include "knapsaq/pipeline/tables.h"
#include "knapsaq/pipeline/tune.h"

namespace nb = nanobind;

namespace knapsaq::python {
namespace {

void bind_parts(nb::module_& module) {
  nb::class_<NamedScheme>(module, "NamedScheme")
      .def_ro("matrix", &NamedScheme::matrix)
      .def_ro("scheme", &NamedScheme::scheme);
  nb::class_<SchemeCount>(module, "SchemeCount")
      .def_ro("scheme", &SchemeCount::scheme)
      .def_ro("matrices", &SchemeCount::matrices);
  nb::class_<ModelMemory>(module, "ModelMemory")
      .def_ro("linears", &ModelMemory::linears)
      .def_ro("head", &ModelMemory::head)
      .def_ro("embedding", &ModelMemory::embedding)
      .def_ro("workspace", &ModelMemory::workspace);
  nb::class_<TaskAccuracy>(module, "TaskAccuracy")
      .def_ro("value", &TaskAccuracy::value)
      .def_ro("standard_error", &TaskAccuracy::standard_error);
  nb::class_<TaskScore>(module, "TaskScore")
      .def_ro("task", &TaskScore::task)
      .def_ro("items", &TaskScore::items)
      .def_ro("acc", &TaskScore::acc)
      .def_prop_ro("acc_norm", [](const TaskScore& score) {
        return score.has_norm ? std::optional<TaskAccuracy>(score.acc_norm) : std::nullopt;
      });
}

void bind_written(nb::module_& module) {
  nb::class_<JudgedModel>(module, "JudgedModel")
      .def_ro("bytes", &JudgedModel::bytes)
      .def_ro("bits", &JudgedModel::bits)
      .def_ro("kl", &JudgedModel::kl)
      .def_ro("perplexity", &JudgedModel::perplexity)
      .def_ro("perplexity_standard_error", &JudgedModel::perplexity_standard_error)
      .def_ro("agreement", &JudgedModel::agreement);
  nb::class_<MemoryUse>(module, "MemoryUse")
      .def_ro("context", &MemoryUse::context)
      .def_ro("cache_type", &MemoryUse::cache_type)
      .def_ro("weights", &MemoryUse::weights)
      .def_ro("cache", &MemoryUse::cache)
      .def_ro("work_space", &MemoryUse::work_space)
      .def_prop_ro("total", &MemoryUse::total);
  nb::class_<WritingStep>(module, "WritingStep")
      .def_ro("name", &WritingStep::name)
      .def_ro("judged", &WritingStep::judged)
      .def_ro("divergence", &WritingStep::divergence)
      .def_ro("divergence_standard_error", &WritingStep::divergence_standard_error);
  nb::class_<WrittenModel>(module, "WrittenModel")
      .def_ro("path", &WrittenModel::path)
      .def_ro("bytes", &WrittenModel::bytes)
      .def_ro("bits", &WrittenModel::bits)
      .def_ro("is_uniform", &WrittenModel::is_uniform)
      .def_ro("chosen", &WrittenModel::chosen)
      .def_ro("other", &WrittenModel::other)
      .def_ro("divergence", &WrittenModel::divergence)
      .def_ro("difference", &WrittenModel::difference)
      .def_ro("difference_standard_error", &WrittenModel::difference_standard_error)
      .def_ro("heldout_tokens", &WrittenModel::heldout_tokens)
      .def_ro("reference_perplexity", &WrittenModel::reference_perplexity)
      .def_ro("allocation", &WrittenModel::allocation)
      .def_ro("counts", &WrittenModel::counts)
      .def_ro("codes", &WrittenModel::codes)
      .def_ro("steps", &WrittenModel::steps)
      .def_ro("memory", &WrittenModel::memory)
      .def_ro("notes", &WrittenModel::notes);
}

void bind_runs(nb::module_& module) {
  nb::class_<SearchSummary>(module, "SearchSummary")
      .def_ro("evaluations", &SearchSummary::evaluations)
      .def_ro("measured", &SearchSummary::measured)
      .def_ro("full_passes", &SearchSummary::full_passes)
      .def_ro("seconds", &SearchSummary::seconds);
  nb::class_<FitResult>(module, "FitResult")
      .def_ro("model", &FitResult::model)
      .def_ro("search", &FitResult::search)
      .def_ro("run", &FitResult::run)
      .def_ro("report", &FitResult::report)
      .def_ro("budget_bytes", &FitResult::budget_bytes)
      .def_ro("seconds", &FitResult::seconds);
  nb::class_<SearchResult>(module, "SearchResult")
      .def_ro("run", &SearchResult::run)
      .def_ro("search", &SearchResult::search)
      .def_ro("hypervolume", &SearchResult::hypervolume)
      .def_ro("front", &SearchResult::front)
      .def_ro("remarks", &SearchResult::remarks);
  nb::class_<FrontSummary>(module, "FrontSummary")
      .def_ro("evaluations", &FrontSummary::evaluations)
      .def_ro("full_passes", &FrontSummary::full_passes)
      .def_ro("hypervolume", &FrontSummary::hypervolume)
      .def_ro("reference", &FrontSummary::reference);
  nb::class_<FrontResult> front(module, "FrontResult");
  nb::class_<FrontResult::Point>(front, "Point")
      .def_ro("bytes", &FrontResult::Point::bytes)
      .def_ro("bits", &FrontResult::Point::bits)
      .def_ro("divergence", &FrontResult::Point::divergence)
      .def_ro("perplexity", &FrontResult::Point::perplexity)
      .def_ro("agreement", &FrontResult::Point::agreement)
      .def_ro("strategy", &FrontResult::Point::strategy)
      .def_ro("allocation", &FrontResult::Point::allocation)
      .def_ro("counts", &FrontResult::Point::counts);
  nb::class_<FrontResult::Search>(front, "Search")
      .def_ro("strategy", &FrontResult::Search::strategy)
      .def_ro("seed", &FrontResult::Search::seed)
      .def_ro("options", &FrontResult::Search::options)
      .def_ro("finished", &FrontResult::Search::finished)
      .def_ro("found", &FrontResult::Search::found);
  front.def_ro("divergence", &FrontResult::divergence)
      .def_ro("all", &FrontResult::all)
      .def_ro("points", &FrontResult::points)
      .def_ro("searches", &FrontResult::searches);
}

void bind_steps(nb::module_& module) {
  nb::class_<BankResult>(module, "BankResult")
      .def_ro("linears", &BankResult::linears)
      .def_ro("schemes", &BankResult::schemes)
      .def_ro("kept", &BankResult::kept)
      .def_ro("damaged", &BankResult::damaged)
      .def_ro("bytes", &BankResult::bytes)
      .def_ro("seconds", &BankResult::seconds);
  nb::class_<CalibrateResult>(module, "CalibrateResult")
      .def_ro("fingerprint", &CalibrateResult::fingerprint)
      .def_ro("text", &CalibrateResult::text)
      .def_ro("identity", &CalibrateResult::identity)
      .def_prop_ro("samples", [](const CalibrateResult& one) { return one.samples.samples; })
      .def_prop_ro("window", [](const CalibrateResult& one) { return one.samples.window; })
      .def_prop_ro("seed", [](const CalibrateResult& one) { return one.samples.seed; })
      .def_ro("tokens", &CalibrateResult::tokens)
      .def_ro("seconds", &CalibrateResult::seconds);
  nb::class_<QuantizeResult> quantized(module, "QuantizeResult");
  nb::class_<QuantizeResult::Solved>(quantized, "Solved")
      .def_ro("cost", &QuantizeResult::Solved::cost)
      .def_ro("objective", &QuantizeResult::Solved::objective)
      .def_ro("bound", &QuantizeResult::Solved::bound)
      .def_ro("gap", &QuantizeResult::Solved::gap);
  quantized.def_ro("path", &QuantizeResult::path)
      .def_ro("bytes", &QuantizeResult::bytes)
      .def_ro("bits", &QuantizeResult::bits)
      .def_ro("error", &QuantizeResult::error)
      .def_ro("budget_bytes", &QuantizeResult::budget_bytes)
      .def_ro("memory", &QuantizeResult::memory)
      .def_ro("solved", &QuantizeResult::solved)
      .def_ro("allocation", &QuantizeResult::allocation)
      .def_ro("seconds", &QuantizeResult::seconds);
  nb::class_<TuneMeasurement>(module, "TuneMeasurement")
      .def_ro("kl", &TuneMeasurement::kl)
      .def_ro("perplexity", &TuneMeasurement::perplexity)
      .def_ro("agreement", &TuneMeasurement::agreement);
  nb::class_<TuneResult> tuned(module, "TuneResult");
  nb::class_<TuneResult::Text>(tuned, "Text")
      .def_ro("tokens", &TuneResult::Text::tokens)
      .def_ro("before", &TuneResult::Text::before)
      .def_ro("after", &TuneResult::Text::after);
  tuned.def_ro("path", &TuneResult::path)
      .def_ro("bytes", &TuneResult::bytes)
      .def_ro("parameters", &TuneResult::parameters)
      .def_ro("steps", &TuneResult::steps)
      .def_ro("best_step", &TuneResult::best_step)
      .def_ro("train", &TuneResult::train)
      .def_ro("heldout", &TuneResult::heldout)
      .def_ro("foreign", &TuneResult::foreign)
      .def_ro("seconds_per_step", &TuneResult::seconds_per_step)
      .def_ro("seconds", &TuneResult::seconds)
      .def_ro("peak_resident_bytes", &TuneResult::peak_resident_bytes);
  nb::class_<TablesResult>(module, "TablesResult")
      .def_ro("path", &TablesResult::path)
      .def_ro("linears", &TablesResult::linears)
      .def_ro("schemes", &TablesResult::schemes)
      .def_ro("seconds", &TablesResult::seconds);
  nb::class_<AllocateResult>(module, "AllocateResult")
      .def_ro("cost", &AllocateResult::cost)
      .def_ro("objective", &AllocateResult::objective)
      .def_ro("bound", &AllocateResult::bound)
      .def_ro("gap", &AllocateResult::gap)
      .def_ro("bytes", &AllocateResult::bytes)
      .def_ro("bits", &AllocateResult::bits)
      .def_ro("budget_bytes", &AllocateResult::budget_bytes)
      .def_ro("seconds", &AllocateResult::seconds)
      .def_ro("allocation", &AllocateResult::allocation);
  nb::class_<ExportModelResult> exported(module, "ExportResult");
  nb::class_<ExportModelResult::Recipe>(exported, "Recipe")
      .def_ro("path", &ExportModelResult::Recipe::path)
      .def_ro("matrices", &ExportModelResult::Recipe::matrices)
      .def_ro("file_type", &ExportModelResult::Recipe::file_type)
      .def_ro("needs_imatrix", &ExportModelResult::Recipe::needs_imatrix)
      .def_ro("command", &ExportModelResult::Recipe::command);
  exported.def_ro("recipe", &ExportModelResult::recipe)
      .def_ro("path", &ExportModelResult::path)
      .def_ro("format", &ExportModelResult::format)
      .def_ro("bytes", &ExportModelResult::bytes)
      .def_ro("changes", &ExportModelResult::changes)
      .def_ro("notes", &ExportModelResult::notes);
}

void bind_measured(nb::module_& module) {
  nb::class_<KlStatistics>(module, "KlStatistics")
      .def_ro("mean", &KlStatistics::mean)
      .def_ro("standard_error", &KlStatistics::standard_error)
      .def_ro("median", &KlStatistics::median)
      .def_ro("quantile_99", &KlStatistics::quantile_99)
      .def_ro("quantile_99_9", &KlStatistics::quantile_99_9)
      .def_ro("largest", &KlStatistics::largest);
  nb::class_<EvaluateResult> evaluated(module, "EvaluateResult");
  nb::class_<EvaluateResult::Text::Reference>(evaluated, "Reference")
      .def_ro("kl", &EvaluateResult::Text::Reference::kl)
      .def_ro("flips", &EvaluateResult::Text::Reference::flips)
      .def_ro("perplexity", &EvaluateResult::Text::Reference::perplexity);
  nb::class_<EvaluateResult::Text>(evaluated, "Text")
      .def_ro("perplexity", &EvaluateResult::Text::perplexity)
      .def_ro("nll", &EvaluateResult::Text::nll)
      .def_ro("standard_error", &EvaluateResult::Text::standard_error)
      .def_ro("tokens", &EvaluateResult::Text::tokens)
      .def_ro("windows", &EvaluateResult::Text::windows)
      .def_ro("how", &EvaluateResult::Text::how)
      .def_ro("seconds", &EvaluateResult::Text::seconds)
      .def_ro("reference", &EvaluateResult::Text::reference);
  nb::class_<EvaluateResult::Tasks>(evaluated, "Tasks")
      .def_ro("scores", &EvaluateResult::Tasks::scores)
      .def_ro("average", &EvaluateResult::Tasks::average)
      .def_ro("items", &EvaluateResult::Tasks::items)
      .def_ro("seconds", &EvaluateResult::Tasks::seconds);
  evaluated.def_ro("text", &EvaluateResult::text)
      .def_ro("tasks", &EvaluateResult::tasks)
      .def_ro("memory", &EvaluateResult::memory)
      .def_ro("peak_resident_bytes", &EvaluateResult::peak_resident_bytes);
  nb::class_<CaseResult>(module, "CaseResult")
      .def_ro("method", &CaseResult::method)
      .def_ro("configuration", &CaseResult::configuration)
      .def_ro("bits", &CaseResult::bits)
      .def_ro("bytes", &CaseResult::bytes)
      .def_ro("memory", &CaseResult::memory)
      .def_ro("perplexity", &CaseResult::perplexity)
      .def_ro("quantize_seconds", &CaseResult::quantize_seconds)
      .def_ro("tasks", &CaseResult::tasks)
      .def_ro("average", &CaseResult::average)
      .def_ro("broken", &CaseResult::broken);
  nb::class_<CompareResult>(module, "CompareResult")
      .def_ro("cases", &CompareResult::cases)
      .def_ro("tasks", &CompareResult::tasks)
      .def_ro("window", &CompareResult::window)
      .def_ro("text_tokens", &CompareResult::text_tokens);
  nb::class_<KlDifference>(module, "KlDifference")
      .def_ro("mean", &KlDifference::mean)
      .def_ro("standard_error", &KlDifference::standard_error);
  nb::class_<JudgedFile>(module, "JudgedFile")
      .def_ro("path", &JudgedFile::path)
      .def_ro("name", &JudgedFile::name)
      .def_ro("bytes", &JudgedFile::bytes)
      .def_ro("bits", &JudgedFile::bits)
      .def_ro("kl", &JudgedFile::kl)
      .def_ro("flips", &JudgedFile::flips)
      .def_ro("perplexity", &JudgedFile::perplexity)
      .def_ro("loss", &JudgedFile::loss)
      .def_ro("loss_standard_error", &JudgedFile::loss_standard_error)
      .def_ro("rival", &JudgedFile::rival)
      .def_ro("difference", &JudgedFile::difference)
      .def_ro("broken", &JudgedFile::broken);
  nb::class_<JudgeFilesResult>(module, "JudgeFilesResult")
      .def_ro("files", &JudgeFilesResult::files)
      .def_ro("differences", &JudgeFilesResult::differences)
      .def_ro("reference_bytes", &JudgeFilesResult::reference_bytes)
      .def_ro("reference_perplexity", &JudgeFilesResult::reference_perplexity)
      .def_ro("how", &JudgeFilesResult::how)
      .def_ro("windows", &JudgeFilesResult::windows)
      .def_ro("tokens", &JudgeFilesResult::tokens)
      .def_ro("prediction_bytes", &JudgeFilesResult::prediction_bytes);
  nb::class_<BenchResult>(module, "BenchResult")
      .def_ro("backend", &BenchResult::backend)
      .def_ro("load_seconds", &BenchResult::load_seconds)
      .def_ro("prompt_tokens_per_second", &BenchResult::prompt_tokens_per_second)
      .def_ro("generation_tokens_per_second", &BenchResult::generation_tokens_per_second)
      .def_ro("generation_after_prompt_tokens_per_second",
              &BenchResult::generation_after_prompt_tokens_per_second)
      .def_ro("first_token_seconds", &BenchResult::first_token_seconds)
      .def_ro("weight_bytes", &BenchResult::weight_bytes)
      .def_ro("dram_bytes_per_second", &BenchResult::dram_bytes_per_second)
      .def_ro("bandwidth_fraction", &BenchResult::bandwidth_fraction)
      .def_ro("memory", &BenchResult::memory)
      .def_ro("cache_bytes", &BenchResult::cache_bytes)
      .def_ro("resident_bytes", &BenchResult::resident_bytes)
      .def_ro("peak_resident_bytes", &BenchResult::peak_resident_bytes);
  nb::class_<ModelInfo> info(module, "ModelInfo");
  nb::class_<ModelInfo::StoredAs>(info, "StoredAs")
      .def_ro("name", &ModelInfo::StoredAs::name)
      .def_ro("out", &ModelInfo::StoredAs::out)
      .def_prop_ro("in_", [](const ModelInfo::StoredAs& one) { return one.in; })
      .def_ro("scheme", &ModelInfo::StoredAs::scheme)
      .def_ro("lattice", &ModelInfo::StoredAs::lattice)
      .def_ro("in_block", &ModelInfo::StoredAs::in_block)
      .def_ro("role", &ModelInfo::StoredAs::role);
  nb::class_<ModelInfo::LayerKind>(info, "LayerKind")
      .def_ro("what", &ModelInfo::LayerKind::what)
      .def_ro("count", &ModelInfo::LayerKind::count);
  nb::class_<ModelInfo::Carried>(info, "Carried")
      .def_ro("tensors", &ModelInfo::Carried::tensors)
      .def_ro("bytes", &ModelInfo::Carried::bytes);
  info.def_ro("architecture", &ModelInfo::architecture)
      .def_ro("wrapper", &ModelInfo::wrapper)
      .def_ro("layer_kinds", &ModelInfo::layer_kinds)
      .def_ro("dense", &ModelInfo::dense)
      .def_ro("others", &ModelInfo::others)
      .def_ro("quantized_as", &ModelInfo::quantized_as)
      .def_ro("quantized_bits", &ModelInfo::quantized_bits)
      .def_ro("parameters", &ModelInfo::parameters)
      .def_ro("bytes", &ModelInfo::bytes)
      .def_ro("layers", &ModelInfo::layers)
      .def_ro("hidden", &ModelInfo::hidden)
      .def_ro("heads", &ModelInfo::heads)
      .def_ro("kv_heads", &ModelInfo::kv_heads)
      .def_ro("head_dim", &ModelInfo::head_dim)
      .def_ro("ffn", &ModelInfo::ffn)
      .def_ro("vocabulary", &ModelInfo::vocabulary)
      .def_ro("positions", &ModelInfo::positions)
      .def_ro("tied", &ModelInfo::tied)
      .def_ro("notes", &ModelInfo::notes)
      .def_ro("unread_tensors", &ModelInfo::unread_tensors)
      .def_ro("matrices", &ModelInfo::matrices)
      .def_ro("memory", &ModelInfo::memory);
}

}  // namespace

void bind_results(nb::module_& module) {
  bind_parts(module);
  bind_written(module);
  bind_runs(module);
  bind_steps(module);
  bind_measured(module);
}

}  // namespace knapsaq::python
