// Reference outputs kept as the k largest log-probabilities and the mass of the rest, against logits that are
// computed again: what the first costs in accuracy and what it could save in time.
//
//   topk_bench assets/wiki-llama-6m assets/wiki-llama-6m-sample.txt
//
// Candidates are the model with all linears at 2, 3 and 4 bits (round-to-nearest, groups of 128). KL by
// top-k: the sum over the kept tokens, and the rest of both distributions as one token more (which can only
// make it smaller). Time: whatever is kept of the reference, a candidate needs all its logits and the sum of
// their exponentials, which is what losses() computes: no top-k method is faster than that.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <ctime>
#include <numeric>
#include <string>
#include <vector>

#include <fmt/core.h>

#include "knapsaq/base/files.h"
#include "knapsaq/eval/referenced_windows.h"
#include "knapsaq/model/architecture.h"
#include "knapsaq/quant/quantizer.h"
#include "knapsaq/text/tokenizer.h"
#include "work_with_threads.h"

namespace {

using namespace knapsaq;

constexpr std::int64_t kWindow = 512;
constexpr std::int64_t kWindows = 4;

std::vector<double> log_softmax(const float* row, std::int64_t n) {
  const double largest = *std::max_element(row, row + n);
  double sum = 0;
  for (std::int64_t i = 0; i < n; ++i) sum += std::exp(row[i] - largest);
  std::vector<double> logs(row, row + n);
  for (double& value : logs) value -= largest + std::log(sum);
  return logs;
}

double processor_seconds(const auto& work) {
  const std::clock_t start = std::clock();
  work();
  return static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
}

void run(const std::string& folder, const std::string& text) {
  work_with_threads(1);
  const Checkpoint checkpoint = Checkpoint::open(folder);
  const ModelConfig config = parse_model_config(checkpoint.config());
  const auto backend = make_backend({.precision = Precision::bf16});
  Decoder decoder = Decoder::load(checkpoint, config, *backend);
  std::vector<std::int32_t> tokens = Tokenizer::load(folder).encode(read_file(text));
  tokens.resize(kWindows * kWindow);
  const std::int64_t rows = kWindows * kWindow;
  const ReferencedWindows reference = reference_windows(decoder, tokens, kWindows, kWindow);
  const std::vector<std::int32_t> targets(static_cast<std::size_t>(rows), 0);

  const auto logits_of = [&](const Array& inputs) {
    Array logits = backend->allocate(rows, config.vocab, Element::full);
    const Product product{decoder.head().get(), &logits, false};
    backend->multiply(inputs, rows, {&product, 1});
    std::vector<float> out(static_cast<std::size_t>(rows * config.vocab));
    backend->download(logits, 0, out);
    return out;
  };
  const std::vector<float> p_logits = logits_of(reference.head_inputs);
  std::vector<Array> candidates;
  for (const char* scheme : {"rtn:b2g128", "rtn:b3g128", "rtn:b4g128"}) {
    for (const Matrix& linear : linears(config)) {
      const std::vector<float> weights = checkpoint.floats(linear.name + ".weight");
      decoder.replace(linear.name, quantize({linear.out, linear.in, weights}, parse_scheme(scheme), nullptr));
    }
    candidates.push_back(reference_windows(decoder, tokens, kWindows, kWindow).head_inputs);
    const std::vector<float> q_logits = logits_of(candidates.back());
    std::vector<RowComparison> compared(targets.size());
    const Compared one{&candidates.back(), compared};
    backend->compare(reference.head_inputs, {decoder.head().get()}, targets, false, {&one, 1});
    double recomputed = 0;
    double exact = 0;
    constexpr std::int64_t kKept[] = {128, 512, 1024};
    double kept[std::size(kKept)] = {};
    for (std::int64_t r = 0; r < rows; ++r) {
      const std::vector<double> p =
          log_softmax(&p_logits[static_cast<std::size_t>(r * config.vocab)], config.vocab);
      const std::vector<double> q =
          log_softmax(&q_logits[static_cast<std::size_t>(r * config.vocab)], config.vocab);
      std::vector<std::size_t> order(p.size());
      std::iota(order.begin(), order.end(), std::size_t{0});
      std::ranges::sort(order, [&](std::size_t a, std::size_t b) { return p[a] > p[b]; });
      double sum = 0;
      double p_mass = 0;
      double q_mass = 0;
      std::size_t next = 0;
      for (std::size_t i = 0; i <= order.size(); ++i) {
        if (next < std::size(kKept) && static_cast<std::int64_t>(i) == kKept[next]) {
          const double rest = std::max(1 - p_mass, 1e-12);
          kept[next++] += sum + rest * std::log(rest / std::max(1 - q_mass, 1e-12));
        }
        if (i == order.size()) break;
        sum += std::exp(p[order[i]]) * (p[order[i]] - q[order[i]]);
        p_mass += std::exp(p[order[i]]);
        q_mass += std::exp(q[order[i]]);
      }
      exact += sum;
      recomputed += static_cast<double>(compared[static_cast<std::size_t>(r)].kl);
    }
    const auto n = static_cast<double>(rows);
    fmt::print("{}: KL {:.6f}; recomputed {:+.1e} of it", scheme, exact / n, recomputed / exact - 1);
    for (std::size_t k = 0; k < std::size(kKept); ++k)
      fmt::print("; top {} {:+.1e}", kKept[k], kept[k] / exact - 1);
    fmt::print("\n");
  }

  constexpr std::size_t kTogether = 16;
  std::vector<std::vector<RowComparison>> results(kTogether);
  std::vector<Compared> compared;
  for (std::size_t i = 0; i < kTogether; ++i) {
    results[i].resize(targets.size());
    compared.push_back({&candidates[i % candidates.size()], results[i]});
  }
  std::vector<float> losses(targets.size());
  double floor = 0;
  double kl = 0;
  double jsd = 0;
  constexpr int kRepeats = 3;
  for (int repeat = 0; repeat < kRepeats; ++repeat) {
    floor += processor_seconds([&] {
      for (const Compared& one : compared) backend->losses(*one.in, {decoder.head().get()}, targets, losses);
    });
    kl += processor_seconds(
        [&] { backend->compare(reference.head_inputs, {decoder.head().get()}, targets, false, compared); });
    jsd += processor_seconds(
        [&] { backend->compare(reference.head_inputs, {decoder.head().get()}, targets, true, compared); });
  }
  const double each = 1e3 / (kRepeats * kTogether);
  fmt::print(
      "{} tokens, processor milliseconds for a candidate, {} together: losses (no top-k is faster) {:.2f}, "
      "KL recomputed {:.2f}, KL and JSD {:.2f}\n",
      rows, kTogether, floor * each, kl * each, jsd * each);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    fmt::print(stderr, "usage: topk_bench MODEL TEXT\n");
    return 1;
  }
  try {
    run(argv[1], argv[2]);
    return 0;
  } catch (const std::exception& error) {
    fmt::print(stderr, "topk_bench: {}\n", error.what());
    return 1;
  }
}
