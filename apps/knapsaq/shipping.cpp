#include "shipping.h"

#include <cmath>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "command.h"
#include "knapsaq/base/units.h"
#include "knapsaq/export/matrix_source.h"
#include "run_view.h"

namespace knapsaq::command {
namespace {

nlohmann::ordered_json json_of(const Contender& one) {
  const double error = loss_standard_error(one.heldout);
  return {{"bytes", one.bytes},
          {"bits", one.bits},
          {"kl", one.heldout.kl},
          {"kl_standard_error", standard_error(one.heldout)},
          {"perplexity", one.heldout.perplexity()},
          {"agreement", one.heldout.agreement}};
}

}  // namespace

Shipment ship(Run& run, std::uint64_t budget, const std::string& output, bool force) {
  Shipment shipment{choose(run, budget, progress()), {}};
  const std::vector<Scheme> schemes = run.space().allocation(shipment.verdict.shipped.point);
  shipment.model = write_quantized(run.checkpoint(), run.config(), schemes,
                                   BankSource(run.bank(), run.config()), output, force, progress());
  return shipment;
}

}  // namespace knapsaq::command
