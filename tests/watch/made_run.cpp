#include "watch/made_run.h"

#include <cmath>
#include <utility>
#include <vector>

#include "knapsaq/bank/build_bank.h"
#include "knapsaq/checkpoint/fingerprint.h"
#include "knapsaq/model/expected_tensors.h"
#include "knapsaq/search/archive.h"
#include "search/made_space.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kLength = 8;
constexpr std::int64_t kWindows = 3;

Run make(const fs::path& scratch) {
  const fs::path model = fs::path(KNAPSAQ_TEST_DATA) / "model/decoder/llama-gqa";
  const Checkpoint checkpoint = Checkpoint::open(model);
  const ModelConfig config = parse_model_config(checkpoint.config());
  const std::string id = fingerprint(checkpoint);
  build_bank(checkpoint, {id, parse_menu("rtn:b2g32,rtn:b4g32,rtn:b8g32"), matrices(config)},
             BankFolder(scratch / "bank"));
  RunSettings settings;
  settings.model = id;
  settings.text = "made";
  settings.search.length = settings.heldout.length = kLength;
  settings.search.tokens.assign(static_cast<std::size_t>(kWindows * kLength), 1);
  settings.heldout.tokens.assign(static_cast<std::size_t>(kWindows * kLength), 2);
  return Run::create(scratch / "run", model, scratch / "bank", settings);
}

}  // namespace

MadeRun::MadeRun(const fs::path& scratch)
    : run_(make(scratch)), search_(run_.archive().search("front", "", 0).id) {}

void MadeRun::grow(std::size_t points) {
  const SearchSpace& space = run_.space();
  std::vector<Step> steps;
  for (std::size_t i = 0; i < points; ++i, ++size_) {
    Step& step = steps.emplace_back();
    step.search = search_;
    step.ordinal = static_cast<std::int64_t>(size_);
    step.batch = batch_;
    step.phase = "round " + std::to_string(batch_ + 1);
    // The number of the point in the base of its levels: all are different.
    std::size_t rest = size_;
    for (const Variable& variable : space.variables) {
      step.point.push_back(static_cast<std::uint8_t>(rest % variable.levels.size()));
      rest /= variable.levels.size();
    }
    Measurement measurement;
    measurement.windows = kWindows;
    measurement.tokens = kWindows * (kLength - 1);
    measurement.kl = std::exp(-space.bits(step.point)) * (size_ % 3 == 0 ? 1 : 1.5) /
                     (1 + 0.01 * static_cast<double>(size_));
    measurement.loss = 3 + measurement.kl;
    measurement.agreement = 0.9;
    step.predicted = 1.1 * measurement.kl;
    step.cost = 1;
    step.measurement = measurement;
    run_.archive().add(kSearchSet, step.point, measurement, 0.01);
  }
  run_.archive().add_batch(search_, batch_++, steps, {});
}

void MadeRun::finish() { run_.archive().finish(search_); }

}  // namespace knapsaq
