// Dropout whose mask is drawn in passing, and again in the backward pass: nothing of it is kept.

#include <algorithm>

#include "random.hpp"

using namespace irisflow;

namespace {

constexpr int64_t IN_A_ROW = 1 << 14;  // values whose bits belong to one row: a multiple of 32
constexpr int64_t ALONE = 1 << 14;  // values that one thread has seen to before another has begun

// made (up to 32) = the values of places of a row from `place` on, dropped or grown.
inline void drop_together(const float* values, const Drop& drop, uint32_t row, uint32_t place, float* made) {
  uint32_t words[DRAWN_TOGETHER];
  draw(drop.key, row, place, words);
#pragma GCC unroll 8
  for (int64_t at = 0; at < DRAWN_TOGETHER; at += LANES)
    store(made + at, dropped(load(values + at), words + at, drop));
}

}  // namespace

// made (size) = 0 where a random word is below `least`, else the value x `scale`.
extern "C" void drop(const float* values, float* made, int64_t size, int64_t key, int64_t least, double scale) {
  const Drop drop{static_cast<uint64_t>(key), static_cast<uint32_t>(least), static_cast<float>(scale)};
  const int64_t rows = (size + IN_A_ROW - 1) / IN_A_ROW;
#pragma omp parallel for schedule(static) if (size > ALONE)
  for (int64_t row = 0; row < rows; row++) {
    const int64_t start = row * IN_A_ROW, places = std::min(size - start, IN_A_ROW);
    const auto number = static_cast<uint32_t>(row);
    int64_t place = 0;
    for (; place + DRAWN_TOGETHER <= places; place += DRAWN_TOGETHER)
      drop_together(values + start + place, drop, number, static_cast<uint32_t>(place), made + start + place);
    if (place == places) continue;
    float last[DRAWN_TOGETHER] = {};
    std::copy_n(values + start + place, places - place, last);
    drop_together(last, drop, number, static_cast<uint32_t>(place), last);
    std::copy_n(last, places - place, made + start + place);
  }
}

// made (rows, places) = the random words of a key.
extern "C" void draw_words(uint32_t* made, int64_t rows, int64_t places, int64_t key) {
  for (int64_t row = 0; row < rows; row++)
    for (int64_t first = 0; first < places; first += DRAWN_TOGETHER) {
      uint32_t words[DRAWN_TOGETHER];
      draw(static_cast<uint64_t>(key), static_cast<uint32_t>(row), static_cast<uint32_t>(first), words);
      std::copy_n(words, std::min(DRAWN_TOGETHER, places - first), made + row * places + first);
    }
}
