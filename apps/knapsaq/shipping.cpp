#include "shipping.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <optional>
#include <system_error>
#include <utility>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "command.h"
#include "knapsaq/bank/matrix_scheme.h"
#include "knapsaq/base/error.h"
#include "knapsaq/base/units.h"
#include "knapsaq/checkpoint/gguf_file.h"
#include "knapsaq/export/engine.h"
#include "knapsaq/export/matrix_source.h"
#include "knapsaq/export/writer.h"
#include "run_view.h"

namespace knapsaq::command {
namespace {

/// Of the perplexity, from that of its logarithm.
double perplexity_error(const Measurement& measurement) {
  return measurement.perplexity() * loss_standard_error(measurement);
}

nlohmann::ordered_json json_of(const Contender& one) {
  return {{"bytes", one.bytes},
          {"bits", one.bits},
          {"kl", one.heldout.kl},
          {"perplexity", one.heldout.perplexity()},
          {"perplexity_standard_error", perplexity_error(one.heldout)},
          {"agreement", one.heldout.agreement}};
}

std::string line_of(std::string_view name, const Contender& one) {
  return fmt::format("  {:<16} {:>12} {:>8.4f} {:>10.5f} {:>10.4f} +- {:<7.4f} {:>6.2f} %", name, one.bytes,
                     one.bits, one.heldout.kl, one.heldout.perplexity(), perplexity_error(one.heldout),
                     100 * one.heldout.agreement);
}

/// The scheme of the same bits, groups and metadata by another method.
Scheme counterpart(const BankIndex& bank, const Scheme& scheme, const std::string& linear) {
  const auto there = std::ranges::find_if(
      bank.linears, [&](const BankedLinear& banked) { return banked.linear.name == linear; });
  if (there != bank.linears.end())
    for (Scheme one : there->schemes) {
      Scheme found = one;
      one.method = scheme.method;
      if (one == scheme) return found;
    }
  throw UsageError(
      fmt::format("the bank has no counterpart of {} for {}: build it with the run's menu and another "
                  "method",
                  to_string(scheme), linear));
}

/// Where the model is on its way to the engine's format, in the run's folder.
constexpr std::string_view kWrittenName = "written";

/// Gone in the end, whatever happens.
class RemovedFolder {
 public:
  explicit RemovedFolder(std::filesystem::path path) : path_(std::move(path)) {}
  ~RemovedFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  RemovedFolder(const RemovedFolder&) = delete;
  RemovedFolder& operator=(const RemovedFolder&) = delete;

 private:
  std::filesystem::path path_;
};

}  // namespace

std::filesystem::path plan_result(OutputPlan& plan, const std::string& engine, const std::string& output,
                                  bool force) {
  const bool file = !engine.empty() && writer(find_engine(engine).format).makes_file();
  return file ? plan.file(output, force, is_own_gguf) : plan.folder(output, force);
}

void check_codes(const Run& run, const std::string& codes) {
  if (codes.empty()) return;
  const Bank other = Bank::open(codes);
  other.check_model(run.settings().model, run.config());
  for (std::size_t i = 0; i < run.space().linears.size(); ++i)
    for (const Scheme& scheme : run.space().schemes[i])
      static_cast<void>(counterpart(other.index(), scheme, run.space().linears[i]));
}

Shipment ship(Run& run, Verdict verdict, const std::string& codes, const std::filesystem::path& output,
              bool force) {
  std::vector<MatrixScheme> allocation = allocation_of(find_matrices(run.config(), run.space().linears),
                                                       run.space().allocation(verdict.shipped.point));
  Shipment shipment{std::move(verdict), {}, codes, {}};
  std::optional<Bank> other;
  if (!codes.empty()) {
    other = Bank::open(codes);
    other->check_model(run.settings().model, run.config());
    for (MatrixScheme& one : allocation)
      one.scheme = counterpart(other->index(), one.scheme, one.matrix.name);
  }
  const BankSource source(other ? *other : run.bank(), run.config());
  const WriteOptions writing{.kept = run.settings().kept};
  if (run.settings().engine.empty()) {
    shipment.model = write_quantized(run.checkpoint(), run.config(), allocation, source, output, force,
                                     progress(), writing);
    return shipment;
  }
  // By way of Knapsaq's own format, which the writers read.
  const std::filesystem::path native = run.folder() / kWrittenName;
  const RemovedFolder leftover(native);
  shipment.model =
      write_quantized(run.checkpoint(), run.config(), allocation, source, native, true, progress(), writing);
  const Engine& engine = find_engine(run.settings().engine);
  ExportOptions how;
  how.replace = force;
  how.fusing_readers = engine.ties != "none";
  how.name = run.model_name();
  const ExportReport report =
      writer(engine.format).write(Checkpoint::open_folder(native), run.config(), output, how, progress());
  shipment.model.bytes = report.bytes;
  shipment.notes = report.notes;
  return shipment;
}

nlohmann::ordered_json json_of(const Shipment& shipment, const Run& run) {
  const Verdict& verdict = shipment.verdict;
  nlohmann::ordered_json json = {{"bytes", shipment.model.bytes},
                                 {"bits", shipment.model.bits},
                                 {"chosen", verdict.is_uniform ? "uniform" : "search"},
                                 {"heldout_tokens", verdict.shipped.heldout.tokens},
                                 {"divergence", name_of(run.settings().divergence)},
                                 {"shipped", json_of(verdict.shipped)},
                                 {"other", nullptr},
                                 {"difference", nullptr},
                                 {"difference_standard_error", nullptr},
                                 {"reference_perplexity", std::exp(verdict.reference_loss)}};
  if (verdict.other) {
    json["other"] = json_of(*verdict.other);
    json["difference"] = verdict.difference.mean;
    json["difference_standard_error"] = verdict.difference.standard_error;
  }
  json["notes"] = shipment.notes;
  json["allocation"] = allocation_json(run.space(), verdict.shipped.point);
  return json;
}

void print_summary(const Shipment& shipment, const Run& run, const std::string& output) {
  const Verdict& verdict = shipment.verdict;
  const auto name = [](bool uniform) { return uniform ? "best uniform" : "best searched"; };
  for (const std::string& note : shipment.notes) fmt::print("note: {}\n", note);
  fmt::print("{}: {} ({} bytes), {:.4f} bits per quantized weight\n", output,
             format_bytes(shipment.model.bytes), shipment.model.bytes, shipment.model.bits);
  fmt::print("  {}\n", scheme_counts(run.space(), verdict.shipped.point));
  if (!shipment.codes.empty())
    fmt::print("  with the codes of {}; what follows was measured with the run's own\n", shipment.codes);
  fmt::print("on {} held-out tokens (perplexity of the full model {:.4f}):\n", verdict.shipped.heldout.tokens,
             std::exp(verdict.reference_loss));
  fmt::print("  {:<16} {:>12} {:>8} {:>10} {:>21} {:>8}\n", "", "bytes", "bits", "KL", "perplexity",
             "agrees");
  fmt::print("{}   written\n", line_of(name(verdict.is_uniform), verdict.shipped));
  if (!verdict.other) return;
  fmt::print("{}\n", line_of(name(!verdict.is_uniform), *verdict.other));
  fmt::print("the written one's {} is lower by {:.5f} +- {:.5f}\n", name_of(run.settings().divergence),
             -verdict.difference.mean, verdict.difference.standard_error);
}

}  // namespace knapsaq::command
