// The kernels of recurrent layers: short convolutions, the gated delta rule, the gated norm.

#include "knapsaq/compute/cpu/activations_simd.h"
#include "knapsaq/compute/cpu/delta_kernels.h"

namespace knapsaq::cpu::KNAPSAQ_SET {
namespace {

constexpr Activation kSilu = Activation::silu;

// ---- short convolutions -----------------------------------------------------------------------------------

template <class T>
void load_inputs_row(const T* in, const T* factor, std::int64_t n, float* out) {
  for_vectors(n, [&](std::int64_t i, int lanes) {
    const Vec x = load_lanes(in + i, lanes);
    store_lanes(out + i, factor == nullptr ? x : x * load_lanes(factor + i, lanes), lanes);
  });
}

inline Vec convolved(const float* const* inputs, std::int64_t taps, const float* kernel, std::int64_t pitch,
                     const float* bias, std::int64_t i, int lanes) {
  Vec sum = bias == nullptr ? splat(0) : load_lanes(bias + i, lanes);
  for (std::int64_t j = 0; j < taps; ++j)
    sum = fma(load_lanes(kernel + j * pitch + i, lanes), load_lanes(inputs[j] + i, lanes), sum);
  return sum;
}

template <class T>
void convolve_row(const float* const* inputs, std::int64_t taps, const float* kernel, std::int64_t pitch,
                  const float* bias, bool silu, const T* factor, std::int64_t n, T* out) {
  for_vectors(n, [&](std::int64_t i, int lanes) {
    Vec y = convolved(inputs, taps, kernel, pitch, bias, i, lanes);
    if (silu) y = apply_activation(kSilu, y);
    if (factor != nullptr) y = y * load_lanes(factor + i, lanes);
    store_lanes(out + i, y, lanes);
  });
}

template <class T>
void convolve_backward_row(const float* const* inputs, std::int64_t taps, const float* kernel,
                           std::int64_t pitch, const float* bias, bool silu, const T* factor,
                           const T* gradient, std::int64_t n, float* of_sum, T* of_factor) {
  for_vectors(n, [&](std::int64_t i, int lanes) {
    const Vec y = convolved(inputs, taps, kernel, pitch, bias, i, lanes);
    Vec g = load_lanes(gradient + i, lanes);
    if (factor != nullptr) {
      store_lanes(of_factor + i, g * (silu ? apply_activation(kSilu, y) : y), lanes);
      g = g * load_lanes(factor + i, lanes);
    }
    store_lanes(of_sum + i, silu ? g * activation_slope(kSilu, y) : g, lanes);
  });
}

template <class T>
void gather_gradients_row(const float* const* gradients, std::int64_t taps, const float* kernel,
                          std::int64_t pitch, const T* factor, const T* other, std::int64_t n, T* of_factor,
                          T* of_other) {
  for_vectors(n, [&](std::int64_t i, int lanes) {
    const Vec g = convolved(gradients, taps, kernel, pitch, nullptr, i, lanes);
    if (other == nullptr) {
      store_lanes(of_factor + i, g, lanes);
      return;
    }
    const Vec x = load_lanes(factor + i, lanes);
    store_lanes(of_factor + i, g * load_lanes(other + i, lanes), lanes);
    store_lanes(of_other + i, g * x, lanes);
  });
}

// ---- the gated delta rule ---------------------------------------------------------------------------------

/// Sums of a row; several chains hide the latency of the additions.
struct RowSum {
  Vec parts[4] = {splat(0), splat(0), splat(0), splat(0)};
  Vec& at(std::int64_t i) { return parts[(i / kLanes) % 4]; }
  float total() const { return sum_of((parts[0] + parts[1]) + (parts[2] + parts[3])); }
};

float dot_row(const float* a, const float* b, std::int64_t n) {
  RowSum sum;
  for_vectors(n, [&](std::int64_t i, int lanes) {
    sum.at(i) = fma(load_lanes(a + i, lanes), load_lanes(b + i, lanes), sum.at(i));
  });
  return sum.total();
}

template <class T>
float square_sum(const T* x, std::int64_t n) {
  RowSum sum;
  for_vectors(n, [&](std::int64_t i, int lanes) {
    const Vec v = load_lanes(x + i, lanes);
    sum.at(i) = fma(v, v, sum.at(i));
  });
  return sum.total();
}

template <class T>
void normalize_row(const T* x, std::int64_t n, float eps, float factor, float* y) {
  const Vec scale = splat(factor) / vsqrt(splat(square_sum(x, n) + eps));
  for_vectors(
      n, [&](std::int64_t i, int lanes) { store_lanes(y + i, load_lanes(x + i, lanes) * scale, lanes); });
}

/// With r = 1 / sqrt(sum x^2 + eps), the gradient by x is factor r (g - r^2 x (x . g)).
template <class T>
void normalize_backward_row(const T* x, std::int64_t n, float eps, float factor, const float* gradient,
                            T* of_x) {
  RowSum products;
  for_vectors(n, [&](std::int64_t i, int lanes) {
    products.at(i) = fma(load_lanes(x + i, lanes), load_lanes(gradient + i, lanes), products.at(i));
  });
  const Vec inverse = splat(1.0f) / vsqrt(splat(square_sum(x, n) + eps));
  const Vec along = splat(products.total()) * inverse * inverse;
  const Vec scale = splat(factor) * inverse;
  for_vectors(n, [&](std::int64_t i, int lanes) {
    store_lanes(of_x + i, (load_lanes(gradient + i, lanes) - load_lanes(x + i, lanes) * along) * scale,
                lanes);
  });
}

// Two registers of columns: with even and odd rows apart, eight chains of multiply-adds for k and q.
constexpr int kVectors = 2;
constexpr std::int64_t kBlock = kVectors * kLanes;

/// S^T k and S^T q of one block.
struct Reads {
  Vec k[kVectors];
  Vec q[kVectors];
};

inline Reads read_state(const float* state, const float* k, const float* q, std::int64_t key_dim) {
  Vec of_k[2][kVectors], of_q[2][kVectors];
  for (int parity = 0; parity < 2; ++parity)
    for (int c = 0; c < kVectors; ++c) of_k[parity][c] = of_q[parity][c] = splat(0);
  std::int64_t i = 0;
  for (; i + 2 <= key_dim; i += 2)
    for (int parity = 0; parity < 2; ++parity) {
      const Vec x = splat(k[i + parity]);
      const Vec y = splat(q[i + parity]);
      for (int c = 0; c < kVectors; ++c) {
        const Vec s = load(state + (i + parity) * kBlock + c * kLanes);
        of_k[parity][c] = fma(s, x, of_k[parity][c]);
        of_q[parity][c] = fma(s, y, of_q[parity][c]);
      }
    }
  if (i < key_dim)
    for (int c = 0; c < kVectors; ++c) {
      const Vec s = load(state + i * kBlock + c * kLanes);
      of_k[0][c] = fma(s, splat(k[i]), of_k[0][c]);
      of_q[0][c] = fma(s, splat(q[i]), of_q[0][c]);
    }
  Reads reads;
  for (int c = 0; c < kVectors; ++c) {
    reads.k[c] = of_k[0][c] + of_k[1][c];
    reads.q[c] = of_q[0][c] + of_q[1][c];
  }
  return reads;
}

/// Token by token. A block of the state stays in the first cache from one token to the next, so that a token
/// costs the three multiply-adds that each number of the state needs; putting several tokens together as
/// triangular systems would need more of them. o_t = exp(g) S^T q + (q . k) delta, so the state is read once.
template <class T>
void run_tokens(const DeltaRun<T>& run) {
  for (std::int64_t t = 0; t < run.tokens; ++t) {
    const float* k = run.k + t * run.key_pitch;
    const Reads reads = read_state(run.state, k, run.q + t * run.key_pitch, run.key_dim);
    const Vec decay = splat(run.decay[t * run.head_pitch]);
    const Vec beta = splat(run.beta[t * run.head_pitch]);
    const Vec dot = splat(run.dot[t * run.dot_pitch]);
    Vec change[kVectors];
    for (int c = 0; c < kVectors; ++c) {
      const std::int64_t start = c * kLanes;
      const auto lanes = static_cast<int>(larger(0, smaller(kLanes, run.cols - start)));
      if (lanes == 0) {
        change[c] = splat(0);
        continue;
      }
      const Vec v = load_lanes(run.v + t * run.v_pitch + start, lanes);
      change[c] = beta * (v - decay * reads.k[c]);
      store_lanes(run.out + t * run.out_pitch + start, fma(dot, change[c], decay * reads.q[c]), lanes);
    }
    for (std::int64_t i = 0; i < run.key_dim; ++i) {
      const Vec x = splat(k[i]);
      float* row = run.state + i * kBlock;
      for (int c = 0; c < kVectors; ++c) {
        float* s = row + c * kLanes;
        store(s, fma(x, change[c], decay * load(s)));
      }
    }
  }
}

/// With a = exp(g), S = S_(t-1), w = v - a S^T k, d = beta w, and G the gradient by S_t, all of one column:
///   G += q o'           o' the gradient by o_t
///   d' = G . k          beta' = d' w,  v' = beta d',  m = -beta d'
///   q' = S_t o'         k' = G d + a S m
///   G_(t-1) = a H       H = G + k m,  a' = H . S
void run_columns_backward(const DeltaColumns& all) {
  constexpr std::int64_t kColumns = kDeltaColumns;
  const std::int64_t n = all.key_dim;
  float* const of_state = all.of_state;
  for (std::int64_t c = 0; c < kColumns; ++c)
    for_vectors(n, [&](std::int64_t i, int lanes) {
      store_lanes(all.states + c * n + i, splat(0), lanes);
      store_lanes(of_state + c * n + i, splat(0), lanes);
    });
  for (std::int64_t t = 0; t < all.tokens; ++t) {
    const float* k = all.k + t * all.key_pitch;
    const float* before = all.states + t * kColumns * n;
    float* behind = all.states + (t + 1) * kColumns * n;
    Vec read[kColumns];
    for (std::int64_t c = 0; c < kColumns; ++c) read[c] = splat(0);
    for_vectors(n, [&](std::int64_t i, int lanes) {
      const Vec x = load_lanes(k + i, lanes);
      for (std::int64_t c = 0; c < kColumns; ++c)
        read[c] = fma(load_lanes(before + c * n + i, lanes), x, read[c]);
    });
    const float a = all.decay[t * all.head_pitch];
    const float beta = all.beta[t * all.head_pitch];
    const Vec decay = splat(a);
    Vec change[kColumns];
    for (std::int64_t c = 0; c < kColumns; ++c) {
      const float difference = all.v[t * kColumns + c] - a * sum_of(read[c]);
      all.differences[t * kColumns + c] = difference;
      change[c] = splat(beta * difference);
    }
    for_vectors(n, [&](std::int64_t i, int lanes) {
      const Vec x = load_lanes(k + i, lanes);
      for (std::int64_t c = 0; c < kColumns; ++c)
        store_lanes(behind + c * n + i, fma(x, change[c], decay * load_lanes(before + c * n + i, lanes)),
                    lanes);
    });
  }
  for (std::int64_t t = all.tokens - 1; t >= 0; --t) {
    const float* q = all.q + t * all.key_pitch;
    const float* k = all.k + t * all.key_pitch;
    const float* before = all.states + t * kColumns * n;
    const float* behind = before + kColumns * n;
    const float* gradient = all.gradient + t * kColumns;
    Vec of_change[kColumns];
    for (std::int64_t c = 0; c < kColumns; ++c) of_change[c] = splat(0);
    for_vectors(n, [&](std::int64_t i, int lanes) {
      const Vec x = load_lanes(k + i, lanes);
      const Vec y = load_lanes(q + i, lanes);
      for (std::int64_t c = 0; c < kColumns; ++c) {
        float* place = of_state + c * n + i;
        const Vec g = fma(y, splat(gradient[c]), load_lanes(place, lanes));
        store_lanes(place, g, lanes);
        of_change[c] = fma(g, x, of_change[c]);
      }
    });
    const float beta = all.beta[t * all.head_pitch];
    const Vec decay = splat(all.decay[t * all.head_pitch]);
    float of_beta = 0;
    Vec change[kColumns], of_read[kColumns];
    for (std::int64_t c = 0; c < kColumns; ++c) {
      const float slope = sum_of(of_change[c]);
      const float difference = all.differences[t * kColumns + c];
      of_beta += slope * difference;
      all.of_v[t * kColumns + c] = beta * slope;
      change[c] = splat(beta * difference);
      of_read[c] = splat(-beta * slope);
    }
    all.of_beta[t * all.head_pitch] += of_beta;
    Vec of_decay = splat(0);
    float* of_q = all.of_q + t * all.key_pitch;
    float* of_k = all.of_k + t * all.key_pitch;
    for_vectors(n, [&](std::int64_t i, int lanes) {
      const Vec x = load_lanes(k + i, lanes);
      Vec sum_q = load_lanes(of_q + i, lanes);
      Vec sum_k = load_lanes(of_k + i, lanes);
      for (std::int64_t c = 0; c < kColumns; ++c) {
        float* place = of_state + c * n + i;
        const Vec s = load_lanes(before + c * n + i, lanes);
        const Vec g = load_lanes(place, lanes);
        sum_q = fma(load_lanes(behind + c * n + i, lanes), splat(gradient[c]), sum_q);
        sum_k = fma(g, change[c], fma(decay * s, of_read[c], sum_k));
        const Vec h = fma(x, of_read[c], g);
        of_decay = fma(h, s, of_decay);
        store_lanes(place, decay * h, lanes);
      }
      store_lanes(of_q + i, sum_q, lanes);
      store_lanes(of_k + i, sum_k, lanes);
    });
    all.of_decay[t * all.head_pitch] += sum_of(of_decay);
  }
}

// ---- the gated norm ---------------------------------------------------------------------------------------

template <class T>
Vec inverse_deviation(const T* x, float eps, std::int64_t n) {
  return splat(1.0f) / vsqrt(splat(square_sum(x, n) / static_cast<float>(n) + eps));
}

template <class T>
void gated_norm_row(const T* x, const T* gate, const float* scale, float eps, std::int64_t n, T* out) {
  const Vec inverse = inverse_deviation(x, eps, n);
  for_vectors(n, [&](std::int64_t i, int lanes) {
    Vec y = load_lanes(x + i, lanes) * inverse;
    if (scale != nullptr) y = y * load_lanes(scale + i, lanes);
    store_lanes(out + i, y * apply_activation(kSilu, load_lanes(gate + i, lanes)), lanes);
  });
}

/// With y = x / deviation and g = gradient * scale * silu(gate), the gradient by x is (g - y mean(g y)) /
/// deviation.
template <class T>
void gated_norm_backward_row(const T* x, const T* gate, const float* scale, float eps, std::int64_t n,
                             const T* gradient, T* of_x, T* of_gate, float* of_scale) {
  const Vec inverse = inverse_deviation(x, eps, n);
  const auto scale_at = [&](std::int64_t i, int lanes) {
    return scale == nullptr ? splat(1.0f) : load_lanes(scale + i, lanes);
  };
  RowSum products;
  for_vectors(n, [&](std::int64_t i, int lanes) {
    const Vec g = load_lanes(gradient + i, lanes) * scale_at(i, lanes) *
                  apply_activation(kSilu, load_lanes(gate + i, lanes));
    products.at(i) = fma(g, load_lanes(x + i, lanes), products.at(i));
  });
  const Vec along = splat(products.total() / static_cast<float>(n)) * inverse * inverse;
  for_vectors(n, [&](std::int64_t i, int lanes) {
    const Vec v = load_lanes(x + i, lanes);
    const Vec z = load_lanes(gate + i, lanes);
    const Vec g = load_lanes(gradient + i, lanes);
    const Vec active = apply_activation(kSilu, z);
    const Vec factor = scale_at(i, lanes);
    if (of_scale != nullptr)
      store_lanes(of_scale + i, fma(g * active, v * inverse, load_lanes(of_scale + i, lanes)), lanes);
    store_lanes(of_gate + i, g * factor * (v * inverse) * activation_slope(kSilu, z), lanes);
    store_lanes(of_x + i, (g * factor * active - v * along) * inverse, lanes);
  });
}

template <class T>
constexpr DeltaKernels<T> make_kernels() {
  return {.block = kBlock,
          .load_inputs = load_inputs_row<T>,
          .convolve = convolve_row<T>,
          .convolve_backward = convolve_backward_row<T>,
          .gather_gradients = gather_gradients_row<T>,
          .normalize = normalize_row<T>,
          .normalize_backward = normalize_backward_row<T>,
          .dot = dot_row,
          .run = run_tokens<T>,
          .run_backward = run_columns_backward,
          .gated_norm = gated_norm_row<T>,
          .gated_norm_backward = gated_norm_backward_row<T>};
}

}  // namespace

extern const DeltaKernels<float> kFloatDelta;
const DeltaKernels<float> kFloatDelta = make_kernels<float>();
#ifdef KNAPSAQ_SIMD_BF16
extern const DeltaKernels<Bf16> kBf16Delta;
const DeltaKernels<Bf16> kBf16Delta = make_kernels<Bf16>();
#endif

}  // namespace knapsaq::cpu::KNAPSAQ_SET
