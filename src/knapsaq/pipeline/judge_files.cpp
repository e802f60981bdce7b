#include "knapsaq/pipeline/judge_files.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <memory>
#include <numeric>
#include <utility>

#include <fmt/format.h>

#include "knapsaq/bank/folder_lock.h"
#include "knapsaq/base/cancellation.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"
#include "knapsaq/base/made_folder.h"
#include "knapsaq/base/not_finite_error.h"
#include "knapsaq/base/output_plan.h"
#include "knapsaq/base/quote.h"
#include "knapsaq/checkpoint/checkpoint.h"
#include "knapsaq/family/config.h"
#include "knapsaq/model/stored_tensors.h"
#include "knapsaq/pipeline/judged_log.h"
#include "knapsaq/pipeline/text_judge.h"
#include "knapsaq/report/html_page.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;

constexpr double kNothing = std::numeric_limits<double>::quiet_NaN();
constexpr std::string_view kHeader =
    "run,file,bytes,bits,kl,kl_standard_error,kl_median,kl_99,kl_99_9,kl_largest,flips,perplexity,loss,"
    "loss_standard_error,rival,kl_difference,kl_difference_standard_error";

/// Where the outputs go; empty: nowhere.
struct Places {
  fs::path csv;
  fs::path work;
  fs::path page;
};

bool is_own_csv(std::string_view beginning) { return beginning.starts_with(kHeader); }

void check_work_place(const fs::path& folder) {
  if (!fs::exists(folder)) return;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (!JudgedLog::is_own(name))
      throw UsageError(fmt::format(
          "{}: holds {}, which is not of a comparison of files, and one would work there: move it away "
          "or give another -o",
          folder.string(), in_quotes(name)));
  }
}

Places plan(const JudgeFilesOptions& options) {
  OutputPlan plan;
  plan.reads("the reference", options.reference);
  plan.reads("the text", options.text);
  for (const std::string& file : options.files) plan.reads("a model", file);
  Places places;
  if (!options.output.empty()) {
    places.csv = plan.file(options.output, true, is_own_csv);
    places.work = plan.workspace(places.csv.string() + ".work");
    check_work_place(places.work);
  }
  if (!options.page.empty()) places.page = plan.file(options.page, true, is_html_page);
  return places;
}

/// Refuses a CSV that holds the rows of another comparison.
void check_csv(const fs::path& csv, const std::string& run) {
  if (csv.empty() || !fs::exists(csv)) return;
  const std::string text = read_file(csv);
  const std::size_t row = text.find('\n');
  if (row == std::string::npos || row + 1 == text.size()) return;
  if (text.compare(row + 1, run.size() + 1, run + ",") != 0)
    throw InputError(fmt::format(
        "{}: was made with another reference, text, protocol or precision: give another file", csv.string()));
}

std::vector<std::string> names_of(std::span<const std::string> files) {
  std::map<std::string, int> seen;
  const auto last = [](const std::string& file) {
    const fs::path path = fs::path(file).lexically_normal();
    return (path.has_filename() ? path : path.parent_path()).filename().string();
  };
  for (const std::string& file : files) ++seen[last(file)];
  std::vector<std::string> names;
  for (const std::string& file : files) names.push_back(seen[last(file)] == 1 ? last(file) : file);
  return names;
}

std::vector<std::unique_ptr<Session>> open_files(Environment& environment, const JudgeFilesOptions& options,
                                                 const TextJudge& judge) {
  std::vector<std::unique_ptr<Session>> sessions;
  std::map<fs::path, std::string> seen;
  for (const std::string& file : options.files) {
    sessions.push_back(std::make_unique<Session>(environment, file));
    const auto [found, is_new] = seen.emplace(fs::weakly_canonical(sessions.back()->path()), file);
    if (!is_new)
      throw UsageError(fmt::format("{} and {} are the same model: give it once", found->second, file));
    judge.check(*sessions.back());
  }
  return sessions;
}

void fill(JudgedFile& file, const Measurement& found) {
  file.kl = kl_statistics(found.per_token, found.windows);
  file.flips = 1 - found.agreement;
  file.loss = found.loss;
  file.loss_standard_error = loss_standard_error(found);
  file.perplexity = found.perplexity();
}

void fill_broken(JudgedFile& file, const std::string& why) {
  file.kl = {kNothing, kNothing, kNothing, kNothing, kNothing, kNothing};
  file.flips = file.loss = file.loss_standard_error = file.perplexity = kNothing;
  file.broken = why;
}

KlDifference difference_of(const Measurement& a, const Measurement& b, std::int64_t targets) {
  if (a.per_token.empty() || b.per_token.empty()) return {kNothing, kNothing};
  const PairedDifference found = paired_difference(a, b, targets);
  return {found.mean, std::isfinite(found.standard_error) ? found.standard_error : 0};
}

/// Sorts files by bytes, and finds rivals. `measured[i]` belongs to files[i].
void settle(JudgeFilesResult& result, const std::vector<Measurement>& measured, std::int64_t targets) {
  const std::size_t count = result.files.size();
  std::vector<std::size_t> order(count);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order, {}, [&](std::size_t i) { return result.files[i].bytes; });
  std::vector<JudgedFile> sorted;
  sorted.reserve(count);
  for (const std::size_t i : order) sorted.push_back(std::move(result.files[i]));
  result.files = std::move(sorted);

  result.differences.assign(count, std::vector<KlDifference>(count));
  for (std::size_t a = 0; a < count; ++a)
    for (std::size_t b = 0; b < count; ++b)
      result.differences[a][b] = difference_of(measured[order[a]], measured[order[b]], targets);
  for (std::size_t a = 0; a < count; ++a) {
    JudgedFile& file = result.files[a];
    file.rival.reset();
    for (std::size_t b = 0; b < count; ++b) {
      const JudgedFile& other = result.files[b];
      if (a == b || other.bytes > file.bytes || std::isnan(other.kl.mean) || std::isnan(file.kl.mean))
        continue;
      if (!file.rival || other.kl.mean < result.files[*file.rival].kl.mean) file.rival = b;
    }
    if (file.rival) file.difference = result.differences[a][*file.rival];
  }
}

