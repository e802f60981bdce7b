#include "knapsaq/report/study_report.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "knapsaq/base/files.h"

namespace knapsaq {
namespace {

using Json = nlohmann::json;

Json number(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }

Json numbers(const std::vector<double>& values) {
  Json array = Json::array();
  for (const double value : values) array.push_back(number(value));
  return array;
}

Json spread_json(const Spread& spread) {
  return {{"count", spread.count},     {"mean", spread.mean},      {"deviation", spread.deviation},
          {"minimum", spread.minimum}, {"lower", spread.lower},    {"median", spread.median},
          {"upper", spread.upper},     {"maximum", spread.maximum}};
}

Json band_json(const std::vector<Spread>& band) {
  constexpr std::pair<const char*, double Spread::*> kFields[] = {
      {"mean", &Spread::mean},      {"deviation", &Spread::deviation}, {"minimum", &Spread::minimum},
      {"lower", &Spread::lower},    {"median", &Spread::median},       {"upper", &Spread::upper},
      {"maximum", &Spread::maximum}};
  Json json = Json::object();
  for (const auto& [name, field] : kFields) {
    Json array = Json::array();
    for (const Spread& at : band) array.push_back(at.count > 0 ? Json(at.*field) : Json(nullptr));
    json[name] = std::move(array);
  }
  return json;
}

Json run_json(const StudyRun& run, Divergence divergence) {
  return {{"seed", run.seed},
          {"curve", numbers(run.curve)},
          {"levels", run.point},
          {"bits", run.bits},
          {"goal", run.goal},
          {"fitness", run.fitness},
          {"perplexity", number(run.measurement.perplexity())},
          {"divergence", number(run.measurement.value(divergence))},
          {"agreement", number(run.measurement.agreement)},
          {"sum_bits", run.sum_bits},
          {"bits_per_weight", run.bits_per_weight},
          {"linear_bytes", run.linear_bytes},
          {"bytes", run.bytes},
          {"distinct", run.distinct},
          {"full_passes", run.full_passes},
          {"seconds", run.seconds}};
}

/// A strategy's name, made unique where a study has it twice.
std::string label(const Study& study, std::size_t group) {
  const std::string& name = study.groups[group].strategy;
  const auto count = std::count_if(study.groups.begin(), study.groups.end(),
                                   [&](const StudyGroup& other) { return other.strategy == name; });
  return count > 1 ? fmt::format("{}#{}", name, group) : name;
}

std::string divergence_label(Divergence divergence) {
  return divergence == Divergence::kl ? "KL divergence, nats" : "Jensen-Shannon divergence, nats";
}

Json goal_json(const Study& study) {
  const bool paper = study.goal == "paper";
  return {{"name", study.goal},
          {"label", paper ? "fitness 1000 / (perplexity x sum of bits)" : divergence_label(study.divergence)},
          {"sign", paper ? -1 : 1}};
}

Json variables_json(const SearchSpace& space) {
  Json array = Json::array();
  for (const Variable& variable : space.variables) {
    Json bits = Json::array();
    for (const SpaceLevel& level : variable.levels) bits.push_back(level.bits);
    array.push_back({{"name", variable.name},
                     {"block", variable.block},
                     {"parameters", variable.parameters},
                     {"bits", std::move(bits)}});
  }
  return array;
}

/// Names of models and baselines come from outside; a CSV field with a comma, quote or line break is quoted.
std::string field(std::string_view text) {
  if (text.find_first_of(",\"\r\n") == text.npos) return std::string(text);
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"') quoted += '"';
    quoted += c;
  }
  return quoted + '"';
}

/// Empty where there is no number.
std::string cell(double value) { return std::isfinite(value) ? fmt::format("{}", value) : std::string(); }

std::string runs_csv(const Study& study) {
  std::string text =
      "kind,name,options,seed,goal,fitness,perplexity,divergence,agreement,sum_bits,bits_per_weight,"
      "linear_bytes,bytes,distinct,full_passes,seconds,bits\n";
  for (std::size_t g = 0; g < study.groups.size(); ++g) {
    for (const StudyRun& run : study.groups[g].runs) {
      text += fmt::format("run,{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{}\n", field(label(study, g)),
                          field(study.groups[g].options), run.seed, cell(run.goal), cell(run.fitness),
                          cell(run.measurement.perplexity()), cell(run.measurement.value(study.divergence)),
                          cell(run.measurement.agreement), cell(run.sum_bits), cell(run.bits_per_weight),
                          run.linear_bytes, run.bytes, run.distinct, cell(run.full_passes), cell(run.seconds),
                          fmt::join(run.bits, " "));
    }
  }
  for (const StudyBaseline& one : study.baselines) {
    text += fmt::format("baseline,{},,,,{},{},{},,{},{},,{},,,,\n", field(one.name), cell(one.fitness),
                        cell(one.perplexity), one.divergence ? cell(*one.divergence) : "", cell(one.sum_bits),
                        cell(one.bits_per_weight), one.bytes);
  }
  return text;
}

std::string curves_csv(const Study& study) {
  std::string text = "strategy,seed,question,goal\n";
  for (std::size_t g = 0; g < study.groups.size(); ++g) {
    for (const StudyRun& run : study.groups[g].runs) {
      for (std::size_t question = 0; question < run.curve.size(); ++question)
        text += fmt::format("{},{},{},{}\n", field(label(study, g)), run.seed, question + 1,
                            cell(run.curve[question]));
    }
  }
  return text;
}

std::string tests_csv(const Study& study) {
  std::string text =
      "a,b,rank_sum_z,rank_sum_p,holm_p,mann_whitney_u,mann_whitney_p,exact,a_better,rank_biserial\n";
  for (const StudyTest& test : study.tests) {
    text += fmt::format("{},{},{},{},{},{},{},{},{},{}\n", field(label(study, test.a)),
                        field(label(study, test.b)), cell(test.rank_sum.z), cell(test.rank_sum.p),
                        cell(test.holm), cell(test.mann_whitney.u), cell(test.mann_whitney.p),
                        test.mann_whitney.exact ? 1 : 0, cell(test.a_better), cell(test.rank_biserial));
  }
  return text;
}

}  // namespace

