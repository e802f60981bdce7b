#include "report/made_report.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <optional>
#include <string>
#include <utility>

#include "knapsaq/base/random.h"

namespace knapsaq {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kReferenceLoss = 4.223;  // perplexity 68.2

struct MadeModule {
  const char* name;
  std::int64_t parameters;
  double weight;  ///< how much the model suffers from it
};
constexpr MadeModule kModules[] = {
    {"self_attn.q_proj", 65536, 0.5}, {"self_attn.k_proj", 32768, 0.45}, {"self_attn.v_proj", 32768, 1.6},
    {"self_attn.o_proj", 65536, 1.1}, {"mlp.gate_proj", 163840, 0.9},    {"mlp.up_proj", 163840, 1.2},
    {"mlp.down_proj", 163840, 2.4},
};
constexpr int kBits[] = {2, 3, 4};
constexpr double kLoss[] = {1, 0.19, 0.035};  // of a linear in so many bits

/// A run in the making.
class Maker {
 public:
  explicit Maker(std::size_t blocks) : random_(7) {
    data_.model = {.name = "wiki-llama-6m",
                   .architecture = "LlamaForCausalLM",
                   .parameters = 5180672,
                   .bytes = 10361344,
                   .loss = kReferenceLoss,
                   .heldout_loss = kReferenceLoss - 0.04};
    data_.pick_command = "knapsaq pick RUN --budget {budget} -o OUT";
    data_.windows = 32;
    data_.tokens = 32 * 255;
    for (const int bits : kBits) data_.menu.push_back({.method = "gptq", .bits = bits, .group = 128});
    for (std::size_t block = 0; block < blocks; ++block)
      for (const MadeModule& module : kModules) add_linear(block, blocks, module);
    data_.ideal = {.size = bits_of(Point(variables(), 0)), .divergence = 0};
    data_.reference = {.size = bits_of(Point(variables(), 2)), .divergence = damage(Point(variables(), 0))};
  }

  std::size_t variables() const { return data_.variables.size(); }
  Random& random() { return random_; }
  ReportData& data() { return data_; }

  double damage(const Point& point) const {
    double sum = 0;
    for (std::size_t i = 0; i < point.size(); ++i) sum += weights_[i] * kLoss[point[i]];
    return sum * (1 + 0.35 * sum);
  }
  double predicted(const Point& point) const {
    double sum = 0;
    for (std::size_t i = 0; i < point.size(); ++i) sum += weights_[i] * kLoss[point[i]];
    return sum;
  }
  double bits_of(const Point& point) const {
    return 8 * static_cast<double>(linear_bytes(point)) / static_cast<double>(parameters_);
  }
  std::uint64_t linear_bytes(const Point& point) const {
    std::uint64_t bytes = 0;
    for (std::size_t i = 0; i < point.size(); ++i) bytes += data_.variables[i].levels[point[i]].bytes;
    return bytes;
  }

  /// The best point for a price of a byte, with some bad luck: each variable errs with that probability.
  Point priced(double price, double error, Random& random) const {
    Point point(variables());
    for (std::size_t i = 0; i < point.size(); ++i) {
      double best = std::numeric_limits<double>::infinity();
      for (std::uint8_t level = 0; level < 3; ++level) {
        const double cost =
            weights_[i] * kLoss[level] + price * static_cast<double>(data_.variables[i].levels[level].bytes);
        if (cost >= best) continue;
        best = cost;
        point[i] = level;
      }
      if (random.uniform() < error) point[i] = static_cast<std::uint8_t>(random.below(3));
    }
    return point;
  }

  std::size_t measured(const Point& point) {
    const auto [found, added] =
        known_.try_emplace(std::string(point.begin(), point.end()), data_.points.size());
    if (!added) return found->second;
    const double divergence = damage(point) * std::exp(0.01 * random_.normal());
    data_.points.push_back({.point = point,
                            .bytes = linear_bytes(point) + 2119368,
                            .bits = bits_of(point),
                            .measurement = {.windows = data_.windows,
                                            .tokens = data_.tokens,
                                            .kl = divergence,
                                            .jsd = 0.22 * divergence,
                                            .loss = kReferenceLoss + 0.8 * divergence,
                                            .agreement = std::exp(-1.1 * std::sqrt(divergence)),
                                            .per_token = {},
                                            .window_loss = {}}});
    return found->second;
  }

