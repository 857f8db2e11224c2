// Frames reduced as Pillow does it: each row in width, then rows in height, in whole numbers. Only rows that changed are.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

typedef int32_t Pixel __attribute__((vector_size(16), aligned(4)));  // red, green, blue; the fourth is not used

constexpr int PRECISION = 22, CHANNELS = 3;
constexpr int32_t HALF = 1 << (PRECISION - 1);
constexpr int64_t TOGETHER = 64;  // pixels of a row that are added up together

// How a length is reduced: each new pixel is the sum of `number` weights times pixels from its `first` on, divided by 2^22.
struct Taps {
  const int32_t *first, *weights;
  int64_t number;
};

// made (channels, size) = a row of which `pixel_at` returns each pixel.
template <typename PixelAt>
void reduce_in_width(const Taps& taps, int64_t size, uint8_t* made, PixelAt pixel_at) {
  for (int64_t i = 0; i < size; i++) {
    Pixel sum = Pixel{} + HALF;
    for (int64_t k = 0; k < taps.number; k++) sum += taps.weights[i * taps.number + k] * pixel_at(taps.first[i] + k);
    for (int channel = 0; channel < CHANNELS; channel++)
      made[channel * size + i] = static_cast<uint8_t>(sum[channel] >> PRECISION);
  }
}

// made (size) = the sum of `number` rows a stride apart, each times its weight.
void reduce_in_height(const uint8_t* rows, int64_t stride, const int32_t* weights, int64_t number, uint8_t* made, int64_t size) {
  for (int64_t begin = 0; begin < size; begin += TOGETHER) {
    const int64_t end = std::min(begin + TOGETHER, size);
    int32_t sums[TOGETHER];
    std::fill_n(sums, TOGETHER, HALF);
    for (int64_t k = 0; k < number; k++)
      for (int64_t j = begin; j < end; j++) sums[j - begin] += weights[k] * rows[k * stride + j];
    for (int64_t j = begin; j < end; j++) made[j] = static_cast<uint8_t>(sums[j - begin] >> PRECISION);
  }
}

}  // namespace

// reduced (channels, size, size) = frame (rows, bytes), of which `before` is the last one and `narrow` (rows, channels, size)
// that in width. Bytes are codes of a palette, or where there is none red, green and blue. Returns 1, and has done nothing,
// where a changed row has a code that is not known.
extern "C" int64_t reduce_frame(const int32_t* width_first, const int32_t* width_weights, const int32_t* height_first,
                                const int32_t* height_weights, const Pixel* palette, const uint8_t* is_known, uint8_t* before,
                                uint8_t* narrow, uint8_t* reduced, int64_t width_number, int64_t height_number, int64_t rows,
                                int64_t bytes, int64_t size, const uint8_t* frame) {
  const Taps width{width_first, width_weights, width_number}, height{height_first, height_weights, height_number};
  std::vector<int64_t> changed;
  for (int64_t row = 0; row < rows; row++)
    if (std::memcmp(frame + row * bytes, before + row * bytes, bytes)) changed.push_back(row);
  const auto is_missing = [&](uint8_t code) { return !is_known[code]; };
  if (palette)
    for (const int64_t row : changed)
      if (std::any_of(frame + row * bytes, frame + (row + 1) * bytes, is_missing)) return 1;

  const int64_t stride = CHANNELS * size;
  for (const int64_t row : changed) {
    const uint8_t* read = frame + row * bytes;
    uint8_t* made = narrow + row * stride;
    std::memcpy(before + row * bytes, read, bytes);
    if (row && !std::memcmp(read, read - bytes, bytes))
      std::memcpy(made, made - stride, stride);
    else if (palette)
      reduce_in_width(width, size, made, [&](int64_t i) { return palette[read[i]]; });
    else
      reduce_in_width(width, size, made, [&](int64_t i) {
        return Pixel{read[CHANNELS * i], read[CHANNELS * i + 1], read[CHANNELS * i + 2]};
      });
  }
  for (int64_t i = 0; i < size; i++) {
    const auto next = std::lower_bound(changed.begin(), changed.end(), height.first[i]);
    if (next == changed.end() || *next >= height.first[i] + height.number) continue;
    for (int64_t channel = 0; channel < CHANNELS; channel++)
      reduce_in_height(narrow + height.first[i] * stride + channel * size, stride, height.weights + i * height.number,
                       height.number, reduced + (channel * size + i) * size, size);
  }
  return 0;
}
