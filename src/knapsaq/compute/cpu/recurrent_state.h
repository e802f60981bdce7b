#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "knapsaq/compute/backend.h"
#include "knapsaq/compute/cpu/aligned.h"

namespace knapsaq::cpu {

/// What the CPU backend keeps of recurrent layers. A state [key_dim, value_dim] of a head lies in blocks of
/// DeltaKernels::block columns, [key_dim][block] each, the last one padded with zeros.
class CpuRecurrentState final : public RecurrentState {
 public:
  CpuRecurrentState(const RecurrentShape& shape, std::int64_t block);

  std::uint64_t bytes() const override { return inputs_.size() + states_.size(); }
  void clear() override;
  std::unique_ptr<RecurrentState> copy() const override;
  void assign(const RecurrentState& from) override;

  const RecurrentShape& shape() const { return shape_; }
  /// The input of the convolution `back` tokens before the next one, 1 <= back < taps: [channels].
  float* input(std::int64_t sequence, std::int64_t back) const;
  /// The blocks of a head: [blocks][key_dim][block].
  float* head(std::int64_t sequence, std::int64_t value_head) const;

 private:
  RecurrentShape shape_;
  std::int64_t block_;
  std::int64_t head_size_;
  AlignedBytes inputs_;  ///< [sequences][taps - 1][channels], the oldest first
  AlignedBytes states_;  ///< [sequences][value_heads][head_size]
};

/// Rows that follow each other.
struct SequenceRun {
  std::int64_t row = 0;
  std::int64_t length = 0;
  std::int64_t parent = -1;  ///< the run that comes before it
};

/// The sequences' runs, in the order of their rows. Throws std::invalid_argument for segments whose parent is
/// not an earlier one without a parent, for arrays of fewer rows, and for a state of other sequences.
std::vector<SequenceRun> runs_of(const RowSequences& sequences, std::int64_t rows);
/// The state as this backend's own; null if there is none. Throws std::invalid_argument for another's.
CpuRecurrentState* state_of(const RowSequences& sequences);

}  // namespace knapsaq::cpu
