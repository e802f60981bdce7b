#include "knapsaq/pipeline/comparison.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>
#include <limits>
#include <utility>

#include <fmt/format.h>

#include "knapsaq/bank/find_folding.h"
#include "knapsaq/bank/match_table.h"
#include "knapsaq/bank/matrix_scheme.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/exchange.h"
#include "knapsaq/base/files.h"
#include "knapsaq/base/hash.h"
#include "knapsaq/base/not_finite_error.h"
#include "knapsaq/base/quote.h"
#include "knapsaq/eval/perplexity.h"
#include "knapsaq/export/matrix_source.h"
#include "knapsaq/export/quantized_checkpoint.h"
#include "knapsaq/model/decoder.h"
#include "knapsaq/model/stored_tensors.h"
#include "knapsaq/quant/quantizer.h"
#include "knapsaq/search/mxq.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kNone = "none";
constexpr std::string_view kMxq = "mxq";
constexpr std::string_view kAwq = "awq";

bool has_one_case(std::string_view method) {
  return method == kNone || method == "nf4" || parse_ggml_type(method).has_value();
}

Scheme scheme_of(const ComparisonCase& one) {
  return parse_scheme(one.configuration.empty() ? one.method : one.method + ":" + one.configuration);
}

/// Whether the method can do the scheme; refuses what is no scheme at all.
bool is_possible(const ComparisonCase& one) {
  const Scheme scheme = scheme_of(one);
  try {
    quantizer(scheme.method).check(scheme);
  } catch (const UsageError&) {
    return false;
  }
  return true;
}

double number(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  // A weight takes at most 32 bits; anything beyond is a slip.
  if (error != std::errc() || end != text.data() + text.size() || !(value > 0) || value > 32)
    throw UsageError(fmt::format(
        "{} is not a number of bits per weight: write 3.25, 2.5,3.25 or 2.75:7.75:0.05", in_quotes(text)));
  return value;
}

std::size_t decimals(std::string_view text) {
  const std::size_t point = text.find('.');
  return point == std::string_view::npos ? 0 : text.size() - point - 1;
}

/// A folder that is gone when the scope is left, also by an exception.
class Removed {
 public:
  explicit Removed(fs::path path) : path_(std::move(path)) {}
  ~Removed() { remove_finished(path_); }
  Removed(const Removed&) = delete;
  Removed& operator=(const Removed&) = delete;

 private:
  fs::path path_;
};

}  // namespace

std::vector<ComparisonCase> comparison_cases(std::span<const std::string> methods,
                                             std::span<const std::string> configurations,
                                             std::span<const std::string> budgets) {
  std::vector<ComparisonCase> cases{{std::string(kNone), ""}};
  std::vector<bool> used(configurations.size());
  for (const std::string& method : methods) {
    if (method == kMxq) {
      for (const std::string& budget : budgets) cases.push_back({method, budget});
      continue;
    }
    static_cast<void>(quantizer(method));  // refuses a method that there is not
    if (has_one_case(method)) {
      cases.push_back({method, ""});
      continue;
    }
    for (std::size_t i = 0; i < configurations.size(); ++i) {
      const ComparisonCase one{method, configurations[i]};
      if (!is_possible(one)) continue;
      used[i] = true;
      cases.push_back(one);
    }
  }
  const bool any_uniform =
      std::ranges::any_of(methods, [](const std::string& m) { return m != kMxq && !has_one_case(m); });
  for (std::size_t i = 0; any_uniform && i < configurations.size(); ++i)
    if (!used[i])
      throw UsageError(fmt::format("none of the methods can do {}", in_quotes(configurations[i])));
  return cases;
}

std::vector<std::string> parse_budgets(std::string_view text) {
  std::vector<std::string> parts;
  const bool range = text.find(':') != std::string_view::npos;
  for (std::string_view rest = text;;) {
    const std::size_t end = rest.find(range ? ':' : ',');
    static_cast<void>(number(rest.substr(0, end)));
    parts.emplace_back(rest.substr(0, end));
    if (end == std::string_view::npos) break;
    rest.remove_prefix(end + 1);
  }
  if (!range) return parts;
  if (parts.size() != 3) throw UsageError(fmt::format("{} is not FIRST:LAST:STEP", in_quotes(text)));
  const double first = number(parts[0]);
  const double last = number(parts[1]);
  const double step = number(parts[2]);
  const std::size_t digits = std::max(decimals(parts[0]), decimals(parts[2]));
  // The last one counts although (last - first) / step may come out a little too small.
  const double count = std::floor((last - first) / step + 1e-6) + 1;
  // More than the paper's few hundred by far: a slip in the step.
  constexpr double kMost = 100000;
  if (last < first || count > kMost)
    throw UsageError(fmt::format("{}: the budgets go from the smaller to the larger, at most {} of them",
                                 in_quotes(text), kMost));
  std::vector<std::string> budgets;
  for (double i = 0; i < count; ++i) budgets.push_back(fmt::format("{:.{}f}", first + i * step, digits));
  return budgets;
}

bool needs_statistics(const ComparisonCase& one) {
  if (one.method == kNone || one.method == kMxq) return false;
  return quantizer(one.method).needs() != Needs::nothing;
}

