#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "knapsaq/compute/stored_matrix.h"
#include "knapsaq/compute/tensor.h"
#include "knapsaq/quant/quantizer.h"
#include "knapsaq/quant/scheme.h"

namespace knapsaq {

/// Weights that were made of codes before they were published in 16 or 32 bits: QAT checkpoints, and
/// quantized models that somebody dequantized. A scheme that has those codes among its own holds such a
/// matrix without loss: every group lies on the scheme's points, exactly or but for the rounding that
/// GroupLattice describes.

/// Whether on_lattice() can find anything for a scheme: GGML's types with evenly spaced points (all but the
/// IQ types), and affine schemes with metadata in fp16 and real or symmetric zero points. (Integer zero
/// points leave a scale so few bits that it is seldom the maker's.)
bool can_hold_lattice(const Scheme& scheme);

/// The matrix in `scheme` with the codes that its weights were made of, in parallel; nothing if some group
/// does not lie on such a lattice. A few groups are looked at first, so that ordinary matrices cost next to
/// nothing. The result depends on the arguments only. The weights must be finite.
std::optional<StoredMatrix> on_lattice(const MatrixView& weights, const Scheme& scheme);

/// Some rows of a matrix.
struct SampledRows {
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::vector<float> values;
  MatrixView view() const { return {rows, cols, values}; }
};
/// Up to eight rows of a stored matrix, spread over it; none if a weight among them is not finite.
SampledRows sample_rows(const TensorView& weights);

/// Whether all of `weights`, some rows of a matrix, lie on the scheme's lattice, and are too many to do so by
/// accident. On the calling thread.
bool lies_on_lattice(const MatrixView& weights, const Scheme& scheme);

/// The schemes that can_hold_lattice(), but those with whole rows as groups, from few bits to many; the
/// affine ones with the method rtn.
std::span<const Scheme> lattice_schemes();

}  // namespace knapsaq
