// Group normalisation of maps channels last, and the SiLU after it, with their gradients: Wu and He 2018.
//
// A few channels of an image, one register's, are taken at a time, so that they are still in the cache when they are read
// again: for the mean, for the mean of squared deviations from it, and to be normalised. No group is larger.

#include <algorithm>
#include <cmath>

#include "vectors.hpp"

using namespace irisflow;

namespace {

constexpr int64_t PIXELS_AT_ONCE = 16;  // whose sum is made in single precision

inline Floats sigmoid(Floats x) { return 1.0f / (1.0f + exponential(-x)); }

// Return the sum over pixels of what `term` makes of each, for each channel of a register.
template <typename Term>
inline Doubles summed(int64_t pixels, Term term) {
  Doubles total{};
  for (int64_t first = 0; first < pixels; first += PIXELS_AT_ONCE) {
    const int64_t last = first + PIXELS_AT_ONCE < pixels ? first + PIXELS_AT_ONCE : pixels;
    Floats even{}, odd{};
    int64_t pixel = first;
    for (; pixel + 2 <= last; pixel += 2) {
      even += term(pixel);
      odd += term(pixel + 1);
    }
    if (pixel < last) even += term(pixel);
    total += __builtin_convertvector(even + odd, Doubles);
  }
  return total;
}

inline Floats rounded(Doubles values) { return __builtin_convertvector(values, Floats); }

// Return, for each channel, the mean over the channels of its group and so many pixels, from its sum.
inline Doubles over_group(Doubles sums, int64_t group, int64_t pixels) {
  for (int64_t first = 0; first < LANES; first += group) {
    double sum = 0;
    for (int64_t lane = first; lane < first + group; lane++) sum += sums[lane];
    for (int64_t lane = first; lane < first + group; lane++) sums[lane] = sum / static_cast<double>(group * pixels);
  }
  return sums;
}

}  // namespace

// How many channels are normalised together: a group's channels divide it.
extern "C" int64_t channels_together() { return LANES; }

// out = SiLU, if wanted, of the normalised maps (images, pixels, channels) x weight + bias; mean and inverse deviation of
// each channel's group are (images, channels). `group` is the channels of one.
extern "C" void normalise(const float* maps, const float* weight, const float* bias, float* out, float* means,
                          float* inverses, int64_t images, int64_t pixels, int64_t channels, int64_t group, double eps,
                          int64_t has_silu) {
  const int64_t blocks = channels / LANES;
#pragma omp parallel for schedule(static)
  for (int64_t task = 0; task < images * blocks; task++) {
    const int64_t channel = task % blocks * LANES, image = task / blocks;
    const float* from = maps + image * pixels * channels + channel;
    float* to = out + image * pixels * channels + channel;
    const auto value = [&](int64_t pixel) { return load(from + pixel * channels); };
    const Floats mean = rounded(over_group(summed(pixels, value), group, pixels));
    const auto squared = [&](int64_t pixel) { return (value(pixel) - mean) * (value(pixel) - mean); };
    Doubles variance = over_group(summed(pixels, squared), group, pixels);
    for (int64_t lane = 0; lane < LANES; lane++) variance[lane] = 1 / std::sqrt(variance[lane] + eps);
    const Floats inverse = rounded(variance);
    store(means + image * channels + channel, mean);
    store(inverses + image * channels + channel, inverse);
    const Floats scale = inverse * load(weight + channel), shift = load(bias + channel);
    if (has_silu)
      for (int64_t pixel = 0; pixel < pixels; pixel++) {
        const Floats normalised = (value(pixel) - mean) * scale + shift;
        store(to + pixel * channels, normalised * sigmoid(normalised));
      }
    else
      for (int64_t pixel = 0; pixel < pixels; pixel++)
        store(to + pixel * channels, (value(pixel) - mean) * scale + shift);
  }
}

// of_maps = the gradient of the maps; of_weight and of_bias are those of each image, (images, channels). With y the
// deviations over their size, g the gradient of the normalised maps times weight, and means over a group and its pixels,
// that of a pixel is (g - mean(g) - y mean(g y)) / deviation.
extern "C" void normalise_gradient(const float* maps, const float* weight, const float* bias, const float* means,
                                   const float* inverses, const float* gradient, float* of_maps, float* of_weight,
                                   float* of_bias, int64_t images, int64_t pixels, int64_t channels, int64_t group,
                                   int64_t has_silu) {
  const int64_t blocks = channels / LANES;
#pragma omp parallel for schedule(static)
  for (int64_t task = 0; task < images * blocks; task++) {
    const int64_t channel = task % blocks * LANES, image = task / blocks, start = image * pixels * channels + channel;
    const Floats mean = load(means + image * channels + channel), inverse = load(inverses + image * channels + channel);
    const Floats scale = load(weight + channel), shift = load(bias + channel);
    const auto deviation = [&](int64_t pixel) { return (load(maps + start + pixel * channels) - mean) * inverse; };
    // The gradient of the normalised maps is written where that of the maps will lie.
    const float* before = has_silu ? of_maps : gradient;
    Doubles sum{}, sum_y{};
    for (int64_t first = 0; first < pixels; first += PIXELS_AT_ONCE) {
      Floats few{}, few_y{};
      for (int64_t pixel = first; pixel < std::min(pixels, first + PIXELS_AT_ONCE); pixel++) {
        const int64_t at = start + pixel * channels;
        const Floats y = deviation(pixel);
        Floats given = load(gradient + at);
        if (has_silu) {
          const Floats normalised = y * scale + shift, gate = sigmoid(normalised);
          given *= gate * (1.0f + normalised * (1.0f - gate));
          store(of_maps + at, given);
        }
        few += given;
        few_y += given * y;
      }
      sum += __builtin_convertvector(few, Doubles);
      sum_y += __builtin_convertvector(few_y, Doubles);
    }
    const Doubles wide_scale = __builtin_convertvector(scale, Doubles);
    store(of_bias + image * channels + channel, rounded(sum));
    store(of_weight + image * channels + channel, rounded(sum_y));
    const Floats mean_g = rounded(over_group(sum * wide_scale, group, pixels));
    const Floats mean_gy = rounded(over_group(sum_y * wide_scale, group, pixels));
    for (int64_t pixel = 0; pixel < pixels; pixel++)
      store(of_maps + start + pixel * channels,
            (load(before + start + pixel * channels) * scale - mean_g - deviation(pixel) * mean_gy) * inverse);
  }
}