  /// Front, progress and passes of a search whose steps are there.
  void finish(ReportSearch search, double passes_per_step) {
    std::vector<std::size_t> seen;
    const std::size_t every = std::max<std::size_t>(1, search.steps.size() / 100);
    for (std::size_t i = 0; i < search.steps.size(); ++i) {
      seen.push_back(search.steps[i].point);
      if ((i + 1) % every != 0 && i + 1 != search.steps.size()) continue;
      seen = front_of(seen);
      search.progress.push_back({.evaluations = static_cast<std::int64_t>(i + 1),
                                 .full_passes = static_cast<double>(i + 1) * passes_per_step,
                                 .hypervolume = covered(seen)});
    }
    search.front = seen;
    search.full_passes = static_cast<double>(search.steps.size()) * passes_per_step;
    search.seconds = search.full_passes * 0.9;
    search.finished = true;
    data_.searches.push_back(std::move(search));
  }

  std::vector<std::size_t> front_of(std::vector<std::size_t> indices) const {
    std::ranges::sort(indices, [&](std::size_t a, std::size_t b) {
      const ReportPoint& left = data_.points[a];
      const ReportPoint& right = data_.points[b];
      return std::pair(left.bits, left.measurement.kl) < std::pair(right.bits, right.measurement.kl);
    });
    std::vector<std::size_t> result;
    for (const std::size_t i : indices)
      if (result.empty() || data_.points[i].measurement.kl < data_.points[result.back()].measurement.kl)
        result.push_back(i);
    return result;
  }

  double covered(const std::vector<std::size_t>& front) const {
    double area = 0;
    for (std::size_t i = 0; i < front.size(); ++i) {
      const double right = i + 1 < front.size() ? data_.points[front[i + 1]].bits : data_.reference.size;
      const double height = data_.reference.divergence - data_.points[front[i]].measurement.kl;
      if (height > 0) area += (right - data_.points[front[i]].bits) * height;
    }
    return area / ((data_.reference.size - data_.ideal.size) * data_.reference.divergence);
  }

 private:
  void add_linear(std::size_t block, std::size_t blocks, const MadeModule& module) {
    const double place = blocks > 1 ? static_cast<double>(block) / static_cast<double>(blocks - 1) : 0;
    WeightStatistics statistics;
    statistics.kurtosis = 3 + 4 * std::pow(2 * place - 1, 2) * (0.4 + random_.uniform());
    const double scale = 0.5 + 0.3 * random_.uniform();
    const double percentiles[] = {1e-6, 0.16, 0.22, 0.3, 0.42 + 0.3 * random_.uniform()};
    std::ranges::transform(percentiles, statistics.percentiles, [&](double p) { return p * scale; });
    const std::string name = "model.layers." + std::to_string(block) + "." + module.name;
    data_.variables.push_back(
        {.name = name, .linears = {data_.linears.size()}, .parameters = module.parameters, .levels = {}});
    data_.linears.push_back({.name = name,
                             .block = static_cast<std::int64_t>(block),
                             .module = module.name,
                             .parameters = module.parameters,
                             .statistics = statistics});
    const double weight = 0.012 * module.weight * (0.5 + 1.5 * std::pow(2 * place - 1, 2)) *
                          std::exp(0.35 * random_.normal()) * 6 / static_cast<double>(blocks);
    weights_.push_back(weight);
    for (std::size_t level = 0; level < 3; ++level)
      data_.variables.back().levels.push_back({.choice = level,
                                               .bytes = static_cast<std::uint64_t>(module.parameters) *
                                                            static_cast<std::uint64_t>(kBits[level]) / 8 +
                                                        static_cast<std::uint64_t>(module.parameters) / 32,
                                               .bits = static_cast<double>(kBits[level]),
                                               .error = weight * kLoss[level] * 20});
    parameters_ += module.parameters;
  }

