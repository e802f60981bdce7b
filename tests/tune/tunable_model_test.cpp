#include "knapsaq/tune/tunable_model.h"

#include <cmath>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "knapsaq/base/error.h"
#include "knapsaq/eval/compare_windows.h"
#include "message_of.h"
#include "tune/quantized_folder.h"
#include "work_with_threads.h"

namespace knapsaq {
namespace {

struct Case {
  std::string name;
  nlohmann::json config;
  std::map<std::string, std::string> schemes;
};

std::vector<Case> cases() {
  return {{"q_proj", random_llama(true), {{"*.q_proj", "rtn:b3g32"}}},
          {"down_proj_q4_0", random_llama(true), {{"*.down_proj", "q4_0"}}},
          {"gate_and_up_nf4", random_llama(true), {{"*.gate_proj", "nf4"}, {"*.up_proj", "nf4"}}},
          {"tied", random_llama(true), {{"model.embed_tokens", "rtn:b4g32"}}},
          {"embedding", random_llama(false), {{"model.embed_tokens", "rtn:b4g32"}}},
          {"head", random_llama(false), {{"lm_head", "rtn:b4g32"}}},
          {"biases", random_opt(), {{"*.fc1", "rtn:b3g32"}, {"*.out_proj", "rtn:b3g32"}}},
          {"narrow", random_opt(128, 64), {{"*.embed_tokens", "rtn:b4g32"}}}};
}

class Gradients : public testing::TestWithParam<Case> {};
INSTANTIATE_TEST_SUITE_P(TunableModel, Gradients, testing::ValuesIn(cases()),
                         [](const auto& one) { return one.param.name; });

/// The sum of KL(full || quantized) over all rows of the first two windows.
double divergence(QuantizedFolder& folder, std::span<const float> parameters) {
  folder.model->set(parameters);
  const double sum = folder.model->add_gradient(folder.train, 0, 2);
  std::vector<float> unused(parameters.size());
  folder.model->take_gradient(1, unused);
  return sum;
}

// Along the gradient itself, of the quantized matrices' numbers and of the norms apart: there the sum of many
// roundings to fp16 is small beside the change.
TEST_P(Gradients, AreFiniteDifferences) {
  QuantizedFolder folder(GetParam().config, GetParam().schemes);
  TunableModel& model = *folder.model;
  const std::vector<float> start(model.parameters());
  model.set(start);
  model.add_gradient(folder.train, 0, 2);
  std::vector<float> gradient(model.parameters());
  model.take_gradient(1, gradient);

  std::size_t of_norms = 0;
  for (const ExpectedTensor& tensor : dense_tensors(folder.config))
    if (tensor.name.find("norm") != std::string::npos) of_norms += static_cast<std::size_t>(tensor.shape[0]);
  const std::size_t of_matrices = model.parameters() - of_norms;
  ASSERT_GT(of_matrices, 0);
  for (const auto& [begin, end] :
       {std::pair<std::size_t, std::size_t>{0, of_matrices}, {of_matrices, model.parameters()}}) {
    double squares = 0;
    for (std::size_t i = begin; i < end; ++i)
      squares += static_cast<double>(gradient[i]) * static_cast<double>(gradient[i]);
    ASSERT_GT(squares, 0);
    // A mean parameter moves by 0.02: scales of 4 bits by a two-hundredth.
    const double step = 0.02 * std::sqrt(static_cast<double>(end - begin) / squares);
    std::vector<float> above = start;
    std::vector<float> below = start;
    for (std::size_t i = begin; i < end; ++i) {
      above[i] = static_cast<float>(step) * gradient[i];
      below[i] = -above[i];
    }
    const double slope = (divergence(folder, above) - divergence(folder, below)) / (2 * step);
    EXPECT_NEAR(slope / squares, 1, 0.05) << begin << " to " << end;
  }
}

TEST(TunableModel, AddsUpBatches) {
  QuantizedFolder folder(random_llama(true), {{"*.v_proj", "rtn:b2g32"}, {"model.embed_tokens", "q8_0"}});
  TunableModel& model = *folder.model;
  model.set(std::vector<float>(model.parameters()));
  std::vector<float> once(model.parameters());
  std::vector<float> twice(model.parameters());
  double sum = model.add_gradient(folder.train, 0, 3);
  model.take_gradient(0.5f, once);
  sum -= model.add_gradient(folder.train, 0, 1);
  sum -= model.add_gradient(folder.train, 1, 3);
  model.take_gradient(0.5f, twice);
  EXPECT_NEAR(sum, 0, 1e-4);
  double size = 0;
  for (const float value : once) size = std::max(size, static_cast<double>(std::fabs(value)));
  for (std::size_t i = 0; i < once.size(); ++i) EXPECT_NEAR(once[i], twice[i], 1e-5 * size) << i;
}

TEST(TunableModel, IsTheSameWithAnyThreads) {
  std::vector<std::vector<float>> gradients;
  for (const int threads : {1, 3}) {
    work_with_threads(threads);
    QuantizedFolder folder(random_llama(true), {{"*.k_proj", "rtn:b2g32"}, {"model.embed_tokens", "nf4"}});
    folder.model->set(std::vector<float>(folder.model->parameters()));
    folder.model->add_gradient(folder.train, 0, 6);
    folder.model->take_gradient(1, gradients.emplace_back(folder.model->parameters()));
  }
  work_with_threads(0);
  EXPECT_EQ(gradients[0], gradients[1]);
}

// What is judged is what is written, in every type that a norm may have.
TEST(TunableModel, WritesWhatItComputedWith) {
  for (const DType type : {DType::F32, DType::F16, DType::BF16}) {
    QuantizedFolder folder(random_opt(),
                           {{"*_proj", "rtn:b3g32"}, {"*.fc1", "rtn:b4g32/m8g128"}, {"*.fc2", "q4_1"}}, type);
    Random random(5);
    std::vector<float> parameters(folder.model->parameters());
    for (float& parameter : parameters) parameter = static_cast<float>(0.1 * random.normal());
    folder.model->set(parameters);
    const WindowsComparison judged = compare_windows(*folder.decoder, folder.heldout, 4);
    rewrite_quantized(*folder.quantized, folder.config, folder.model->replacements(),
                      folder.scratch / "tuned", false);
    const Checkpoint tuned = Checkpoint::open(folder.scratch / "tuned");
    Decoder read = Decoder::load(tuned, folder.config, *folder.backend);
    const WindowsComparison written = compare_windows(read, folder.heldout, 4);
    EXPECT_EQ(judged.kl, written.kl);
    EXPECT_EQ(judged.loss, written.loss);
    EXPECT_EQ(tuned.tensor_bytes(), folder.quantized->tensor_bytes());
  }
}

TEST(TunableModel, ADenseModelHasNothingToTune) {
  Scratch scratch;
  write_random_model(scratch / "model", random_llama(true));
  const Checkpoint dense = Checkpoint::open(scratch / "model");
  EXPECT_NE(message_of<UsageError>([&] {
              require_quantized(dense, parse_model_config(dense.config()));
            }).find("nothing to tune"),
            std::string::npos);
}

}  // namespace
}  // namespace knapsaq
