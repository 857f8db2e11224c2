// The weights of attention from its scores: softmax over the keys that a query sees, of which training drops some.
//
// All of a row is done while the cache holds it. Weights that are dropped are kept with a minus before them, so that a
// gradient needs no mask.

#include <algorithm>
#include <cmath>
#include <limits>

#include "vectors.hpp"

using namespace irisflow;

namespace {

inline float sum_of(Floats values) {
  float sum = 0;
  for (int lane = 0; lane < LANES; lane++) sum += values[lane];
  return sum;
}

inline int64_t seen_by(int64_t row, int64_t queries, int64_t keys, bool is_causal) {
  return is_causal ? std::min(keys, row % queries + 1) : keys;
}

}  // namespace

// dropped (rows, keys) = the weights, 0 where `bits` are below `least`, else x `scale`; `weights` are those before, with a
// minus where they are dropped. Rows are queries after queries; a causal one sees no later key.
extern "C" void attention_weights(const float* scores, const int32_t* bits, float* weights, float* dropped, int64_t rows,
                                  int64_t queries, int64_t keys, int64_t is_causal, int64_t least, double scale) {
  const auto bound = static_cast<int32_t>(least);
  const auto grown = static_cast<float>(scale);
#pragma omp parallel for schedule(static)
  for (int64_t row = 0; row < rows; row++) {
    const int64_t seen = seen_by(row, queries, keys, is_causal), size = (keys + LANES - 1) / LANES * LANES;
    float* powers = room<WEIGHED>(size);
    std::copy_n(scores + row * keys, seen, powers);
    std::fill(powers + seen, powers + size, -std::numeric_limits<float>::infinity());
    Floats largest = load(powers), sums{};
    for (int64_t key = LANES; key < seen; key += LANES) largest = larger(largest, load(powers + key));
    float top = largest[0];
    for (int lane = 1; lane < LANES; lane++) top = std::max(top, largest[lane]);
    for (int64_t key = 0; key < seen; key += LANES) {
      const Floats power = exponential(load(powers + key) - top);
      store(powers + key, power);
      sums += power;
    }
    const float share = 1 / sum_of(sums);
    float *own = weights + row * keys, *left = dropped + row * keys;
    const int32_t* drawn = bits + row * keys;
    for (int64_t key = 0; key < seen; key++) {
      const float weight = powers[key] * share;
      own[key] = drawn[key] >= bound ? weight : -weight;
      left[key] = drawn[key] >= bound ? weight * grown : 0.0f;
    }
    std::fill(own + seen, own + keys, 0.0f);
    std::fill(left + seen, left + keys, 0.0f);
  }
}

// of_scores (rows, keys) = the gradient of the scores, from that of the dropped weights. With w the weights and g the
// gradient before dropping, it is w (g - sum of w g).
extern "C" void attention_weights_gradient(const float* gradient, const float* weights, float* of_scores, int64_t rows,
                                           int64_t queries, int64_t keys, int64_t is_causal, double scale) {
  const auto grown = static_cast<float>(scale);
#pragma omp parallel for schedule(static)
  for (int64_t row = 0; row < rows; row++) {
    const int64_t seen = seen_by(row, queries, keys, is_causal), whole = seen / LANES * LANES;
    const float *of_dropped = gradient + row * keys, *own = weights + row * keys;
    float* made = of_scores + row * keys;
    Floats sums{};
    for (int64_t key = 0; key < whole; key += LANES) sums += larger(load(own + key), Floats{}) * load(of_dropped + key);
    float sum = sum_of(sums);
    for (int64_t key = whole; key < seen; key++) sum += std::max(own[key], 0.0f) * of_dropped[key];
    sum *= grown;
    for (int64_t key = 0; key < seen; key++) {
      const float weight = own[key], before = weight > 0 ? of_dropped[key] * grown : 0.0f;
      made[key] = std::abs(weight) * (before - sum);
    }
    std::fill(made + seen, made + keys, 0.0f);
  }
}