  ReportData data_;
  Random random_;
  std::vector<double> weights_;
  std::map<std::string, std::size_t> known_;
  std::int64_t parameters_ = 0;
};

ReportSearch begun(std::string strategy, std::uint64_t seed) {
  ReportSearch search;
  search.strategy = std::move(strategy);
  search.seed = seed;
  return search;
}

double price_of(double place) { return std::pow(10.0, -8.3 + 2.8 * place); }

void add_front(Maker& maker, std::uint64_t seed) {
  Random random(seed);
  ReportSearch search = begun("front", seed);
  for (std::size_t i = 0; i < maker.variables(); ++i) {
    Point point(maker.variables(), 2);
    point[i] = 0;
    search.steps.push_back({.point = maker.measured(point), .predicted = kNaN});
  }
  for (int i = 0; i < 250; ++i) {
    const Point point = maker.priced(price_of(random.uniform()), 0.06 * std::exp(-i / 60.0), random);
    search.steps.push_back({.point = maker.measured(point),
                            .predicted = maker.predicted(point) * std::exp(0.05 * random.normal())});
  }
  search.phases = {{"sensitivity", 21}, {"sweep", 95}, {"refine", 74}};
  maker.finish(std::move(search), 0.65);
}

void add_amq(Maker& maker, std::uint64_t seed, std::size_t evaluations) {
  Random random(seed);
  ReportSearch search = begun("amq", seed);
  search.options = "rounds=200 samples=250";
  search.rounds.names = {"round", "hypervolume", "rmse", "spearman", "kendall"};
  search.rounds.columns.resize(5);
  const auto initial = std::min<std::size_t>(250, evaluations);
  for (std::size_t i = 0; i < evaluations; ++i) {
    const double luck = i < initial ? 0.8 : 0.5 * std::exp(-static_cast<double>(i - initial) / 900.0) + 0.05;
    const Point point = maker.priced(price_of(random.uniform()), luck, random);
    const double predicted =
        i < initial ? kNaN : maker.damage(point) * std::exp((0.05 + 0.3 * luck) * random.normal());
    search.steps.push_back({.point = maker.measured(point), .predicted = predicted});
    if (i < initial || (i - initial) % 50 != 49) continue;
    const double round = static_cast<double>((i - initial) / 50 + 1);
    const double values[] = {round, 0.9 - 0.1 * std::exp(-round / 12), 0.05 * std::exp(-round / 30) + 0.01,
                             0.99 - 0.2 * std::exp(-round / 10), 0.93 - 0.25 * std::exp(-round / 10)};
    for (std::size_t c = 0; c < 5; ++c) search.rounds.columns[c].push_back(values[c]);
  }
  search.phases = {
      {"sensitivity", 25}, {"initial", 250}, {"round", static_cast<double>(evaluations - initial)}};
  maker.finish(std::move(search), 1);
}

void add_blind(Maker& maker, const char* strategy, std::uint64_t seed, std::size_t evaluations, double luck) {
  Random random(seed);
  ReportSearch search = begun(strategy, seed);
  for (std::size_t i = 0; i < evaluations; ++i) {
    const double error = 1 - luck * (1 - std::exp(-static_cast<double>(i) / 150.0));
    search.steps.push_back({.point = maker.measured(maker.priced(price_of(random.uniform()), error, random)),
                            .predicted = kNaN});
  }
  search.phases = {{"search", static_cast<double>(evaluations)}};
  maker.finish(std::move(search), 1);
}

ReportSpread spread_around(double value, double width) {
  return {.mean = value,
          .deviation = width,
          .minimum = value - 1.7 * width,
          .lower = value - 0.7 * width,
          .median = value - 0.05 * width,
          .upper = value + 0.7 * width,
          .maximum = value + 1.9 * width};
}

ReportStudy made_study(Maker& maker) {
  ReportStudy study;
  study.value_name = "fitness 1000 / (perplexity x sum of bits)";
  study.larger_is_better = true;
  study.evaluations = 110;
  const std::pair<const char*, double> groups[] = {
      {"ga", 0.139}, {"pso", 0.136}, {"sa", 0.131}, {"de", 0.1385}};
  Random random(3);
  for (const auto& [name, value] : groups) {
    ReportStudy::Group group;
    group.strategy = name;
    group.runs = 10;
    group.value = spread_around(value, 0.0015);
    group.perplexity = spread_around(10.0 / value, 0.8);
    group.divergence = spread_around(0.012 / value, 0.006);
    group.bits_per_weight = 2.9;
    group.full_passes = 96;
    for (int i = 0; i < 110; ++i)
      group.band.push_back(
          spread_around(value - 0.02 * std::exp(-i / 25.0), 0.0012 + 0.003 * std::exp(-i / 30.0)));
    for (std::size_t run = 0; run < group.runs; ++run) {
      std::vector<double> bits;
      for (std::uint8_t level : maker.priced(price_of(0.4), 0.25, random)) bits.push_back(kBits[level]);
      group.bits.push_back(std::move(bits));
    }
    study.groups.push_back(std::move(group));
  }
  const double p[] = {0.0027, 0.00016, 0.52, 0.00091, 0.011, 0.00018};
  std::size_t next = 0;
  for (std::size_t a = 0; a < 4; ++a)
    for (std::size_t b = a + 1; b < 4; ++b, ++next)
      study.tests.push_back({.a = a,
                             .b = b,
                             .p = p[next],
                             .holm = std::min(1.0, p[next] * 4),
                             .exact = p[next] * 0.8,
                             .a_better = p[next] > 0.1 ? 0.59 : (a < b && b != 3 ? 0.93 : 0.08)});
  study.baselines = {{.name = "NF4",
                      .bits_per_weight = 4.127,
                      .bytes = 4240000,
                      .perplexity = 69.2,
                      .value = 0.086,
                      .divergence = {}},
                     {.name = "AWQ b4g128",
                      .bits_per_weight = 4.25,
                      .bytes = 4300000,
                      .perplexity = 68.9,
                      .value = 0.0864,
                      .divergence = 0.011},
                     {.name = "uniform b3g128",
                      .bits_per_weight = 3.25,
                      .bytes = 3800000,
                      .perplexity = 74.1,
                      .value = 0.107,
                      .divergence = 0.09}};
  return study;
}

}  // namespace