void Comparison::check(std::span<const ComparisonCase> cases) const {
  for (const Matrix& linear : linears(*setup_.config))
    if (setup_.checkpoint->packing(linear.name))
      throw InputError(fmt::format("{}: {} is quantized already: compare the full-precision model",
                                   setup_.checkpoint->folder().string(), linear.name));
  for (const Scheme& scheme : setup_.menu.schemes)
    if (quantizer(scheme.method).needs() != Needs::nothing)
      throw UsageError(
          fmt::format("--menu: {} needs a calibration, and mxq's errors are measured without one: "
                      "use rtn, hqq, nf4 or GGML types",
                      to_string(scheme)));
  const ErrorTable sizes = size_table(linears(*setup_.config), setup_.menu);
  for (const ComparisonCase& one : cases)
    if (one.method == kMxq)
      static_cast<void>(allocate_mxq(sizes, budget_bytes(sizes, number(one.configuration))));
}

const ErrorTable& Comparison::table(Progress& progress) {
  if (table_) return *table_;
  const std::vector<Matrix> all = linears(*setup_.config);
  const fs::path kept = setup_.work / fmt::format("{}-{}-{}.csv", kComparedErrorsName, setup_.fingerprint,
                                                  hash_hex(setup_.menu.name).substr(0, 8));
  if (fs::exists(kept)) {
    table_ = match_table(read_csv(kept), all, kept.string());
  } else {
    table_ = build_error_table(*setup_.checkpoint, all, setup_.menu, progress);
    write_csv(*table_, kept);
  }
  return *table_;
}

/// Of the linears of the blocks, as the papers compare: embedding and head stay as they are stored.
std::vector<MatrixScheme> Comparison::allocation_of(const ComparisonCase& one, Progress& progress) {
  const std::vector<Matrix> all = linears(*setup_.config);
  if (one.method != kMxq) return uniform_allocation(all, scheme_of(one));
  const ErrorTable& errors = table(progress);
  return knapsaq::allocation_of(
      all, allocate_mxq(errors, budget_bytes(errors, number(one.configuration))).schemes);
}

void Comparison::score(const Checkpoint& model, CaseResult& result, Progress& progress) const {
  Decoder decoder = Decoder::load(model, *setup_.config, *setup_.backend, progress);
  const LossFunction losses = [&](std::span<const std::int32_t> batch, std::int64_t count,
                                  std::int64_t length,
                                  std::span<float> out) { decoder.losses(batch, count, length, out); };
  result.perplexity = perplexity(setup_.tokens, setup_.windows, setup_.bos, losses, progress).perplexity;
  if (setup_.tasks == nullptr || setup_.tasks->empty()) return;
  const std::vector<TaskResult> tasks =
      setup_.tasks->judge([&](auto batch, auto segments, auto targets,
                              auto out) { decoder.segment_losses(batch, segments, targets, out); },
                          decoder.windows_per_batch(1), progress);
  for (const TaskResult& task : tasks) result.tasks.push_back(task.counted().value);
  result.average = average(tasks).value;
}

CaseResult Comparison::measure(const ComparisonCase& one, Progress& progress) {
  CaseResult result{.method = one.method, .configuration = one.configuration};
  if (one.method == kNone) {
    const Checkpoint& model = *setup_.checkpoint;
    result.bits = linear_bits(model, *setup_.config);
    result.memory = model.tensor_bytes();
    result.bytes = model.tensor_bytes();
    score(model, result, progress);
    return result;
  }

  if (one.method == kMxq) table(progress);  // made once for all budgets; no case's own time
  const fs::path out = setup_.work / kComparedModelName;
  const auto begin = std::chrono::steady_clock::now();
  const std::vector<MatrixScheme> allocation = allocation_of(one, progress);
  Folding folding;
  if (one.method == kAwq) {
    Scheme rounding = scheme_of(one);
    rounding.method = "rtn";
    folding = find_folding(*setup_.checkpoint, *setup_.config, setup_.fingerprint, *setup_.inputs,
                           *setup_.samples, rounding, *setup_.backend, progress);
  }
  const DirectSource source(*setup_.checkpoint, setup_.inputs, folding.empty() ? nullptr : &folding);
  const Removed leftover(out);
  const QuantizedModel written =
      write_quantized(*setup_.checkpoint, *setup_.config, allocation, source, out, true, progress,
                      {.kept = select_matrices(*setup_.config, {}, false).kept});
  result.quantize_seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  result.bits = written.bits;
  result.bytes = written.bytes;
  const Checkpoint model = Checkpoint::open(out);
  result.memory = model.tensor_bytes();
  try {
    score(model, result, progress);
  } catch (const NotFiniteError& error) {
    // It has lost, and the others go on.
    constexpr double kNothing = std::numeric_limits<double>::quiet_NaN();
    result.perplexity = kNothing;
    result.tasks.assign(setup_.tasks == nullptr ? 0 : setup_.tasks->names().size(), kNothing);
    result.average = result.tasks.empty() ? 0 : kNothing;
    result.broken = error.what();
  }
  return result;
}

}  // namespace knapsaq
