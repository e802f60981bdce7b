#include "compare_files.h"

#include <algorithm>
#include <cmath>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "knapsaq/base/units.h"
#include "result_json.h"

namespace knapsaq::command {
namespace {

nlohmann::ordered_json json_of(const KlDifference& difference) {
  return {{"mean", difference.mean}, {"standard_error", difference.standard_error}};
}

nlohmann::ordered_json json_of(const JudgedFile& file, const JudgeFilesResult& result) {
  nlohmann::ordered_json json = {{"file", file.path},
                                 {"name", file.name},
                                 {"bytes", file.bytes},
                                 {"bits", file.bits},
                                 {"kl", command::json_of(file.kl)},
                                 {"flips", file.flips},
                                 {"perplexity", file.perplexity},
                                 {"loss", file.loss},
                                 {"loss_standard_error", file.loss_standard_error},
                                 {"rival", nullptr},
                                 {"difference", nullptr}};
  if (!file.rival) return json;
  json["rival"] = result.files[*file.rival].path;
  json["difference"] = json_of(file.difference);
  return json;
}

nlohmann::ordered_json json_of(const JudgeFilesResult& result, const JudgeFilesOptions& options) {
  nlohmann::ordered_json files = nlohmann::ordered_json::array();
  for (const JudgedFile& file : result.files) files.push_back(json_of(file, result));
  nlohmann::ordered_json differences = nlohmann::ordered_json::array();
  for (const auto& row : result.differences) {
    nlohmann::ordered_json of_file = nlohmann::ordered_json::array();
    for (const KlDifference& one : row) of_file.push_back(json_of(one));
    differences.push_back(of_file);
  }
  return {{"reference", options.reference},
          {"reference_bytes", result.reference_bytes},
          {"reference_perplexity", result.reference_perplexity},
          {"text", options.text},
          {"protocol", name_of(result.how.protocol)},
          {"window", result.how.window},
          {"windows", result.windows},
          {"tokens", result.tokens},
          {"precision", options.precision},
          {"prediction_bytes", result.prediction_bytes},
          {"files", files},
          {"differences", differences}};
}

/// A mean and its standard error, with two digits of the error.
std::string with_error(double mean, double error, bool with_sign = false) {
  int decimals = 6;
  if (error > 0) decimals = std::clamp(1 - static_cast<int>(std::floor(std::log10(error))), 3, 9);
  return with_sign ? fmt::format("{:+.{}f} +- {:.{}f}", mean, decimals, error, decimals)
                   : fmt::format("{:.{}f} +- {:.{}f}", mean, decimals, error, decimals);
}

std::string difference_of(const JudgedFile& file, const JudgeFilesResult& result) {
  if (!file.rival) return "";
  return with_error(file.difference.mean, file.difference.standard_error, true) + "  " +
         result.files[*file.rival].name;
}

void print_table(const JudgeFilesResult& result) {
  std::size_t width = 4;
  for (const JudgedFile& file : result.files) width = std::max(width, file.name.size());
  fmt::print("{:<{}} {:>12} {:>7} {:>22} {:>9} {:>9} {:>8} {:>11}  {}\n", "file", width, "bytes", "bits",
             "mean KL", "99 %", "99.9 %", "flips", "perplexity", "beside the best of at most its bytes");
  for (const JudgedFile& file : result.files) {
    fmt::print("{:<{}} {:>12} {:>7.4f} ", file.name, width, file.bytes, file.bits);
    if (file.broken.empty())
      fmt::print("{:>22} {:>9.5f} {:>9.5f} {:>6.2f} % {:>11.4f}  {}\n",
                 with_error(file.kl.mean, file.kl.standard_error), file.kl.quantile_99, file.kl.quantile_99_9,
                 100 * file.flips, file.perplexity, difference_of(file, result));
    else
      fmt::print("{:>22}\n  {}\n", "not finite", file.broken);
  }
}

}  // namespace

void compare_files(const Common& common, const JudgeFilesOptions& options) {
  Environment environment(environment_options(common));
  if (common.json) {
    print(json_of(judge_files(environment, options), options));
    return;
  }
  const JudgeFilesResult result = judge_files(environment, options, [&](const JudgedFile& file) {
    if (options.files.size() == 1) return;  // the table follows at once
    fmt::print("{}: {}\n", file.name,
               file.broken.empty() ? "KL " + with_error(file.kl.mean, file.kl.standard_error) : "not finite");
    flush_output();  // what is finished is seen, also through a pipe
  });
  if (options.files.size() > 1) fmt::print("\n");
  print_table(result);
  fmt::print(
      "{} tokens in {} windows of {}, protocol {}, {}; {}: {} bytes, perplexity {:.4f}; its predictions took "
      "{}\n",
      result.tokens, result.windows, result.how.window, name_of(result.how.protocol), options.precision,
      options.reference, result.reference_bytes, result.reference_perplexity,
      format_bytes(result.prediction_bytes));
  if (!options.page.empty()) fmt::print("{}: open it in a browser; it needs no network\n", options.page);
}

}  // namespace knapsaq::command