ReportData made_report(const MadeRun& run) {
  Maker maker(run.blocks);
  ReportSearch uniform = begun("uniform", 1);
  for (std::uint8_t level = 0; level < 3; ++level)
    uniform.steps.push_back({.point = maker.measured(Point(maker.variables(), level)), .predicted = kNaN});
  maker.finish(std::move(uniform), 1);
  for (std::uint64_t seed = 1; seed <= run.seeds; ++seed) add_front(maker, seed);
  for (std::uint64_t seed = 1; seed <= run.seeds; ++seed) add_amq(maker, seed, run.amq_evaluations);
  ReportSearch mxq = begun("mxq", 1);
  for (int i = 0; i < 12; ++i) {
    Random random(99);
    mxq.steps.push_back(
        {.point = maker.measured(maker.priced(price_of(i / 11.0), 0.12, random)), .predicted = kNaN});
  }
  maker.finish(std::move(mxq), 1);
  add_blind(maker, "ga", 1, 400, 0.7);
  add_blind(maker, "pso", 1, 400, 0.55);
  add_blind(maker, "sa", 1, 400, 0.4);
  add_blind(maker, "de", 1, 400, 0.6);
  add_blind(maker, "random", 1, 400, 0.05);

  ReportData& data = maker.data();
  std::vector<std::size_t> all(data.points.size());
  std::iota(all.begin(), all.end(), std::size_t{0});
  data.front = maker.front_of(all);
  data.hypervolume = maker.covered(data.front);
  for (const char* strategy : {"front", "amq"}) {
    ReportSensitivity sensitivity;
    sensitivity.strategy = strategy;
    for (std::size_t i = 0; i < maker.variables(); ++i) {
      Point point(maker.variables(), 2);
      point[i] = 0;
      sensitivity.values.push_back(maker.damage(point) * (strategy[0] == 'a' ? 0.22 : 1));
    }
    if (strategy[0] == 'a') sensitivity.threshold = 0.033;
    data.sensitivities.push_back(std::move(sensitivity));
  }
  const auto held = [&](std::string label, bool is_uniform, std::size_t index, double factor) {
    const ReportPoint& point = data.points[index];
    Measurement measurement = point.measurement;
    measurement.kl *= factor;
    measurement.loss = kReferenceLoss - 0.04 + 0.8 * measurement.kl;
    data.heldout.push_back({.label = std::move(label),
                            .uniform = is_uniform,
                            .bytes = point.bytes,
                            .bits = point.bits,
                            .measurement = measurement,
                            .standard_error = 0.03 * measurement.kl});
  };
  for (std::size_t i = 0; i < 3; ++i) held("uniform b" + std::to_string(kBits[i]) + "g128", true, i, 1.05);
  for (const double bits : {2.5, 2.75, 3.0, 3.25, 3.5, 4.0}) {
    std::size_t best = data.front.front();
    for (const std::size_t i : data.front)
      if (data.points[i].bits <= bits) best = i;
    held("chosen at " + std::to_string(bits).substr(0, 4) + " bits", false, best, 1.08);
  }
  for (const double bits : {2.5, 3.25, 16.0}) {
    TaskScores scores{.model = "at " + std::to_string(bits).substr(0, 4) + " bits",
                      .bytes = static_cast<std::uint64_t>(bits * 1e6),
                      .bits = bits,
                      .precision = "bf16",
                      .data = bits == 3.25 ? "other" : "same",
                      .tasks = {},
                      .average = {.value = 0.5 + bits / 100, .standard_error = 0.01}};
    scores.tasks.push_back({.name = "piqa",
                            .items = 200,
                            .acc = {.value = 0.6, .standard_error = 0.02},
                            .acc_norm = Accuracy{.value = 0.61, .standard_error = 0.02}});
    scores.tasks.push_back(
        {.name = "boolq", .items = 200, .acc = {.value = 0.4, .standard_error = 0.02}, .acc_norm = {}});
    data.tasks.push_back(std::move(scores));
  }
  data.study = made_study(maker);
  return std::move(data);
}

