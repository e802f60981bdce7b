#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/vector.h>

#include "bindings.h"
#include "knapsaq/base/units.h"
#include "knapsaq/export/engine.h"
#include "knapsaq/export/writer.h"
#include "knapsaq/pipeline/allocate.h"
#include "knapsaq/pipeline/bench.h"
#include "knapsaq/pipeline/compare.h"
#include "knapsaq/pipeline/export_model.h"
#include "knapsaq/pipeline/fit.h"
#include "knapsaq/pipeline/front.h"
#include "knapsaq/pipeline/info.h"
#include "knapsaq/pipeline/judge_files.h"
#include "knapsaq/pipeline/make_bank.h"
#include "knapsaq/pipeline/pick.h"
#include "knapsaq/pipeline/quantize.h"
#include "knapsaq/pipeline/report.h"
#include "knapsaq/pipeline/study.h"
#include "knapsaq/pipeline/tables.h"
#include "knapsaq/pipeline/tune.h"

namespace nb = nanobind;

namespace knapsaq::python {
namespace {

/// Options that others contain.
void bind_parts(nb::module_& module) {
  nb::class_<SampleOptions>(module, "SampleOptions")
      .def(nb::init<>())
      .def_rw("samples", &SampleOptions::samples)
      .def_rw("window", &SampleOptions::window)
      .def_rw("seed", &SampleOptions::seed);
  nb::class_<CalibrationOptions>(module, "CalibrationOptions")
      .def(nb::init<>())
      .def_rw("folder", &CalibrationOptions::folder)
      .def_rw("text", &CalibrationOptions::text)
      .def_rw("samples", &CalibrationOptions::samples)
      .def_rw("fisher", &CalibrationOptions::fisher)
      .def_rw("fisher_tokens", &CalibrationOptions::fisher_tokens)
      .def_rw("precision", &CalibrationOptions::precision);
  nb::class_<BudgetOptions>(module, "BudgetOptions")
      .def(nb::init<>())
      .def_rw("bytes", &BudgetOptions::bytes)
      .def_rw("bits_per_weight", &BudgetOptions::bits_per_weight)
      .def_rw("bits", &BudgetOptions::bits)
      .def_rw("context", &BudgetOptions::context)
      .def_rw("cache", &BudgetOptions::cache);
  nb::class_<InfoOptions>(module, "InfoOptions")
      .def(nb::init<>())
      .def_rw("context", &InfoOptions::context)
      .def_rw("cache", &InfoOptions::cache)
      .def_rw("engine", &InfoOptions::engine);
  nb::class_<SolverOptions>(module, "SolverOptions")
      .def(nb::init<>())
      .def_rw("solver", &SolverOptions::solver)
      .def_rw("gap", &SolverOptions::gap)
      .def_rw("time_limit", &SolverOptions::time_limit);
  nb::class_<TaskOptions>(module, "TaskOptions")
      .def(nb::init<>())
      .def_rw("names", &TaskOptions::names)
      .def_rw("data", &TaskOptions::data)
      .def_rw("limit", &TaskOptions::limit);
  nb::class_<WindowOptions>(module, "WindowOptions")
      .def(nb::init<>())
      .def_rw("window", &WindowOptions::window)
      .def_rw("stride", &WindowOptions::stride)
      .def_rw("limit", &WindowOptions::limit)
      .def_prop_ro("protocol", [](const WindowOptions& one) { return std::string(name_of(one.protocol)); });
  nb::class_<RunOptions>(module, "RunOptions")
      .def(nb::init<>())
      .def_rw("bank", &RunOptions::bank)
      .def_rw("menu", &RunOptions::menu)
      .def_rw("method", &RunOptions::method)
      .def_rw("ties", &RunOptions::ties)
      .def_rw("engine", &RunOptions::engine)
      .def_rw("pins", &RunOptions::pins)
      .def_rw("keep", &RunOptions::keep)
      .def_rw("calibration", &RunOptions::calibration)
      .def_rw("tokens", &RunOptions::tokens)
      .def_rw("heldout", &RunOptions::heldout)
      .def_rw("divergence", &RunOptions::divergence)
      .def_rw("any_run", &RunOptions::any_run);
  nb::class_<StrategyOptions>(module, "StrategyOptions")
      .def(nb::init<>())
      .def_rw("strategy", &StrategyOptions::strategy)
      .def_rw("set", &StrategyOptions::set)
      .def_rw("evaluations", &StrategyOptions::evaluations)
      .def_rw("seed", &StrategyOptions::seed)
      .def_rw("goal", &StrategyOptions::goal);
  nb::class_<RuntimeOptions>(module, "RuntimeOptions")
      .def(nb::init<>())
      .def_rw("activations", &RuntimeOptions::activations)
      .def_rw("cache", &RuntimeOptions::cache)
      .def_rw("context", &RuntimeOptions::context);
  nb::class_<GenerateOptions>(module, "GenerateOptions")
      .def(nb::init<>())
      .def_rw("max_tokens", &GenerateOptions::max_tokens)
      .def_rw("temperature", &GenerateOptions::temperature)
      .def_rw("top_k", &GenerateOptions::top_k)
      .def_rw("top_p", &GenerateOptions::top_p)
      .def_rw("seed", &GenerateOptions::seed);
}

/// Options of verbs that search, and of those that look at what was found.
void bind_runs(nb::module_& module) {
  nb::class_<FitOptions>(module, "FitOptions")
      .def(nb::init<>())
      .def_rw("output", &FitOptions::output)
      .def_rw("budget", &FitOptions::budget)
      .def_rw("run", &FitOptions::run)
      .def_rw("report", &FitOptions::report)
      .def_rw("of", &FitOptions::of)
      .def_rw("search", &FitOptions::search)
      .def_rw("effort", &FitOptions::effort)
      .def_rw("force", &FitOptions::force);
  nb::class_<SearchOptions>(module, "SearchOptions")
      .def(nb::init<>())
      .def_rw("run", &SearchOptions::run)
      .def_rw("of", &SearchOptions::of)
      .def_rw("search", &SearchOptions::search)
      .def_rw("budget", &SearchOptions::budget)
      .def_rw("resume", &SearchOptions::resume);
  nb::class_<StudyOptions>(module, "StudyOptions")
      .def(nb::init<>())
      .def_rw("run", &StudyOptions::run)
      .def_rw("of", &StudyOptions::of)
      .def_rw("strategies", &StudyOptions::strategies)
      .def_rw("set", &StudyOptions::set)
      .def_rw("goal", &StudyOptions::goal)
      .def_rw("budget", &StudyOptions::budget)
      .def_rw("repeats", &StudyOptions::repeats)
      .def_rw("seed", &StudyOptions::seed)
      .def_rw("evaluations", &StudyOptions::evaluations);
  nb::class_<FrontOptions>(module, "FrontOptions")
      .def(nb::init<>())
      .def_rw("run", &FrontOptions::run)
      .def_rw("model", &FrontOptions::model)
      .def_rw("strategy", &FrontOptions::strategy)
      .def_rw("seed", &FrontOptions::seed);
  nb::class_<PickOptions>(module, "PickOptions")
      .def(nb::init<>())
      .def_rw("run", &PickOptions::run)
      .def_rw("model", &PickOptions::model)
      .def_rw("output", &PickOptions::output)
      .def_rw("budget", &PickOptions::budget)
      .def_rw("near", &PickOptions::near)
      .def_rw("codes", &PickOptions::codes)
      .def_rw("strategy", &PickOptions::strategy)
      .def_rw("force", &PickOptions::force);
  nb::class_<ReportOptions>(module, "ReportOptions")
      .def(nb::init<>())
      .def_rw("run", &ReportOptions::run)
      .def_rw("model", &ReportOptions::model)
      .def_rw("output", &ReportOptions::output);
}

/// Options of verbs that quantize without a search, or measure.
void bind_steps(nb::module_& module) {
  nb::class_<BankOptions>(module, "BankOptions")
      .def(nb::init<>())
      .def_rw("menu", &BankOptions::menu)
      .def_rw("method", &BankOptions::method)
      .def_rw("keep", &BankOptions::keep)
      .def_rw("engine", &BankOptions::engine)
      .def_rw("calibration", &BankOptions::calibration);
  nb::class_<CalibrateOptions>(module, "CalibrateOptions")
      .def(nb::init<>())
      .def_rw("calibration", &CalibrateOptions::calibration)
      .def_rw("output", &CalibrateOptions::output)
      .def_rw("imatrix", &CalibrateOptions::imatrix)
      .def_rw("force", &CalibrateOptions::force);
  nb::class_<QuantizeOptions>(module, "QuantizeOptions")
      .def(nb::init<>())
      .def_rw("output", &QuantizeOptions::output)
      .def_rw("budget", &QuantizeOptions::budget)
      .def_rw("scheme", &QuantizeOptions::scheme)
      .def_rw("allocation", &QuantizeOptions::allocation)
      .def_rw("bank", &QuantizeOptions::bank)
      .def_rw("menu", &QuantizeOptions::menu)
      .def_rw("table", &QuantizeOptions::table)
      .def_rw("keep", &QuantizeOptions::keep)
      .def_rw("pins", &QuantizeOptions::pins)
      .def_rw("cost", &QuantizeOptions::cost)
      .def_rw("ties", &QuantizeOptions::ties)
      .def_rw("solver", &QuantizeOptions::solver)
      .def_rw("calibration", &QuantizeOptions::calibration)
      .def_rw("propagate", &QuantizeOptions::propagate)
      .def_rw("force", &QuantizeOptions::force);
  nb::class_<TuneOptions>(module, "TuneOptions")
      .def(nb::init<>())
      .def_rw("output", &TuneOptions::output)
      .def_rw("text", &TuneOptions::text)
      .def_rw("foreign", &TuneOptions::foreign)
      .def_rw("steps", &TuneOptions::steps)
      .def_rw("batch", &TuneOptions::batch)
      .def_rw("window", &TuneOptions::window)
      .def_rw("heldout", &TuneOptions::heldout)
      .def_rw("rate", &TuneOptions::rate)
      .def_rw("seed", &TuneOptions::seed)
      .def_rw("precision", &TuneOptions::precision)
      .def_rw("force", &TuneOptions::force);
  nb::class_<TablesOptions>(module, "TablesOptions")
      .def(nb::init<>())
      .def_rw("model", &TablesOptions::model)
      .def_rw("bank", &TablesOptions::bank)
      .def_rw("output", &TablesOptions::output)
      .def_rw("menu", &TablesOptions::menu)
      .def_rw("keep", &TablesOptions::keep);
  nb::class_<AllocateOptions>(module, "AllocateOptions")
      .def(nb::init<>())
      .def_rw("table", &AllocateOptions::table)
      .def_rw("bank", &AllocateOptions::bank)
      .def_rw("cost", &AllocateOptions::cost)
      .def_rw("bits", &AllocateOptions::bits)
      .def_rw("bytes", &AllocateOptions::bytes)
      .def_rw("ties", &AllocateOptions::ties)
      .def_rw("solver", &AllocateOptions::solver);
  nb::class_<ExportModelOptions>(module, "ExportOptions")
      .def(nb::init<>())
      .def_rw("format", &ExportModelOptions::format)
      .def_rw("output", &ExportModelOptions::output)
      .def_rw("recipe", &ExportModelOptions::recipe)
      .def_rw("requantize", &ExportModelOptions::requantize)
      .def_rw("force", &ExportModelOptions::force);
  nb::class_<EvaluateOptions>(module, "EvaluateOptions")
      .def(nb::init<>())
      .def_rw("text", &EvaluateOptions::text)
      .def_rw("reference", &EvaluateOptions::reference)
      .def_rw("protocol", &EvaluateOptions::protocol)
      .def_rw("windows", &EvaluateOptions::windows)
      .def_rw("precision", &EvaluateOptions::precision)
      .def_rw("tasks", &EvaluateOptions::tasks)
      .def_rw("items", &EvaluateOptions::items)
      .def_rw("run", &EvaluateOptions::run);
  nb::class_<CompareOptions>(module, "CompareOptions")
      .def(nb::init<>())
      .def_rw("text", &CompareOptions::text)
      .def_rw("output", &CompareOptions::output)
      .def_rw("methods", &CompareOptions::methods)
      .def_rw("configurations", &CompareOptions::configurations)
      .def_rw("budgets", &CompareOptions::budgets)
      .def_rw("menu", &CompareOptions::menu)
      .def_rw("protocol", &CompareOptions::protocol)
      .def_rw("windows", &CompareOptions::windows)
      .def_rw("calibration", &CompareOptions::calibration)
      .def_rw("tasks", &CompareOptions::tasks);
  nb::class_<JudgeFilesOptions>(module, "JudgeFilesOptions")
      .def(nb::init<>())
      .def_rw("files", &JudgeFilesOptions::files)
      .def_rw("reference", &JudgeFilesOptions::reference)
      .def_rw("text", &JudgeFilesOptions::text)
      .def_rw("protocol", &JudgeFilesOptions::protocol)
      .def_rw("windows", &JudgeFilesOptions::windows)
      .def_rw("precision", &JudgeFilesOptions::precision)
      .def_rw("output", &JudgeFilesOptions::output)
      .def_rw("page", &JudgeFilesOptions::page);
  nb::class_<BenchOptions>(module, "BenchOptions")
      .def(nb::init<>())
      .def_rw("runtime", &BenchOptions::runtime)
      .def_rw("prompt", &BenchOptions::prompt)
      .def_rw("generate", &BenchOptions::generate)
      .def_rw("repeats", &BenchOptions::repeats);
}

}  // namespace

void bind_options(nb::module_& module) {
  bind_parts(module);
  bind_runs(module);
  bind_steps(module);
  module.def("parse_bytes", &parse_bytes, nb::arg("text"), "Bytes of a size as people write it.");
  module.def("engine_names", &engine_names, "Engines that results can be made for.");
  module.def(
      "export_formats",
      [] {
        std::vector<std::string> names;
        for (const auto& name : export_formats()) names.emplace_back(name);
        return names;
      },
      "Formats that models can be exported in.");
}

}  // namespace knapsaq::python
