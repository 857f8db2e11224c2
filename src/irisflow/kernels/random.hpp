// Random bits that belong to a place, so that any thread draws those of any place, again and again: Threefry-2x32 with 20
// rounds (Salmon, Moraes, Dror and Shaw 2011), a counter enciphered with a key.
#pragma once

#include "vectors.hpp"

namespace irisflow {

// Dropout: what is 0, that whose word is below `least`, and how much the rest grows.
struct Drop {
  uint64_t key;
  uint32_t least;
  float scale;
};

constexpr int64_t DRAWN_TOGETHER = 32;  // words: 16 counters of two

typedef uint32_t Words __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

inline Words load_words(const uint32_t* from) { return *reinterpret_cast<const Words*>(from); }
inline void store_words(uint32_t* to, Words values) { *reinterpret_cast<Words*>(to) = values; }

// Encipher a counter of two words with the two halves of a key.
inline void encipher(uint64_t key, Words& first, Words& second) {
  constexpr int turns[2][4] = {{13, 15, 26, 6}, {17, 29, 16, 24}};
  const auto low = static_cast<uint32_t>(key), high = static_cast<uint32_t>(key >> 32);
  const uint32_t keys[3] = {low, high, low ^ high ^ 0x1BD11BDAu};
  first += keys[0];
  second += keys[1];
#pragma GCC unroll 5
  for (uint32_t group = 0; group < 5; group++) {
#pragma GCC unroll 4
    for (const int turn : turns[group % 2]) {
      first += second;
      second = ((second << turn) | (second >> (32 - turn))) ^ first;
    }
    first += keys[(group + 1) % 3];
    second += keys[(group + 2) % 3] + group + 1;
  }
}

// bits = the words of 32 places of a row from `place` on, a multiple of 32. Of 32, place i and place 16 + i share a counter.
inline void draw(uint64_t key, uint32_t row, uint32_t place, uint32_t (&bits)[DRAWN_TOGETHER]) {
  constexpr int64_t half = DRAWN_TOGETHER / 2;
#pragma GCC unroll 4
  for (int64_t at = 0; at < half; at += LANES) {
    Words first, second = Words{} + row;
#pragma GCC unroll 16
    for (int lane = 0; lane < LANES; lane++) first[lane] = place / 2 + static_cast<uint32_t>(at + lane);
    encipher(key, first, second);
    store_words(bits + at, first);
    store_words(bits + half + at, second);
  }
}

// Return the values, of which those whose words are below `least` are 0 and the others grow.
inline Floats dropped(Floats values, const uint32_t* words, const Drop& drop) {
  return load_words(words) >= drop.least ? values * drop.scale : Floats{};
}

}  // namespace irisflow
