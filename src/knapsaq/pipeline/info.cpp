#include "knapsaq/pipeline/info.h"

#include <algorithm>
#include <cctype>

#include "knapsaq/base/error.h"
#include "knapsaq/checkpoint/checkpoint.h"
#include "knapsaq/model/architecture.h"
#include "knapsaq/model/expected_tensors.h"
#include "knapsaq/model/stored_tensors.h"
#include "knapsaq/pipeline/budget.h"

namespace knapsaq {
namespace {

std::string storage_of(const Checkpoint& checkpoint, const Matrix& matrix) {
  if (const auto packing = checkpoint.packing(matrix.name)) return packing->scheme;
  std::string name(name_of(checkpoint.spec(matrix.name + ".weight").type));
  std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
  return name;
}

}  // namespace

ModelInfo info(const Session& session, const InfoOptions& options) {
  const Checkpoint& checkpoint = session.checkpoint();
  const ModelConfig& config = session.config();
  check_shapes(checkpoint, config);
  if (options.context == 0 && !(options.cache.empty() && options.engine.empty()))
    throw UsageError("--cache and --for go with --context");
  ModelInfo info;
  info.architecture = config.architecture;
  info.parameters = parameters(config);
  info.bytes = checkpoint.tensor_bytes();
  info.layers = config.layers;
  info.hidden = config.hidden;
  info.heads = config.heads;
  info.kv_heads = config.kv_heads;
  info.head_dim = config.head_dim;
  info.ffn = config.ffn;
  info.vocabulary = config.vocab;
  info.positions = config.max_positions;
  info.tied = config.tied;
  info.notes = notes_about(checkpoint, config);
  info.unread_tensors = unread_tensors(checkpoint, config);
  for (const Matrix& matrix : matrices(config))
    info.matrices.push_back(
        {matrix.name, matrix.out, matrix.in, storage_of(checkpoint, matrix), matrix.in_block()});
  BudgetOptions budget;
  budget.context = options.context;
  budget.cache = options.cache;
  info.memory = memory_use(budget, config, options.engine, checkpoint.tensor_bytes());
  return info;
}

}  // namespace knapsaq
