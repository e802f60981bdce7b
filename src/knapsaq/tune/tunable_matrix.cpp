#include "knapsaq/tune/tunable_matrix.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "knapsaq/base/float16.h"
#include "knapsaq/tune/tunable_forms.h"

namespace knapsaq {

std::unique_ptr<TunableMatrix> make_tunable(StoredMatrix matrix) {
  if (auto* affine = std::get_if<PackedMatrix>(&matrix))
    return affine->meta_bits == 16 ? tunable_affine(std::move(*affine))
                                   : tunable_affine_twice(std::move(*affine));
  if (auto* ggml = std::get_if<GgmlMatrix>(&matrix)) return tunable_ggml(std::move(*ggml));
  return tunable_nf4(std::get<Nf4Matrix>(std::move(matrix)));
}

float tuning_unit(float size, int bits) { return std::ldexp(std::fabs(size), 2 - bits); }

std::uint16_t nearest_half(float value) {
  constexpr float kLargestHalf = 65504.0f;
  return float_to_half(std::clamp(value, -kLargestHalf, kLargestHalf));
}

}  // namespace knapsaq
