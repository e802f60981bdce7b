#include "knapsaq/compute/cpu/recurrent_state.h"

#include <cstring>

#include "knapsaq/compute/cpu/tiles.h"

namespace knapsaq::cpu {
namespace {

AlignedBytes zeros(std::int64_t floats) {
  AlignedBytes bytes(static_cast<std::size_t>(floats) * sizeof(float));
  bytes.clear();
  return bytes;
}

}  // namespace

CpuRecurrentState::CpuRecurrentState(const RecurrentShape& shape, std::int64_t block)
    : shape_(shape), block_(block) {
  require(shape.sequences >= 1 && shape.channels >= 1 && shape.taps >= 1 && shape.value_heads >= 0 &&
              shape.key_dim >= 0 && shape.value_dim >= 0,
          "make_state: no such shape");
  head_size_ = shape.key_dim * round_up(shape.value_dim, block);
  inputs_ = zeros(shape.sequences * (shape.taps - 1) * shape.channels);
  states_ = zeros(shape.sequences * shape.value_heads * head_size_);
}

void CpuRecurrentState::clear() {
  inputs_.clear();
  states_.clear();
}

std::unique_ptr<RecurrentState> CpuRecurrentState::copy() const {
  auto result = std::make_unique<CpuRecurrentState>(shape_, block_);
  result->assign(*this);
  return result;
}

void CpuRecurrentState::assign(const RecurrentState& from) {
  const auto* other = dynamic_cast<const CpuRecurrentState*>(&from);
  require(other != nullptr && other->block_ == block_ && other->inputs_.size() == inputs_.size() &&
              other->states_.size() == states_.size(),
          "assign: a state of another shape");
  if (inputs_.size() > 0) std::memcpy(inputs_.data(), other->inputs_.data(), inputs_.size());
  if (states_.size() > 0) std::memcpy(states_.data(), other->states_.data(), states_.size());
}

float* CpuRecurrentState::input(std::int64_t sequence, std::int64_t back) const {
  const std::int64_t row = (sequence + 1) * (shape_.taps - 1) - back;
  return reinterpret_cast<float*>(inputs_.data()) + row * shape_.channels;
}

float* CpuRecurrentState::head(std::int64_t sequence, std::int64_t value_head) const {
  return reinterpret_cast<float*>(states_.data()) + (sequence * shape_.value_heads + value_head) * head_size_;
}

std::vector<SequenceRun> runs_of(const RowSequences& sequences, std::int64_t rows) {
  std::vector<SequenceRun> runs;
  std::int64_t row = 0;
  if (sequences.segments.empty()) {
    require(sequences.windows >= 0 && sequences.length >= 0, "sequences of negative size");
    for (std::int64_t w = 0; w < sequences.windows; ++w, row += sequences.length)
      runs.push_back({row, sequences.length, -1});
  } else {
    require(sequences.state == nullptr, "segments do not continue a state");
    for (const Segment& segment : sequences.segments) {
      require(segment.length >= 0, "a segment of negative length");
      require(segment.parent < std::ssize(runs) &&
                  (segment.parent < 0 || runs[static_cast<std::size_t>(segment.parent)].parent < 0),
              "a parent has to be an earlier segment without one");
      runs.push_back({row, segment.length, segment.parent < 0 ? -1 : segment.parent});
      row += segment.length;
    }
  }
  require(row <= rows, "sequences of more rows than there are");
  return runs;
}

CpuRecurrentState* state_of(const RowSequences& sequences) {
  if (sequences.state == nullptr) return nullptr;
  auto* state = dynamic_cast<CpuRecurrentState*>(sequences.state);
  require(state != nullptr && state->shape().sequences == sequences.windows,
          "a state of another backend or of other sequences");
  return state;
}

}  // namespace knapsaq::cpu
