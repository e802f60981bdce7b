// A layer of experts against what bounds it: prefill against a dense MLP of the same operations (FLOP/s of
// both), and one token at a time against a bare sum over memory (bytes of the active experts per second).
//   moe_bench [--benchmark_filter=prefill|token]

#include <atomic>
#include <functional>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>

#include "compute/stored_forms.h"
#include "knapsaq/base/random.h"
#include "knapsaq/base/threads.h"
#include "knapsaq/compute/backend.h"

namespace knapsaq {
namespace {

struct Shape {
  std::int64_t experts, chosen, hidden, width;
};
// Mixtral's numbers of experts at a quarter of its size, and Qwen3-30B-A3B's layer.
constexpr Shape kFew{8, 2, 2048, 2816};
constexpr Shape kMany{128, 8, 2048, 768};

std::vector<float> random_values(std::int64_t count, double deviation) {
  Random random(1);
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& value : values) value = static_cast<float>(deviation * random.normal());
  return values;
}

Array working(Backend& backend, const std::vector<float>& values, std::int64_t rows, std::int64_t cols) {
  Array out = backend.allocate(rows, cols, Element::working);
  backend.convert(backend.upload(values, rows, cols), rows, out);
  return out;
}

/// A stored form by its name, or bf16.
class Layer {
 public:
  Layer(Backend& backend, const Shape& shape, const std::string& form) : backend_(backend), shape_(shape) {
    const auto up = made(form, shape.width, shape.hidden);
    const auto down = made(form, shape.hidden, shape.width);
    for (std::int64_t e = 0; e < shape.experts; ++e) {
      weights_.push_back(up());
      weights_.push_back(up());
      first_.push_back({weights_[weights_.size() - 2].get(), weights_.back().get()});
      weights_.push_back(down());
      second_.push_back(weights_.back().get());
    }
  }

  /// The bytes of one expert.
  double bytes() const {
    return static_cast<double>(weights_[0]->bytes() + weights_[1]->bytes() + weights_[2]->bytes());
  }

  void prepare(std::int64_t rows) {
    const std::int64_t total = rows * shape_.chosen;
    gathered_ = backend_.allocate(total, shape_.hidden, Element::working);
    middle_ = backend_.allocate(total, shape_.width, Element::working);
    out_ = backend_.allocate(total, shape_.hidden, Element::full);
    sum_ = backend_.allocate(rows, shape_.hidden, Element::full);
  }

  void run(const Array& x, const Array& logits, std::int64_t rows) {
    backend_.route(logits, rows, {.chosen = shape_.chosen, .renormalise = true}, routed_);
    backend_.gather(x, routed_.rows, gathered_);
    backend_.activate_experts(gathered_, routed_, first_, Activation::silu, middle_);
    backend_.multiply_experts(middle_, routed_, second_, out_);
    backend_.add_experts(out_, routed_, sum_);
  }

  /// All rows through one expert, `chosen` times: the same operations as a dense MLP.
  void run_dense(const Array& x, std::int64_t rows) {
    for (std::size_t e = 0; e < static_cast<std::size_t>(shape_.chosen); ++e) {
      backend_.activate(x, rows, first_[e].gate, *first_[e].up, Activation::silu, middle_);
      const Product product{second_[e], &sum_, true};
      backend_.multiply(middle_, rows, {&product, 1});
    }
  }

 private:
  using Maker = std::function<std::unique_ptr<Weight>()>;
  Maker made(const std::string& form, std::int64_t out, std::int64_t in) {
    if (form == "bf16") {
      return [this, out, in, values = random_values(out * in, 0.02)] {
        return backend_.prepare({DType::F32, {out, in}, std::as_bytes(std::span(values))}, {});
      };
    }
    for (const test::StoredForm& one : test::stored_forms())
      if (one.name == form)
        return [this, matrix = one.make(out, in, test::Codes::random, 1)] {
          return backend_.prepare(matrix, {});
        };
    throw std::invalid_argument("no such form: " + form);
  }

