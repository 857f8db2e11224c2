// Floats that are computed with together: as many as a register of the processor holds. Wider ones GCC keeps in memory.
#pragma once

#include <cstdint>
#include <vector>

namespace irisflow {

// Of a product of matrices, ROWS x VECTORS registers hold sums; two more hold weights.
#if defined(__AVX512F__)
constexpr int LANES = 16, ROWS = 8, VECTORS = 2;
#elif defined(__AVX__)
constexpr int LANES = 8, ROWS = 6, VECTORS = 2;
#else
constexpr int LANES = 4, ROWS = 6, VECTORS = 2;
#endif

typedef float Floats __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef double Doubles __attribute__((vector_size(8 * LANES)));
typedef int32_t Integers __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

inline Floats load(const float* from) { return *reinterpret_cast<const Floats*>(from); }
inline void store(float* to, Floats values) { *reinterpret_cast<Floats*>(to) = values; }

constexpr int64_t BLOCK = VECTORS * LANES;  // columns of a product whose sums registers hold

inline Floats larger(Floats a, Floats b) { return a > b ? a : b; }
inline Floats smaller(Floats a, Floats b) { return a < b ? a : b; }

// What `join` makes of all lanes, from the first on.
template <typename Join>
inline float joined(Floats values, Join join) {
  float made = values[0];
  for (int lane = 1; lane < LANES; lane++) made = join(made, values[lane]);
  return made;
}

inline float sum_of(Floats values) {
  return joined(values, [](float a, float b) { return a + b; });
}

inline float largest_of(Floats values) {
  return joined(values, [](float a, float b) { return a > b ? a : b; });
}

// e to the power of x to 2e-7 of it, 0 below -88: a power of 2 times a polynomial of what lies within half of ln 2 around 0.
inline Floats exponential(Floats x) {
  constexpr float most = 88.0f, to_whole = 12582912.0f;  // 1.5 x 2^23: a float that large has no fraction
  x = smaller(larger(x, Floats{} - most), Floats{} + most);
  const Floats whole = (x * 1.44269504f + to_whole) - to_whole;
  const Floats rest = (x - whole * 0.693359375f) - whole * -2.12194440e-4f;
  Floats sum = Floats{} + 1.0f / 5040;
  for (const float term : {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 1.0f / 2, 1.0f, 1.0f}) sum = sum * rest + term;
  return sum * reinterpret_cast<Floats>((__builtin_convertvector(whole, Integers) + 127) << 23);
}

// sums (Rows, Vectors of LANES), kept in registers, += rows (Rows, `terms`) times weights (`terms`, Vectors of LANES), which
// are fetched so many floats `Ahead` where they come from memory. Rows lie a stride apart, and so do terms and weights.
template <int Ahead, int Rows, int Vectors>
inline void add_products(const float* rows, int64_t row_stride, int64_t term_stride, const float* weights,
                         int64_t weights_stride, int64_t terms, Floats (&sums)[Rows][Vectors]) {
  constexpr int line = 16;  // floats of a line of the cache
  for (int64_t term = 0; term < terms; term++, rows += term_stride, weights += weights_stride) {
    Floats weight[Vectors];
#pragma GCC unroll 4
    for (int vector = 0; vector < Vectors; vector++) {
      if (Ahead && vector * LANES % line == 0) __builtin_prefetch(weights + Ahead + vector * LANES);
      weight[vector] = load(weights + vector * LANES);
    }
#pragma GCC unroll 16
    for (int row = 0; row < Rows; row++)
#pragma GCC unroll 4
      for (int vector = 0; vector < Vectors; vector++) sums[row][vector] += rows[row * row_stride] * weight[vector];
  }
}

// The same with terms and weights that lie end to end.
template <int Ahead, int Rows, int Vectors>
inline void add_products(const float* rows, int64_t row_stride, const float* weights, int64_t terms,
                         Floats (&sums)[Rows][Vectors]) {
  add_products<Ahead>(rows, row_stride, 1, weights, Vectors * LANES, terms, sums);
}

enum Use { CONVOLVED, WEIGHTS_GRADIENT, LAYERS, NORMED, SCORES, DRAWN, ATTENDED, HALVED };

// Memory of a thread that lasts from call to call, so that no page of it is mapped anew. One room for each use.
template <Use>
float* room(int64_t size) {
  constexpr int64_t alignment = 64 / sizeof(float);
  thread_local std::vector<float> held;
  if (static_cast<int64_t>(held.size()) < size + alignment) held.resize(size + alignment);
  const auto address = reinterpret_cast<uintptr_t>(held.data());
  return reinterpret_cast<float*>((address + 63) & ~uintptr_t{63});
}

}  // namespace irisflow