Json study_json(const Study& study, const SearchSpace& space) {
  Json strategies = Json::array();
  for (const StudyGroup& group : study.groups) {
    Json runs = Json::array();
    for (const StudyRun& run : group.runs) runs.push_back(run_json(run, study.divergence));
    strategies.push_back({{"name", group.strategy},
                          {"options", group.options},
                          {"runs", std::move(runs)},
                          {"summary",
                           {{"goal", spread_json(group.goal)},
                            {"fitness", spread_json(group.fitness)},
                            {"perplexity", spread_json(group.perplexity)},
                            {"divergence", spread_json(group.divergence)},
                            {"sum_bits", spread_json(group.sum_bits)},
                            {"full_passes", spread_json(group.full_passes)}}},
                          {"band", band_json(group.band)}});
  }
  Json tests = Json::array();
  for (const StudyTest& test : study.tests) {
    tests.push_back(
        {{"a", label(study, test.a)},
         {"b", label(study, test.b)},
         {"rank_sum", {{"z", test.rank_sum.z}, {"p", test.rank_sum.p}}},
         {"holm", test.holm},
         {"mann_whitney",
          {{"u", test.mann_whitney.u}, {"p", test.mann_whitney.p}, {"exact", test.mann_whitney.exact}}},
         {"a_better", test.a_better},
         {"rank_biserial", test.rank_biserial}});
  }
  Json baselines = Json::array();
  for (const StudyBaseline& one : study.baselines) {
    baselines.push_back({{"name", one.name},
                         {"bits_per_weight", number(one.bits_per_weight)},
                         {"bytes", one.bytes},
                         {"sum_bits", number(one.sum_bits)},
                         {"perplexity", number(one.perplexity)},
                         {"fitness", number(one.fitness)},
                         {"divergence", one.divergence ? number(*one.divergence) : Json(nullptr)}});
  }
  return {{"format", "knapsaq-study"},
          {"version", 1},
          {"goal", goal_json(study)},
          {"divergence", name_of(study.divergence)},
          {"budget", study.budget ? Json(study.budget->bytes) : Json(nullptr)},
          {"budget_of",
           study.budget ? Json(study.budget->of == Budget::Of::files ? "files" : "linears") : Json(nullptr)},
          {"evaluations", study.evaluations},
          {"repeats", study.repeats},
          {"seed", study.seed},
          {"tokens", study.tokens},
          {"variables", variables_json(space)},
          {"strategies", std::move(strategies)},
          {"tests", std::move(tests)},
          {"baselines", std::move(baselines)}};
}

