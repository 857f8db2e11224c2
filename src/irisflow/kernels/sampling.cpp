// Classes by the Gumbel-max trick, with the very numbers that torch's generator on a CPU would draw for exponential_.
//
// Those are -log(1 - u) in double precision, rounded to float, with u of 53 bits from two words of a Mersenne Twister
// (Matsumoto and Nishimura 1998), one number after another. Here many are worked out together; where their error could
// decide how one is rounded, the C library is asked, as torch asks it.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "vectors.hpp"

using namespace irisflow;

namespace {

constexpr int64_t STATE = 624, SHIFT = 397;
constexpr int WORDS = 11, NUMBERS = 12;  // rooms

// The first bytes of what torch.Generator.get_state returns.
struct Generator {
  uint64_t seed;
  int32_t left, is_seeded;  // one more than the words that are left of the state
  uint64_t next, state[STATE];
};

inline uint32_t twisted(uint32_t word, uint32_t following, uint32_t far) {
  const uint32_t mixed = (word & 0x80000000u) | (following & 0x7fffffffu);
  return far ^ (mixed >> 1) ^ (following & 1 ? 0x9908b0dfu : 0u);
}

void twist(uint32_t* state) {
#pragma omp simd safelen(16)
  for (int64_t i = 0; i < STATE - SHIFT; i++) state[i] = twisted(state[i], state[i + 1], state[i + SHIFT]);
#pragma omp simd safelen(16)
  for (int64_t i = STATE - SHIFT; i < STATE - 1; i++)
    state[i] = twisted(state[i], state[i + 1], state[i + SHIFT - STATE]);
  state[STATE - 1] = twisted(state[STATE - 1], state[0], state[SHIFT - 1]);
}

inline uint32_t tempered(uint32_t word) {
  word ^= word >> 11;
  word ^= (word << 7) & 0x9d2c5680u;
  word ^= (word << 15) & 0xefc60000u;
  return word ^ (word >> 18);
}

// Draws from a generator; gives its state back at the end.
class Drawing {
 public:
  explicit Drawing(Generator* generator) : generator(generator), next(generator->next), left(generator->left - 1) {
    std::copy_n(generator->state, STATE, state);
  }
  ~Drawing() {
    std::copy_n(state, STATE, generator->state);
    generator->next = next;
    generator->left = static_cast<int32_t>(left + 1);
  }
  void draw(int64_t count, uint32_t* words) {
    while (count > 0) {
      if (left == 0) {
        twist(state);
        next = 0;
        left = STATE;
      }
      const int64_t some = std::min(count, left);
#pragma omp simd
      for (int64_t i = 0; i < some; i++) words[i] = tempered(state[next + i]);
      words += some, count -= some, next += some, left -= some;
    }
  }

 private:
  Generator* generator;
  int64_t next, left;
  uint32_t state[STATE];
};

template <class To, class From>
inline To bits_of(From from) {
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

// The natural logarithm to a few units of the last place: of 2^power m with m around 1, from the series of artanh.
inline double logarithm(double value) {
  const int64_t bits = bits_of<int64_t>(value), power = (bits - 0x3fe6a09e667f3bcd) >> 52;  // of the root of 1/2
  const double f = bits_of<double>(bits - (power << 52)) - 1, s = f / (2 + f), z = s * s;
  double sum = z * (2.0 / 19) + 2.0 / 17;
  sum = sum * z + 2.0 / 15;
  sum = sum * z + 2.0 / 13;
  sum = sum * z + 2.0 / 11;
  sum = sum * z + 2.0 / 9;
  sum = sum * z + 2.0 / 7;
  sum = sum * z + 2.0 / 5;
  sum = sum * z + 2.0 / 3;
  return static_cast<double>(power) * 0.69314718055994531 + (f - s * (f - sum * z));
}

inline float logarithm(float value) {
  const int32_t bits = bits_of<int32_t>(value), power = (bits - 0x3f3504f3) >> 23;
  const float f = bits_of<float>(bits - (power << 23)) - 1, s = f / (2 + f), z = s * s;
  float sum = z * (2.0f / 9) + 2.0f / 7;
  sum = sum * z + 2.0f / 5;
  sum = sum * z + 2.0f / 3;
  const float of_power = static_cast<float>(power);
  return of_power * 0.693145752f + (f - (s * (f - sum * z) - of_power * 1.42860677e-6f));
}

inline double remainder(const uint32_t* words) {
  const int64_t drawn = static_cast<int64_t>((static_cast<uint64_t>(words[0]) << 32 | words[1]) & ((1ull << 53) - 1));
  return static_cast<double>((1ll << 53) - drawn) * 0x1p-53;
}

// Exponential numbers from two words each.
void exponentials(const uint32_t* words, int64_t count, float* made) {
  constexpr int64_t half = 1 << 28, margin = 64;  // of the 29 bits that a float lacks
  int64_t num_close = 0;
#pragma omp simd reduction(+ : num_close)
  for (int64_t i = 0; i < count; i++) {
    const double number = 0 - logarithm(remainder(words + 2 * i));
    const int64_t gap = (bits_of<int64_t>(number) & (2 * half - 1)) - half;
    num_close += gap < margin && gap > -margin;
    made[i] = static_cast<float>(number);
  }
  for (int64_t i = 0; num_close && i < count; i++)
    made[i] = static_cast<float>(-std::log1p(remainder(words + 2 * i) - 1));
}

// The place of the largest value, the first of several. Values behind `count` are overwritten.
int64_t place_of_largest(float* values, int64_t count) {
  const int64_t stop = (count + LANES - 1) / LANES * LANES;
  std::fill(values + count, values + stop, -std::numeric_limits<float>::infinity());
  Floats largest = load(values);
  Integers places{};
  for (int32_t at = LANES; at < stop; at += LANES) {
    const Floats here = load(values + at);
    places = here > largest ? Integers{} + at : places;
    largest = here > largest ? here : largest;
  }
  int64_t best = 0;
  float most = largest[0];
  for (int64_t lane = 0; lane < LANES; lane++) {
    const int64_t place = places[lane] + lane;
    if (lane == 0 || largest[lane] > most || (largest[lane] == most && place < best)) {
      most = largest[lane];
      best = place;
    }
  }
  return best;
}

}  // namespace

// The next numbers of a generator, whose state goes on.
extern "C" void draw_exponentials(void* state, int64_t count, float* made) {
  Drawing drawing(static_cast<Generator*>(state));
  uint32_t* words = reinterpret_cast<uint32_t*>(room<WORDS>(2 * count));
  drawing.draw(2 * count, words);
  exponentials(words, count, made);
}

// made (rows) = a class for each row of logits (rows, classes).
extern "C" void draw_classes(void* state, const float* logits, int64_t rows, int64_t classes, int64_t* made) {
  Drawing drawing(static_cast<Generator*>(state));
  uint32_t* words = reinterpret_cast<uint32_t*>(room<WORDS>(2 * classes));
  float* numbers = room<NUMBERS>(classes + LANES);
  for (int64_t row = 0; row < rows; row++, logits += classes) {
    drawing.draw(2 * classes, words);
    exponentials(words, classes, numbers);
#pragma omp simd
    for (int64_t i = 0; i < classes; i++) numbers[i] = logits[i] - logarithm(numbers[i]);
    made[row] = place_of_largest(numbers, classes);
  }
}