/// A field of a CSV: in quotes where it needs them (RFC 4180).
std::string field(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char c : text) quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
  return quoted + '"';
}

std::string csv_of(const JudgeFilesResult& result, const std::string& run) {
  std::string text(kHeader);
  text += '\n';
  for (const JudgedFile& one : result.files) {
    text += fmt::format("{},{},{},{},{},{},{},{},{},{},{},{},{},{},", run, field(one.path), one.bytes,
                        one.bits, one.kl.mean, one.kl.standard_error, one.kl.median, one.kl.quantile_99,
                        one.kl.quantile_99_9, one.kl.largest, one.flips, one.perplexity, one.loss,
                        one.loss_standard_error);
    text += one.rival ? fmt::format("{},{},{}\n", field(result.files[*one.rival].path), one.difference.mean,
                                    one.difference.standard_error)
                      : ",,\n";
  }
  return text;
}

ReportData page_of(const JudgeFilesResult& result, const JudgeFilesOptions& options,
                   const Session& reference) {
  ReportData data;
  data.model.name = names_of(std::vector{options.reference}).front();
  data.model.architecture = reference.config().architecture;
  data.model.parameters = parameters(reference.config());
  data.model.bytes = result.reference_bytes;
  data.model.loss = std::log(result.reference_perplexity);
  data.tokens = result.tokens;
  data.windows = result.windows;
  for (const JudgedFile& one : result.files) {
    ReportFile file{.name = one.name,
                    .bytes = one.bytes,
                    .bits = one.bits,
                    .kl = one.kl,
                    .flips = one.flips,
                    .perplexity = one.perplexity,
                    .rival = one.rival,
                    .difference = one.difference.mean,
                    .difference_error = one.difference.standard_error};
    data.files.push_back(std::move(file));
  }
  return data;
}

/// The folder that remembers; nothing where there is no output.
class Memory {
 public:
  Memory(const fs::path& folder, const std::string& comparison) {
    if (folder.empty()) return;
    folder_.emplace(folder);
    lock_.emplace(folder);
    log_.emplace(folder, comparison);
  }
  std::optional<Measurement> find(Session& file) const {
    return log_ ? log_->find(file.fingerprint()) : std::nullopt;
  }
  void keep(Session& file, const Measurement& measured) const {
    if (log_) log_->add(file.fingerprint(), measured);
  }

 private:
  std::optional<MadeFolder> folder_;
  std::optional<FolderLock> lock_;
  std::optional<JudgedLog> log_;
};

}  // namespace

JudgeFilesResult judge_files(Environment& environment, const JudgeFilesOptions& options,
                             const JudgedFileSink& sink) {
  const ExecutionScope scope(environment.execution());
  if (options.files.empty()) throw UsageError("there is nothing to compare: give files");
  if (options.text.empty()) throw UsageError("give the text on which they are compared: --text FILE");
  const Places places = plan(options);
  WindowOptions requested = options.windows;
  requested.protocol = parse_protocol(options.protocol);

  Session reference(environment, options.reference);
  TextJudge judge(reference, options.text, requested, options.precision);
  const std::vector<std::unique_ptr<Session>> files = open_files(environment, options, judge);
  const std::string run = places.csv.empty() ? "" : judge.identity();
  check_csv(places.csv, run);
  const Memory memory(places.work, run);

  JudgeFilesResult result;
  result.reference_bytes = reference.checkpoint().file_bytes();
  result.how = judge.windows();
  result.windows = judge.window_count();
  result.tokens = judge.window_count() * judge.targets();
  result.prediction_bytes = judge.prediction_bytes();
  // The model predicts only if there is a file left to judge by it.
  const auto reference_measurement = [&]() -> const Measurement& {
    if (!judge.predicted()) {
      judge.predict();
      memory.keep(reference, judge.reference());
    }
    return judge.reference();
  };
  const std::optional<Measurement> kept = memory.find(reference);
  result.reference_perplexity = (kept ? *kept : reference_measurement()).perplexity();

  const std::vector<std::string> names = names_of(options.files);
  std::vector<Measurement> measured;
  for (std::size_t i = 0; i < files.size(); ++i) {
    check_cancelled();
    Session& session = *files[i];
    JudgedFile& file = result.files.emplace_back();
    file.path = options.files[i];
    file.name = names[i];
    file.bytes = session.checkpoint().file_bytes();
    file.bits = 8 * static_cast<double>(file.bytes) / static_cast<double>(parameters(session.config()));
    std::optional<Measurement> found = memory.find(session);
    if (found && found->windows == result.windows && found->tokens == result.tokens) {
      fill(file, *found);
    } else {
      static_cast<void>(reference_measurement());
      try {
        found = judge.measure(*judge.load(session));
        memory.keep(session, *found);
        fill(file, *found);
      } catch (const NotFiniteError& error) {
        found = Measurement{};  // it has lost, and the others go on
        fill_broken(file, error.what());
      }
    }
    measured.push_back(std::move(*found));
    if (sink) sink(file);
    if (!places.csv.empty()) {
      JudgeFilesResult so_far = result;
      settle(so_far, measured, judge.targets());
      write_file(places.csv, csv_of(so_far, run));
    }
  }
  settle(result, measured, judge.targets());
  if (!places.page.empty()) write_html(page_of(result, options, reference), places.page);
  return result;
}

}  // namespace knapsaq