ReportData begun_report(std::size_t points) {
  Maker maker(6);
  ReportData& data = maker.data();
  data.running = true;
  ReportSearch search = begun("front", 1);
  for (std::size_t i = 0; i < points; ++i)
    search.steps.push_back(
        {.point = maker.measured(maker.priced(price_of(maker.random().uniform()), 0.3, maker.random())),
         .predicted = kNaN});
  maker.finish(std::move(search), 1);
  data.searches.back().finished = false;
  data.front = data.searches.back().front;
  for (ReportLinear& linear : data.linears) linear.statistics.reset();
  data.model.loss.reset();
  data.model.heldout_loss.reset();
  return std::move(data);
}

ReportData files_report() {
  ReportData data;
  data.model.name = "model <b>";
  data.model.bytes = 8'000'000;
  data.model.loss = 2.5;
  data.tokens = 6300;
  data.windows = 100;
  const auto add = [&](const char* name, std::uint64_t bytes, double kl, std::optional<std::size_t> rival) {
    ReportFile file;
    file.name = name;
    file.bytes = bytes;
    file.bits = static_cast<double>(bytes) / 500'000;
    file.kl = {kl, kl / 50, kl / 3, 5 * kl, 12 * kl, 30 * kl};
    file.flips = kl;
    file.perplexity = 12 * (1 + kl);
    file.rival = rival;
    if (rival) file.difference = kl - data.files[*rival].kl.mean;
    file.difference_error = kl / 100;
    data.files.push_back(file);
  };
  add("two <script>", 1'200'000, 0.3, std::nullopt);
  add("three", 1'700'000, 0.06, 0);
  add("worse", 1'700'000, 0.09, 1);
  add("broken", 1'900'000, std::numeric_limits<double>::quiet_NaN(), std::nullopt);
  add("eight", 4'300'000, 0.0001, 1);
  return data;
}

}  // namespace knapsaq
