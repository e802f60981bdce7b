// The quality of the scalar searches on made problems, for tools/compare_mealpy.py, which gives the same
// problems to MEALPY: the best value that each search finds within a number of evaluations, seed by seed, as
// CSV; or the problems themselves as JSON (--problems).

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "knapsaq/base/error.h"
#include "knapsaq/base/random.h"
#include "knapsaq/search/goal.h"
#include "knapsaq/search/problem.h"
#include "knapsaq/search/strategies.h"
#include "knapsaq/search/strategy.h"

namespace {

using namespace knapsaq;

/// A table over the levels of some variables, the last one running fastest.
struct Term {
  std::vector<std::size_t> variables;
  std::vector<double> table;
};

/// A function of levels: a sum of tables, and what is made of the sum.
struct MadeProblem {
  std::string name;
  std::vector<std::size_t> levels;
  std::vector<Term> terms;
  std::vector<std::vector<std::uint64_t>> sizes;  ///< [variable][level]; empty: no capacity
  std::uint64_t capacity = 0;
  bool paper = false;  ///< the sum is the logarithm of a perplexity; levels are 2, 3, 4 bits
  double optimum = std::numeric_limits<double>::quiet_NaN();

  double value(const Point& point) const {
    double sum = 0;
    for (const Term& term : terms) {
      std::size_t index = 0;
      for (const std::size_t i : term.variables) index = index * levels[i] + point[i];
      sum += term.table[index];
    }
    if (!sizes.empty()) {
      std::uint64_t size = 0;
      for (std::size_t i = 0; i < point.size(); ++i) size += sizes[i][point[i]];
      if (size > capacity)
        return kWorthless + static_cast<double>(size - capacity) / static_cast<double>(capacity);
    }
    if (!paper) return sum;
    double bits = 0;
    for (const std::uint8_t level : point) bits += 2 + level;
    return -paper_fitness(std::exp(sum), bits);
  }
};

/// Every variable for itself, in no order of levels.
MadeProblem separable(std::size_t variables, std::size_t levels) {
  MadeProblem problem;
  problem.name = fmt::format("separable-{}x{}", variables, levels);
  problem.levels.assign(variables, levels);
  Random random(1);
  problem.optimum = 0;
  for (std::size_t i = 0; i < variables; ++i) {
    Term term{{i}, {}};
    for (std::size_t l = 0; l < levels; ++l) term.table.push_back(random.uniform());
    problem.optimum += *std::min_element(term.table.begin(), term.table.end());
    problem.terms.push_back(std::move(term));
  }
  return problem;
}

/// Deceptive blocks (Ackley 1987): the fewer matches with a hidden word the better, except that the word
/// itself is best of all. (Were all words ones, searches that clip at the bounds would meet it by accident.)
MadeProblem trap(std::size_t blocks, std::size_t size) {
  MadeProblem problem;
  problem.name = fmt::format("trap-{}x{}", blocks, size);
  problem.levels.assign(blocks * size, 2);
  problem.optimum = 0;
  Random random(5);
  for (std::size_t b = 0; b < blocks; ++b) {
    const std::size_t hidden = random.below(std::size_t{1} << size);
    Term term;
    for (std::size_t i = 0; i < size; ++i) term.variables.push_back(b * size + i);
    for (std::size_t word = 0; word < (std::size_t{1} << size); ++word) {
      const std::size_t matches = size - static_cast<std::size_t>(std::popcount(word ^ hidden));
      term.table.push_back(matches == size ? 0.0 : static_cast<double>(matches + 1));
    }
    problem.terms.push_back(std::move(term));
  }
  return problem;
}

/// Every variable together with the next ones (Kauffman's NK).
MadeProblem coupled(std::size_t variables, std::size_t levels, std::size_t reach) {
  MadeProblem problem;
  problem.name = fmt::format("coupled-{}x{}", variables, levels);
  problem.levels.assign(variables, levels);
  Random random(2);
  for (std::size_t i = 0; i < variables; ++i) {
    Term term;
    std::size_t entries = 1;
    for (std::size_t k = 0; k < reach; ++k, entries *= levels) term.variables.push_back((i + k) % variables);
    for (std::size_t entry = 0; entry < entries; ++entry) term.table.push_back(random.uniform());
    problem.terms.push_back(std::move(term));
  }
  return problem;
}

/// The paper's problem without a model: 2, 3 or 4 bits for each layer, whose damages differ by factors,
/// quarter with each bit and strengthen their neighbours'.
MadeProblem layers(std::size_t variables) {
  MadeProblem problem;
  problem.name = fmt::format("layers-{}", variables);
  problem.levels.assign(variables, 3);
  problem.paper = true;
  Random random(3);
  problem.terms.push_back({{0}, std::vector<double>(3, std::log(30.0))});
  std::vector<double> damages;
  for (std::size_t i = 0; i < variables; ++i) {
    damages.push_back(0.15 * std::exp(1.2 * random.normal()));
    Term term{{i}, {}};
    for (int l = 0; l < 3; ++l) term.table.push_back(damages.back() * std::pow(0.25, l));
    problem.terms.push_back(std::move(term));
    if (i == 0) continue;
    Term both{{i - 1, i}, {}};
    for (int l = 0; l < 9; ++l)
      both.table.push_back(0.5 * std::sqrt(damages[i - 1] * damages[i]) *
                           std::pow(0.25, (l / 3 + l % 3) / 2.0));
    problem.terms.push_back(std::move(both));
  }
  return problem;
}

/// A multiple-choice knapsack: errors that quarter with each bit, budget between 2 and 3 bits.
MadeProblem knapsack(std::size_t variables) {
  MadeProblem problem;
  problem.name = fmt::format("knapsack-{}", variables);
  problem.levels.assign(variables, 3);
  Random random(4);
  Problem exact;
  for (std::size_t i = 0; i < variables; ++i) {
    const std::uint64_t weights = 1000 * (1 + random.below(4));
    const double error = std::exp(random.normal());
    Term term{{i}, {}};
    std::vector<Choice> item;
    std::vector<std::uint64_t> sizes;
    for (unsigned l = 0; l < 3; ++l) {
      sizes.push_back(weights * (2 + l) / 8);
      term.table.push_back(error * std::pow(0.25, l) * std::exp(0.2 * random.normal()));
      item.push_back({term.table.back(), static_cast<double>(sizes.back())});
    }
    problem.capacity += weights * 11 / 32;  // 2.75 bits
    problem.terms.push_back(std::move(term));
    problem.sizes.push_back(std::move(sizes));
    exact.items.push_back(std::move(item));
  }
  exact.budget = static_cast<double>(problem.capacity);
  problem.optimum = solve_mip(exact).objective;
  return problem;
}

SearchSpace space_of(const MadeProblem& problem) {
  SearchSpace space;
  Random random(6);
  for (std::size_t i = 0; i < problem.levels.size(); ++i) {
    Variable& variable = space.variables.emplace_back();
    variable.name = fmt::format("v{}", i);
    // Only the knapsack has sizes and errors. Its local errors know a variable's damage up to a factor, as
    // those of a model's linears do.
    const bool knapsack = !problem.sizes.empty();
    const double factor = std::exp(random.normal());
    for (std::size_t l = 0; l < problem.levels[i]; ++l) {
      variable.levels.push_back({l, knapsack ? problem.sizes[i][l] : 0, 2.0 + static_cast<double>(l),
                                 knapsack ? factor * problem.terms[i].table[l] : 0});
    }
  }
  return space;
}

class MadeGoal final : public Goal {
 public:
  explicit MadeGoal(const MadeProblem& problem) : problem_(problem) {}
  double value(const Point& point, const Measurement&) const override { return problem_.value(point); }

