#pragma once

#include "knapsaq/export/affine_folder.h"
#include "knapsaq/export/gptq_tensors.h"
#include "knapsaq/export/module_patterns.h"

namespace knapsaq {

/// The group size as both descriptions write it: -1 for whole rows.
inline int gptq_group_size(const AffineForm& form) { return form.group == 0 ? -1 : form.group; }

/// A folder with GPTQ's tensors; gptq and auto-round describe them in different ways.
class GptqFolderWriter : public AffineFolderWriter {
 protected:
  explicit GptqFolderWriter(bool with_g_idx) : with_g_idx_(with_g_idx) {}

 private:
  AffineRules rules() const override { return {.obstacle = gptq_obstacle, .widths = kGptqWidths}; }
  void check_architecture(const ModelConfig&) const override {}  // its readers support all of Knapsaq's

  bool some_readers_fuse() const override { return true; }

  std::vector<TensorSpec> tensors(const PlannedLinear& planned) const override {
    return gptq_tensors(planned, with_g_idx_);
  }
  void write_linear(const PlannedLinear&, const PackedMatrix& matrix, std::span<const PlannedLinear> plan,
                    CheckpointWriter& writer) const override {
    write_gptq(matrix, zero_fields(plan), with_g_idx_, writer);
  }

  bool with_g_idx_;
};

}  // namespace knapsaq
