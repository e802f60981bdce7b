#include "knapsaq/export/llama_memory.h"

#include <algorithm>
#include <vector>

#include "knapsaq/export/gguf/model_metadata.h"

namespace knapsaq {
namespace {

constexpr std::int64_t kPart = 512;          // n_ubatch
constexpr std::uint64_t kAlignment = 32;     // of a tensor in a buffer
constexpr std::int64_t kSmallRotation = 64;  // rows of the matrix that values are rotated by
constexpr std::uint64_t kFloat = sizeof(float);

/// ggml's allocator of a graph's results (ggml-alloc.c): a result takes the smallest free block that is large
/// enough, or extends the end. A free block joins its neighbours.
class Arena {
 public:
  struct Block {
    std::uint64_t offset = 0;
    std::uint64_t bytes = 0;
  };

  Block take(std::uint64_t bytes) {
    bytes = (bytes + kAlignment - 1) / kAlignment * kAlignment;
    auto best = free_.end();
    for (auto one = free_.begin(); one != free_.end(); ++one)
      if (one->bytes >= bytes && (best == free_.end() || one->bytes <= best->bytes)) best = one;
    if (best == free_.end()) {
      const Block block{end_, bytes};
      end_ += bytes;
      peak_ = std::max(peak_, end_);
      return block;
    }
    const Block block{best->offset, bytes};
    best->offset += bytes;
    best->bytes -= bytes;
    if (best->bytes == 0) free_.erase(best);
    return block;
  }

  void release(Block block) {
    auto next = std::ranges::find_if(free_, [&](const Block& one) { return one.offset > block.offset; });
    next = free_.insert(next, block);
    if (const auto after = next + 1; after != free_.end() && next->offset + next->bytes == after->offset) {
      next->bytes += after->bytes;
      free_.erase(after);
    }
    if (next != free_.begin() && (next - 1)->offset + (next - 1)->bytes == next->offset) {
      (next - 1)->bytes += next->bytes;
      next = free_.erase(next) - 1;
    }
    if (next->offset + next->bytes == end_) {
      end_ = next->offset;
      free_.erase(next);
    }
  }

  std::uint64_t peak() const { return peak_; }

 private:
  std::vector<Block> free_;  ///< by offset, below the end
  std::uint64_t end_ = 0;
  std::uint64_t peak_ = 0;
};

/// Rows of the matrix that keys are rotated by: the largest power of two that divides a head's width.
std::int64_t key_rotation(std::int64_t head_dim) { return head_dim & -head_dim; }

/// The graph of one part of a prompt: results in the order in which ggml computes them, each freed behind its
/// last reader. Steps that ggml computes in place (biases, norms' weights, rotary positions, sums) are left
/// out.
std::uint64_t compute_buffer(const ModelConfig& config, std::int64_t context, bool rotates) {
  const std::int64_t tokens = std::min(context, kPart);
  const std::int64_t cells = (context + kLlamaCells - 1) / kLlamaCells * kLlamaCells;
  const std::int64_t queries = config.heads * config.head_dim;
  const std::int64_t keys = config.kv_heads * config.head_dim;
  Arena arena;
  const auto take = [&](std::int64_t rows, std::int64_t width, std::uint64_t bytes = kFloat) {
    return arena.take(static_cast<std::uint64_t>(rows) * static_cast<std::uint64_t>(width) * bytes);
  };
  const auto moved = [&](Arena::Block block, std::int64_t width) {
    const Arena::Block result = take(tokens, width);
    arena.release(block);
    return result;
  };

  // Inputs come first.
  const Arena::Block ids = take(tokens, 1);
  take(tokens, config.hidden);  // embeddings instead of tokens, which stay unused
  Arena::Block of_keys;         // the matrices that rotate
  Arena::Block of_values;
  if (rotates) of_keys = take(key_rotation(config.head_dim), key_rotation(config.head_dim));
  const Arena::Block positions = take(tokens, 1);
  if (rotates) of_values = take(kSmallRotation, kSmallRotation);
  const Arena::Block key_places = take(tokens, 2);
  const Arena::Block value_places = take(tokens, 2);
  const Arena::Block mask = take(tokens, cells, 2);
  const Arena::Block chosen = take(tokens, 1);

  Arena::Block residual = take(tokens, config.hidden);
  arena.release(ids);
  for (std::int64_t layer = 0; layer < config.layers; ++layer) {
    const bool last = layer + 1 == config.layers;
    const Arena::Block normed = take(tokens, config.hidden);
    // Queries and keys are moved once by their norm or their positions: a view of a result is not
    // overwritten.
    Arena::Block q = moved(take(tokens, queries), queries);
    if (rotates) q = moved(q, queries);
    Arena::Block v = take(tokens, keys);
    if (rotates) v = moved(v, keys);
    Arena::Block k = take(tokens, keys);
    arena.release(normed);
    k = moved(k, keys);
    if (last) arena.release(positions);
    if (rotates) k = moved(k, keys);
    if (last && rotates) arena.release(of_keys);
    arena.release(k);
    if (last) arena.release(key_places);
    arena.release(v);
    if (last) arena.release(value_places);
    Arena::Block attended = take(tokens, queries);
    arena.release(q);
    if (last) arena.release(mask);
    if (rotates) attended = moved(attended, queries);
    if (last && rotates) arena.release(of_values);
    Arena::Block sum = take(tokens, config.hidden);
    arena.release(attended);
    if (last) {  // rows are chosen whose logits are wanted: all
      const Arena::Block rows = take(tokens, config.hidden);
      arena.release(sum);
      sum = rows;
      const Arena::Block skipped = take(tokens, config.hidden);
      arena.release(residual);
      arena.release(chosen);
      residual = skipped;
    }
    arena.release(residual);
    const Arena::Block input = take(tokens, config.hidden);
    const Arena::Block gate = take(tokens, config.ffn);
    const Arena::Block up = take(tokens, config.ffn);
    arena.release(input);
    const Arena::Block product = take(tokens, config.ffn);
    arena.release(gate);
    arena.release(up);
    residual = take(tokens, config.hidden);
    arena.release(product);
    arena.release(sum);
  }
  take(tokens, config.vocab);
  return arena.peak();
}

}  // namespace

std::uint64_t llama_work_space(const ModelConfig& config, std::int64_t context, const CacheType& cache) {
  static_cast<void>(gguf_architecture(config));
  // What is quantized is rotated before it is stored.
  const bool rotates = cache.group > 0 && config.head_dim % kSmallRotation == 0;
  const std::int64_t widest = std::max({config.hidden, config.heads * config.head_dim, config.ffn});
  const auto values = static_cast<std::uint64_t>(std::min(context, kPart) * widest);
  return compute_buffer(config, context, rotates) + static_cast<std::uint64_t>(config.vocab) * kFloat +
         values / 256 * 292;
}

}  // namespace knapsaq