 private:
  const MadeProblem& problem_;
};

double best_value(const MadeProblem& problem, const StrategyInfo& info, const OptionValues& options,
                  std::int64_t evaluations, std::uint64_t seed, bool repair) {
  const SearchSpace space = space_of(problem);
  const MadeGoal goal(problem);
  StrategySetup setup;
  setup.space = &space;
  setup.seed = seed;
  setup.evaluations = evaluations;
  setup.goal = &goal;
  if (repair) setup.budget = Budget{problem.capacity, Budget::Of::linears};
  const std::unique_ptr<Strategy> strategy = info.make(setup, options);
  double best = std::numeric_limits<double>::infinity();
  for (Batch batch = strategy->ask(); !batch.points.empty(); batch = strategy->ask()) {
    for (const Point& point : batch.points) best = std::min(best, problem.value(point));
    strategy->tell(batch, std::vector<Measurement>(batch.points.size()));
  }
  return best;
}

nlohmann::json to_json(const MadeProblem& problem) {
  nlohmann::json terms = nlohmann::json::array();
  for (const Term& term : problem.terms)
    terms.push_back({{"variables", term.variables}, {"table", term.table}});
  return {{"name", problem.name},      {"levels", problem.levels},     {"terms", terms},
          {"sizes", problem.sizes},    {"capacity", problem.capacity}, {"paper", problem.paper},
          {"optimum", problem.optimum}};
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("GA, PSO, SA and DE on made problems.");
  bool list = false;
  std::vector<std::int64_t> evaluations = {110, 1010};
  std::uint64_t seeds = 51;
  std::vector<std::string> settings;
  std::string only;
  std::string searches = "ga,pso,sa,de";
  app.add_flag("--problems", list, "Print the problems as JSON instead");
  app.add_option("--evaluations", evaluations, "For each search")->capture_default_str();
  app.add_option("--seeds", seeds, "Runs of each search")->capture_default_str();
  app.add_option("--set", settings, "STRATEGY:NAME=VALUE, repeatable");
  app.add_option("--problem", only, "Only the problems whose name contains this");
  app.add_option("--strategies", searches, "Which")->capture_default_str();
  CLI11_PARSE(app, argc, argv);

  const std::vector<MadeProblem> problems = {layers(12),       layers(42),        separable(12, 3),
                                             separable(42, 3), coupled(24, 3, 3), trap(6, 4),
                                             knapsack(42)};
  if (list) {
    nlohmann::json all = nlohmann::json::array();
    for (const MadeProblem& problem : problems) all.push_back(to_json(problem));
    fmt::print("{}\n", all.dump());
    return 0;
  }
  fmt::print("problem,strategy,evaluations,seed,best\n");
  for (const MadeProblem& problem : problems) {
    if (problem.name.find(only) == std::string::npos) continue;
    for (const StrategyInfo& info : {ga_strategy(), pso_strategy(), sa_strategy(), de_strategy()}) {
      if (("," + searches + ",").find("," + std::string(info.name) + ",") == std::string::npos) continue;
      OptionValues options(info.options);
      for (const std::string& setting : settings) {
        if (setting.starts_with(std::string(info.name) + ":"))
          options.set(setting.substr(info.name.size() + 1));
      }
      for (const std::int64_t most : evaluations) {
        for (const bool repair : {false, true}) {
          if (repair && problem.sizes.empty()) continue;
          for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
            fmt::print("{},{},{},{},{}\n", problem.name,
                       fmt::format("{}{}", info.name, repair ? "+repair" : ""), most, seed,
                       best_value(problem, info, options, most, seed, repair));
          }
        }
      }
    }
  }
}
