#include "knapsaq/compute/cpu/product.h"

#include <algorithm>
#include <unordered_map>

#include <omp.h>

#include "knapsaq/base/float16.h"
#include "knapsaq/base/threads.h"

namespace knapsaq::cpu {
namespace {

using dnnl::memory;

// Widest output that is multiplied at once. 2048 columns of 128 rows in fp32 are the 1 MiB of a second cache;
// wider matrices (MLPs, output heads) are cut evenly. oneDNN's kernels work on blocks of 64 columns.
constexpr std::int64_t kMaxChunk = 2048;
constexpr std::int64_t kColumnBlock = 64;
// The rows for which the layout of a weight is chosen: those of a full tile.
constexpr std::int64_t kTypicalRows = 128;

std::int64_t round_up(std::int64_t n, std::int64_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}

/// oneDNN runs (and generates code for) one thread inside: the calling one.
class SingleThread {
 public:
  SingleThread() : before_(omp_get_max_threads()) {
    if (before_ != 1) omp_set_num_threads(1);
  }
  ~SingleThread() {
    if (before_ != 1) omp_set_num_threads(before_);
  }
  SingleThread(const SingleThread&) = delete;
  SingleThread& operator=(const SingleThread&) = delete;

 private:
  int before_;
};

dnnl::matmul::primitive_desc describe(const dnnl::engine& engine, const memory::desc& in,
                                      const memory::desc& weight, const memory::desc& bias,
                                      const memory::desc& out) {
  dnnl::primitive_attr attributes;
  // The library's own scratchpad belongs to the thread that made the primitive.
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
#if DNNL_VERSION_MAJOR >= 3
  return {engine, in, weight, bias, out, attributes};
#else
  return {dnnl::matmul::desc(in, weight, bias, out), attributes, engine};
#endif
}

thread_local AlignedBytes t_scratchpad;

}  // namespace

const Products::Program& Products::program(const Key& key, const memory::desc* layout) {
  const std::lock_guard lock(mutex_);
  const auto found = programs_.find(key);
  if (found != programs_.end()) return found->second;

  const auto [rows, cols, depth, full, has_bias] = key;
  const memory::desc in({rows, depth}, working_, memory::format_tag::ab);
  const memory::desc weight =
      layout != nullptr ? *layout : memory::desc({depth, cols}, working_, memory::format_tag::any);
  const memory::desc bias =
      has_bias ? memory::desc({1, cols}, memory::data_type::f32, memory::format_tag::ab) : memory::desc();
  const memory::desc out({rows, cols}, full ? memory::data_type::f32 : working_, memory::format_tag::ab);
  const SingleThread single;
  const auto description = describe(engine_, in, weight, bias, out);
  Program program{dnnl::matmul(description),    in, description.weights_desc(), bias, out,
                  description.scratchpad_desc()};
  return programs_.emplace(key, std::move(program)).first->second;
}

std::unique_ptr<DenseWeight> Products::prepare(std::int64_t out, std::int64_t in, std::vector<float> bias,
                                               const RowReader& read, bool round_to_bf16) {
  auto weight = std::make_unique<DenseWeight>(out, in, std::move(bias));
  const std::int64_t pieces = (out + kMaxChunk - 1) / kMaxChunk;
  const std::int64_t width = pieces == 1 ? out : round_up((out + pieces - 1) / pieces, kColumnBlock);
  for (std::int64_t first = 0; first < out; first += width) {
    const std::int64_t cols = std::min(width, out - first);
    const Program& typical = program({kTypicalRows, cols, in, true, !weight->bias().empty()}, nullptr);
    weight->chunks().push_back({first, cols, typical.weight, AlignedBytes(typical.weight.get_size())});
  }
  parallel_for(weight->chunks().size(), [&](std::size_t index) {
    const SingleThread single;
    DenseWeight::Chunk& chunk = weight->chunks()[index];
    // Some layouts are padded.
    chunk.data.clear();
    std::vector<float> values(static_cast<std::size_t>(chunk.cols * in));
    read(chunk.first, chunk.cols, values.data());
    std::vector<std::uint16_t> rounded;
    if (working_ == memory::data_type::bf16) {
      rounded.resize(values.size());
      std::transform(values.begin(), values.end(), rounded.begin(), float_to_bfloat16);
    } else if (round_to_bf16) {
      for (float& value : values) value = bfloat16_to_float(float_to_bfloat16(value));
    }
    void* source = rounded.empty() ? static_cast<void*>(values.data()) : rounded.data();
    // W row by row is the transpose of what the product multiplies by.
    const memory::desc plain({in, chunk.cols}, working_, memory::format_tag::ba);
    memory from(plain, engine_, source);
    memory to(chunk.layout, engine_, chunk.data.data());
    dnnl::stream stream(engine_);
    dnnl::reorder(from, to).execute(stream, from, to);
    stream.wait();
  });
  return weight;
}

void Products::run(const DenseWeight& weight, const DenseWeight::Chunk& chunk, std::int64_t rows,
                   const void* in, void* out, bool full) {
  const bool has_bias = !weight.bias().empty();
  const Program& ready = program({rows, chunk.cols, weight.in(), full, has_bias}, &chunk.layout);
  const SingleThread single;
  t_scratchpad.reserve(ready.scratchpad.get_size());
  // oneDNN takes no pointers to const; it does not write to the inputs.
  std::unordered_map<int, memory> arguments = {
      {DNNL_ARG_SRC, memory(ready.in, engine_, const_cast<void*>(in))},
      {DNNL_ARG_WEIGHTS, memory(ready.weight, engine_, chunk.data.data())},
      {DNNL_ARG_DST, memory(ready.out, engine_, out)},
      {DNNL_ARG_SCRATCHPAD, memory(ready.scratchpad, engine_, t_scratchpad.data())}};
  if (has_bias) {
    float* bias = const_cast<float*>(weight.bias().data()) + chunk.first;
    arguments.emplace(DNNL_ARG_BIAS, memory(ready.bias, engine_, bias));
  }
  dnnl::stream stream(engine_);
  ready.primitive.execute(stream, arguments);
  stream.wait();
}

}  // namespace knapsaq::cpu