void write_study(const Study& study, const SearchSpace& space, const std::filesystem::path& folder) {
  write_file(folder / "runs.csv", runs_csv(study));
  write_file(folder / "curves.csv", curves_csv(study));
  write_file(folder / "tests.csv", tests_csv(study));
  // Last: where it is, the others are.
  write_file(folder / kStudyName, study_json(study, space).dump(1) + "\n");
}

std::string study_table(const Study& study) {
  const bool paper = study.goal == "paper";
  std::string text = fmt::format("{:24}{:>22}{:>12}{:>10}{:>8}{:>8}{:>9}\n", "",
                                 paper ? "fitness (mean +- sd)" : "divergence (mean +- sd)", "best",
                                 "perplexity", "bits", "sum b", "passes");
  for (std::size_t g = 0; g < study.groups.size(); ++g) {
    const StudyGroup& group = study.groups[g];
    // Of the goal: small is good; of the fitness, large.
    const Spread& shown = paper ? group.fitness : group.divergence;
    const auto best = std::min_element(group.runs.begin(), group.runs.end(),
                                       [](const StudyRun& a, const StudyRun& b) { return a.goal < b.goal; });
    text += fmt::format("{:24}{:>22}{:>12.5g}{:>10.3f}{:>8.3f}{:>8.5g}{:>9.1f}\n",
                        fmt::format("{} x {}", label(study, g), group.runs.size()),
                        fmt::format("{:.5g} +- {:.2g}", shown.mean, shown.deviation),
                        paper ? best->fitness : best->measurement.value(study.divergence),
                        best->measurement.perplexity(), best->bits_per_weight, best->sum_bits,
                        group.full_passes.mean);
  }
  for (const StudyBaseline& one : study.baselines) {
    const double shown = paper ? one.fitness : one.divergence.value_or(std::nan(""));
    text += fmt::format("{:24}{:>22}{:>12}{:>10.3f}{:>8.3f}{:>8.5g}\n", one.name, "",
                        std::isfinite(shown) ? fmt::format("{:.5g}", shown) : "", one.perplexity,
                        one.bits_per_weight, one.sum_bits);
  }
  if (study.tests.empty()) return text;
  text += fmt::format("\n{:24}{:>12}{:>12}{:>12}{:>14}  {}\n", "", "rank-sum p", "Holm p", "exact p",
                      "P(1st better)", "at 0.05");
  for (const StudyTest& test : study.tests) {
    const char* verdict = test.holm >= 0.05     ? "no difference shown"
                          : test.a_better > 0.5 ? "the first is better"
                                                : "the second is better";
    text += fmt::format("{:24}{:>12.3g}{:>12.3g}{:>12}{:>14.3f}  {}\n",
                        fmt::format("{} / {}", label(study, test.a), label(study, test.b)), test.rank_sum.p,
                        test.holm, test.mann_whitney.exact ? fmt::format("{:.3g}", test.mann_whitney.p) : "-",
                        test.a_better, verdict);
  }
  return text;
}

}  // namespace knapsaq
