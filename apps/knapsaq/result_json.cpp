#include "result_json.h"

#include <fmt/core.h>

#include "knapsaq/base/units.h"

namespace knapsaq::command {
namespace {

nlohmann::ordered_json json_of(const JudgedModel& one) {
  return {{"bytes", one.bytes},
          {"bits", one.bits},
          {"kl", one.kl},
          {"perplexity", one.perplexity},
          {"perplexity_standard_error", one.perplexity_standard_error},
          {"agreement", one.agreement}};
}

std::string line_of(bool is_uniform, const JudgedModel& one) {
  return fmt::format("  {:<16} {:>12} {:>8.4f} {:>10.5f} {:>10.4f} +- {:<7.4f} {:>6.2f} %",
                     is_uniform ? "best uniform" : "best searched", one.bytes, one.bits, one.kl,
                     one.perplexity, one.perplexity_standard_error, 100 * one.agreement);
}

}  // namespace

nlohmann::ordered_json allocation_json(const std::vector<NamedScheme>& allocation) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const NamedScheme& one : allocation) list.push_back({{"linear", one.matrix}, {"scheme", one.scheme}});
  return list;
}

std::string in_words(const std::vector<SchemeCount>& counts) {
  std::string text;
  for (const SchemeCount& one : counts)
    text += fmt::format("{}{} x {}", text.empty() ? "" : ", ", one.scheme, one.matrices);
  return text;
}

nlohmann::ordered_json json_of(const WrittenModel& model) {
  nlohmann::ordered_json json = {{"bytes", model.bytes},
                                 {"bits", model.bits},
                                 {"chosen", model.is_uniform ? "uniform" : "search"},
                                 {"heldout_tokens", model.heldout_tokens},
                                 {"divergence", model.divergence},
                                 {"shipped", json_of(model.chosen)},
                                 {"other", nullptr},
                                 {"difference", nullptr},
                                 {"difference_standard_error", nullptr},
                                 {"reference_perplexity", model.reference_perplexity}};
  if (model.other) {
    json["other"] = json_of(*model.other);
    json["difference"] = model.difference;
    json["difference_standard_error"] = model.difference_standard_error;
  }
  json["steps"] = nlohmann::ordered_json::array();
  for (const WritingStep& step : model.steps) {
    nlohmann::ordered_json one = {{"name", step.name},
                                  {"divergence", step.divergence},
                                  {"divergence_standard_error", step.divergence_standard_error}};
    one.update(json_of(step.judged));
    json["steps"].push_back(std::move(one));
  }
  json["memory"] = memory_json(model.memory);
  json["notes"] = model.notes;
  json["allocation"] = allocation_json(model.allocation);
  return json;
}

void print_summary(const WrittenModel& model, const std::string& output) {
  for (const std::string& note : model.notes) fmt::print("note: {}\n", note);
  fmt::print("{}: {} ({} bytes), {:.4f} bits per quantized weight\n", output, format_bytes(model.bytes),
             model.bytes, model.bits);
  fmt::print("  {}\n", in_words(model.counts));
  if (model.memory) fmt::print("  {}\n", describe(*model.memory));
  if (!model.codes.empty())
    fmt::print("  with the codes of {}; what follows was measured with the run's own\n", model.codes);
  fmt::print("on {} held-out tokens (perplexity of the full model {:.4f}):\n", model.heldout_tokens,
             model.reference_perplexity);
  fmt::print("  {:<16} {:>12} {:>8} {:>10} {:>21} {:>8}\n", "", "bytes", "bits", "KL", "perplexity",
             "agrees");
  fmt::print("{}   written\n", line_of(model.is_uniform, model.chosen));
  for (const WritingStep& step : model.steps)
    if (&step != &model.steps.back())
      fmt::print("{}   {}\n", line_of(model.is_uniform, step.judged),
                 step.name == "bank" ? "with the search's codes" : "with corrected codes");
  if (!model.other) return;
  fmt::print("{}\n", line_of(!model.is_uniform, *model.other));
  fmt::print("the written one's {} is lower by {:.5f} +- {:.5f}\n", model.divergence, -model.difference,
             model.difference_standard_error);
}

nlohmann::ordered_json memory_json(const std::optional<MemoryUse>& memory) {
  if (!memory) return nullptr;
  nlohmann::ordered_json json = {{"context", memory->context}, {"cache_type", memory->cache_type},
                                 {"weights", memory->weights}, {"cache", memory->cache},
                                 {"work_space", nullptr},      {"total", memory->total()}};
  if (memory->work_space) json["work_space"] = *memory->work_space;
  return json;
}

std::string describe(const MemoryUse& memory) {
  std::string text = fmt::format("in memory: {} of weights, {} of keys and values of {} tokens ({})",
                                 format_bytes(memory.weights), format_bytes(memory.cache), memory.context,
                                 memory.cache_type);
  if (memory.work_space) text += fmt::format(", {} of work space", format_bytes(*memory.work_space));
  return text + fmt::format("; together {}", format_bytes(memory.total()));
}

nlohmann::ordered_json json_of(const KlStatistics& kl) {
  return {{"mean", kl.mean},
          {"standard_error", kl.standard_error},
          {"median", kl.median},
          {"quantile_99", kl.quantile_99},
          {"quantile_99_9", kl.quantile_99_9},
          {"largest", kl.largest}};
}

std::string describe(const ModelMemory& memory) {
  return fmt::format("linears {}, head {}, embedding {}, work space {}", format_bytes(memory.linears),
                     format_bytes(memory.head), format_bytes(memory.embedding),
                     format_bytes(memory.workspace));
}

void add_memory(nlohmann::ordered_json& json, const ModelMemory& memory) {
  json["linear_bytes"] = memory.linears;
  json["head_bytes"] = memory.head;
  json["embedding_bytes"] = memory.embedding;
  json["workspace_bytes"] = memory.workspace;
}

}  // namespace knapsaq::command
