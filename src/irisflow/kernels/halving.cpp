// A 3 x 3 convolution of maps channels last at every second pixel, with zeros right of and below them.
//
// A row of new pixels is one thread's. The three rows of pixels it sees are copied side by side with their zeros, so that all
// inputs of a pixel and its two right neighbours are terms of one product of matrices.

#include <algorithm>

#include "vectors.hpp"

using namespace irisflow;

namespace {

// to (three rows, `pixels`, inputs) = the rows of an image from `first` on, zeros behind them.
void gather(const float* image, int64_t first, int64_t height, int64_t width, int64_t inputs, int64_t pixels, float* to) {
  for (int64_t row = 0; row < 3; row++, to += pixels * inputs) {
    const int64_t there = first + row < height ? std::min(width, pixels) * inputs : 0;
    std::copy_n(image + (first + row) * width * inputs, there, to);
    std::fill(to + there, to + pixels * inputs, 0.0f);
  }
}

// made (up to ROWS new pixels, Vectors of outputs) from the pixels they see and the weights of these outputs.
template <int Vectors>
inline void convolve(const float* seen, int64_t pixels, int64_t inputs, const float* weights, const float* bias,
                     int64_t outputs, int64_t count, float* made) {
  Floats sums[ROWS][Vectors];
#pragma GCC unroll 16
  for (int pixel = 0; pixel < ROWS; pixel++)
#pragma GCC unroll 4
    for (int vector = 0; vector < Vectors; vector++) sums[pixel][vector] = load(bias + vector * LANES);
  const int64_t terms = 3 * inputs;
  for (int64_t row = 0; row < 3; row++)
    add_products<0>(seen + row * pixels * inputs, 2 * inputs, 1, weights + row * terms * outputs, outputs, terms, sums);
  for (int64_t pixel = 0; pixel < count; pixel++)
#pragma GCC unroll 4
    for (int vector = 0; vector < Vectors; vector++) store(made + pixel * outputs + vector * LANES, sums[pixel][vector]);
}

}  // namespace

// made (images, height / 2, width / 2, outputs) from maps (images, height, width, inputs) and weights (3, 3, inputs, outputs).
extern "C" void convolve_halving(const float* maps, const float* weights, const float* bias, float* made, int64_t images,
                                 int64_t height, int64_t width, int64_t inputs, int64_t outputs) {
  const int64_t new_height = height / 2, new_width = width / 2;
  const int64_t pixels = 2 * ((new_width + ROWS - 1) / ROWS * ROWS) + 1;
#pragma omp parallel for schedule(static)
  for (int64_t row = 0; row < images * new_height; row++) {
    float* seen = room<HALVED>(3 * pixels * inputs);
    const float* image = maps + row / new_height * height * width * inputs;
    gather(image, 2 * (row % new_height), height, width, inputs, pixels, seen);
    float* to = made + row * new_width * outputs;
    for (int64_t first = 0; first < new_width; first += ROWS) {
      const int64_t count = std::min<int64_t>(ROWS, new_width - first);
      const float* from = seen + 2 * first * inputs;
      float* block = to + first * outputs;
      int64_t at = 0;
      for (; at + BLOCK <= outputs; at += BLOCK)
        convolve<VECTORS>(from, pixels, inputs, weights + at, bias + at, outputs, count, block + at);
      for (; at < outputs; at += LANES)
        convolve<1>(from, pixels, inputs, weights + at, bias + at, outputs, count, block + at);
    }
  }
}