  Backend& backend_;
  Shape shape_;
  std::vector<std::unique_ptr<Weight>> weights_;
  std::vector<ExpertWeights> first_;
  std::vector<const Weight*> second_;
  ExpertRows routed_;
  Array gathered_, middle_, out_, sum_;
};

void prefill(benchmark::State& state, const Shape& shape, const std::string& form, bool dense) {
  const auto backend = make_backend({.packed = form == "bf16" ? Packed::off : Packed::exact});
  const std::int64_t rows = state.range(0);
  Layer layer(*backend, shape, form);
  layer.prepare(rows);
  const Array x = working(*backend, random_values(rows * shape.hidden, 1), rows, shape.hidden);
  const Array logits = backend->upload(random_values(rows * shape.experts, 1), rows, shape.experts);
  for (auto _ : state) {
    if (dense) {
      layer.run_dense(x, rows);
    } else {
      layer.run(x, logits, rows);
    }
  }
  const auto operations = static_cast<double>(6 * rows * shape.chosen * shape.hidden * shape.width);
  state.counters["FLOP/s"] = benchmark::Counter(operations, benchmark::Counter::kIsIterationInvariantRate);
}
#define KNAPSAQ_PREFILL(name, shape, form)                                                         \
  BENCHMARK_CAPTURE(prefill, name##_dense, shape, form, true)->Arg(512)->Arg(2048)->UseRealTime(); \
  BENCHMARK_CAPTURE(prefill, name##_experts, shape, form, false)->Arg(512)->Arg(2048)->UseRealTime();
KNAPSAQ_PREFILL(few_bf16, kFew, "bf16")
KNAPSAQ_PREFILL(few_b4g64, kFew, "b4g64")
KNAPSAQ_PREFILL(many_bf16, kMany, "bf16")
KNAPSAQ_PREFILL(many_b4g64, kMany, "b4g64")

constexpr double kFarBeyondCaches = 800e6;

/// One token after another through so many layers that none is in a cache, each with experts of its own.
void token(benchmark::State& state, const Shape& shape, const std::string& form) {
  const auto backend = make_backend({.packed = form == "bf16" ? Packed::exact : Packed::int8});
  std::vector<std::unique_ptr<Layer>> layers;
  double bytes = 0;
  while (bytes < kFarBeyondCaches) {
    layers.push_back(std::make_unique<Layer>(*backend, shape, form));
    layers.back()->prepare(1);
    bytes += layers.back()->bytes() * static_cast<double>(shape.experts);
  }
  constexpr std::int64_t kTokens = 64;
  const Array x = working(*backend, random_values(shape.hidden, 1), 1, shape.hidden);
  const Array logits = backend->upload(random_values(kTokens * shape.experts, 1), kTokens, shape.experts);
  std::int64_t next = 0;
  for (auto _ : state)
    for (auto& layer : layers) layer->run(x, backend->view(logits, next++ % kTokens, 1), 1);
  const double read =
      layers.front()->bytes() * static_cast<double>(shape.chosen) * static_cast<double>(layers.size());
  state.counters["bytes/s"] = benchmark::Counter(read, benchmark::Counter::kIsIterationInvariantRate);
}
BENCHMARK_CAPTURE(token, few_b4g64, kFew, "b4g64")->UseRealTime();
BENCHMARK_CAPTURE(token, few_q4_k, kFew, "q4_k")->UseRealTime();
BENCHMARK_CAPTURE(token, few_bf16, kFew, "bf16")->UseRealTime();
BENCHMARK_CAPTURE(token, many_b4g64, kMany, "b4g64")->UseRealTime();
BENCHMARK_CAPTURE(token, many_q4_k, kMany, "q4_k")->UseRealTime();

/// What memory gives to all threads that only add up.
void token_bound(benchmark::State& state) {
  constexpr std::size_t kPart = std::size_t{1} << 16;  // of 8 bytes
  std::vector<std::uint64_t> values(static_cast<std::size_t>(kFarBeyondCaches) / 8 / kPart * kPart, 1);
  std::atomic<std::uint64_t> all = 0;
  for (auto _ : state)
    parallel_streams(values.size() / kPart, [&](std::size_t part) {
      all += std::accumulate(values.begin() + part * kPart, values.begin() + (part + 1) * kPart,
                             std::uint64_t{0});
    });
  benchmark::DoNotOptimize(all.load());
  state.counters["bytes/s"] = benchmark::Counter(static_cast<double>(values.size() * 8),
                                                 benchmark::Counter::kIsIterationInvariantRate);
}
BENCHMARK(token_bound)->UseRealTime();

}  // namespace
}  // namespace knapsaq

BENCHMARK_MAIN();
