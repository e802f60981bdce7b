#include <cmath>
#include <limits>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/float16.h"
#include "knapsaq/base/threads.h"
#include "knapsaq/quant/hessian_factor.h"
#include "knapsaq/quant/local_errors.h"
#include "knapsaq/quant/quantizer.h"
#include "quant/made_inputs.h"
#include "quant/made_weights.h"

namespace knapsaq {
namespace {

double hessian_error(const MatrixView& weights, const std::string& scheme, const InputStatistics& inputs) {
  const StoredMatrix stored = quantize(weights, parse_scheme(scheme), &inputs);
  check(stored);
  return local_errors(weights, stored, &inputs).hessian;
}

std::vector<std::string> all_schemes() {
  std::vector<std::string> schemes;
  for (const std::string bits : {"b2", "b3", "b4", "b8"}) {
    for (const std::string group : {"g32", "g64", "g128", "row"}) {
      for (const std::string rest : {"", "s", "z", "/m8g128", "/m8g32"}) {
        if (bits == "b8" && rest == "z") continue;
        schemes.push_back(bits + group + rest);
      }
    }
  }
  return schemes;
}

TEST(Gptq, BeatsRoundToNearestWithEveryScheme) {
  // 200 columns: short last groups, a short last block, panels of odd rows.
  const MadeWeights weights("student", 67, 200);
  const InputStatistics inputs = made_inputs(200, 1000, 1);
  for (const std::string& scheme : all_schemes()) {
    SCOPED_TRACE(scheme);
    const double ours = hessian_error(weights.view(), "gptq:" + scheme, inputs);
    const double plain = hessian_error(weights.view(), "rtn:" + scheme, inputs);
    EXPECT_LT(ours, 0.8 * plain);
  }
}

}  // namespace
}  // namespace knapsaq
