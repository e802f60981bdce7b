#include "knapsaq/search/run_evaluators.h"

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

#include "knapsaq/eval/referenced_windows.h"
#include "knapsaq/model/folding.h"
#include "knapsaq/search/model_evaluator.h"

namespace knapsaq {
namespace {

LoadedDecoder load_from_files(const Run& run, Progress& progress) {
  LoadedDecoder loaded;
  loaded.backend = make_backend({.precision = run.settings().precision});
  loaded.decoder =
      std::make_unique<Decoder>(Decoder::load(run.checkpoint(), run.config(), *loaded.backend, progress));
  return loaded;
}

}  // namespace

struct RunEvaluators::State {
  const Run& run;
  std::vector<std::string> sets;
  Progress& progress;
  Load load;
  // In the order in which they stand on each other.
  LoadedDecoder loaded;
  std::map<std::string, ReferencedWindows, std::less<>> references;
  std::string evaluated;  ///< set of `evaluator`
  std::optional<ModelEvaluator> evaluator;

  void make_references(std::string_view wanted) {
    evaluator.reset();
    references.clear();
    loaded = {};
    loaded = load();
    if (std::ranges::find(sets, wanted) == sets.end()) sets.emplace_back(wanted);
    for (const std::string& set : sets) {
      const TokenSet& tokens = set == kHeldOutSet ? run.settings().heldout : run.settings().search;
      references.emplace(
          set, reference_windows(*loaded.decoder, tokens.tokens, tokens.windows(), tokens.length, progress));
    }
    // The references have their own norms; the candidates get those that the bank's scales are folded into.
    // Not the old and the new model at once: of the old one the references keep the head.
    const Folding folding = run.bank().folding(run.config());
    if (folding.empty()) return;
    loaded.decoder.reset();
    loaded.decoder = std::make_unique<Decoder>(
        Decoder::load(run.checkpoint(), run.config(), *loaded.backend, folding, progress));
  }
};

RunEvaluators::RunEvaluators(const Run& run, std::vector<std::string> sets, Progress& progress, Load load)
    : state_(new State{run, std::move(sets), progress, std::move(load), {}, {}, {}, {}}) {
  if (!state_->load) state_->load = [&run, &progress] { return load_from_files(run, progress); };
}

RunEvaluators::~RunEvaluators() = default;

Evaluator& RunEvaluators::of(std::string_view set) {
  State& state = *state_;
  if (state.evaluator && state.evaluated == set) return *state.evaluator;
  if (!state.references.contains(set)) state.make_references(set);
  state.evaluated = set;
  state.evaluator.reset();  // its prepared weights make room first
  state.evaluator.emplace(state.run.space(), state.run.bank(), state.references.find(set)->second,
                          *state.loaded.decoder, state.run.settings().divergence);
  return *state.evaluator;
}

}  // namespace knapsaq
