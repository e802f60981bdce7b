#pragma once

#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "knapsaq/checkpoint/checkpoint.h"
#include "knapsaq/checkpoint/shards.h"
#include "knapsaq/export/linear_plan.h"
#include "knapsaq/family/published.h"

namespace knapsaq {

/// How a model's tensors are called and put together in files for other programs (family/published.h), and
/// which prefix they have in a multimodal model.
class Publication {
 public:
  Publication(const Checkpoint& model, const ModelConfig& config);

  /// The module that holds this one of Knapsaq's with others, or by another name; null if it is published as
  /// it is.
  const PublishedModule* of(std::string_view module) const;
  /// A name with the prefix of the multimodal model that it is part of.
  std::string prefixed(std::string_view name) const;

 private:
  std::string prefix_;  ///< instead of "model."
  std::vector<PublishedModule> modules_;
  std::unordered_map<std::string_view, const PublishedModule*> of_part_;
};

/// A matrix as it is published.
struct PublishedLinear {
  /// Under its published name, with the rows of all its parts.
  PlannedLinear planned;
  struct Part {
    PlannedLinear planned;
    RowPattern rows;  ///< count 0: all
  };
  std::vector<Part> parts;
};

/// The plan in published form, in the order of the first parts. Throws UsageError, naming them, for parts
/// that are stored differently, and for stacks of experts, which affine formats of this kind do not have.
std::vector<PublishedLinear> publish(const std::vector<PlannedLinear>& plan, const Publication& publication);

/// The matrix as planned, of all its parts.
PackedMatrix load_published(const Checkpoint& model, const PublishedLinear& linear);

/// A tensor that is not quantized as it is published: one of Knapsaq's, or several put together.
struct DenseTensor {
  TensorSpec spec;
  struct Part {
    std::string tensor;
    RowPattern rows;  ///< count 0: all
  };
  std::vector<Part> parts;
  bool transposed = false;  ///< of stacks: [.., inputs, rows]
};

/// These tensors, in their order; those that are published together once, where the first of them is. Throws
/// InputError if only some of these are there, and for different types.
std::vector<DenseTensor> publish_dense(std::span<const TensorSpec> tensors, const Publication& publication);
/// Writes it as it is stored. Throws InputError for numbers that are not finite.
void write_dense(const DenseTensor& tensor, const Checkpoint& model, CheckpointWriter& writer);

}  // namespace knapsaq
