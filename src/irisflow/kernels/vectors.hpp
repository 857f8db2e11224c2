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
constexpr int64_t CHANNELS = 16;  // numbers of channels are multiples of it, whatever the processor

typedef float Floats __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef double Doubles __attribute__((vector_size(8 * LANES)));
typedef int32_t Integers __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

inline Floats load(const float* from) { return *reinterpret_cast<const Floats*>(from); }
inline void store(float* to, Floats values) { *reinterpret_cast<Floats*>(to) = values; }

// Memory of a thread that lasts from call to call, so that no page of it is mapped anew. One room for each `Use`.
template <int Use>
float* room(int64_t size) {
  constexpr int64_t alignment = 64 / sizeof(float);
  thread_local std::vector<float> held;
  if (static_cast<int64_t>(held.size()) < size + alignment) held.resize(size + alignment);
  const auto address = reinterpret_cast<uintptr_t>(held.data());
  return reinterpret_cast<float*>((address + 63) & ~uintptr_t{63});
}

}  // namespace irisflow
