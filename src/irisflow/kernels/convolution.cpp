// 3 x 3 convolutions of maps channels last, by Winograd's algorithm F(4 x 4, 3 x 3): Lavin and Gray 2016.
//
// A tile of 4 x 4 outputs takes 36 products for each pair of channels, a direct convolution 144. Tile, kernel and output are
// polynomials, multiplied by their values at 0, +-3/4, +-3/2 and infinity: the points at which errors were least of those
// tried, twice those of a direct sum. Weights at the points lie as (36, blocks of outputs, inputs, outputs of a block).

#include <omp.h>

#include <algorithm>

#include "vectors.hpp"

using namespace irisflow;

namespace {

constexpr int64_t POINTS = 6, PAIRS = POINTS * POINTS, SIDE = 4, TILES_AT_ONCE = (32 + ROWS - 1) / ROWS * ROWS;
constexpr int FEW = 4;  // tiles that are multiplied together where there are no ROWS of them
constexpr int TOGETHER = ROWS > 6 ? 8 : 4;  // inputs whose weights' gradients are summed together: a divisor of 16
constexpr int64_t TERMS_AT_ONCE = 16;  // a divisor of all numbers of channels
constexpr float A = 0.75f, B = 1.5f, A2 = A * A, B2 = B * B, A3 = A2 * A, B3 = B2 * B;

// Values at the points of a polynomial that is divided by what the other points make 0.
[[gnu::always_inline]] inline void input_at_points(const Floats in[6], Floats out[6]) {
  const Floats even_a = in[4] - B2 * in[2], odd_a = A * (in[3] - B2 * in[1]);
  const Floats even_b = in[4] - A2 * in[2], odd_b = B * (in[3] - A2 * in[1]);
  out[0] = A2 * B2 * in[0] - (A2 + B2) * in[2] + in[4];
  out[1] = even_a + odd_a;
  out[2] = even_a - odd_a;
  out[3] = even_b + odd_b;
  out[4] = even_b - odd_b;
  out[5] = A2 * B2 * in[1] - (A2 + B2) * in[3] + in[5];
}

[[gnu::always_inline]] inline void output_from_points(const Floats in[6], Floats out[4]) {
  const Floats sum_a = in[1] + in[2], gap_a = in[1] - in[2], sum_b = in[3] + in[4], gap_b = in[3] - in[4];
  out[0] = in[0] + sum_a + sum_b;
  out[1] = A * gap_a + B * gap_b;
  out[2] = A2 * sum_a + B2 * sum_b;
  out[3] = A3 * gap_a + B3 * gap_b + in[5];
}

// The transpose of output_from_points: what a gradient of outputs is at the points.
[[gnu::always_inline]] inline void gradient_at_points(const Floats in[4], Floats out[6]) {
  const Floats even_a = in[0] + A2 * in[2], odd_a = A * in[1] + A3 * in[3];
  const Floats even_b = in[0] + B2 * in[2], odd_b = B * in[1] + B3 * in[3];
  out[0] = in[0];
  out[1] = even_a + odd_a;
  out[2] = even_a - odd_a;
  out[3] = even_b + odd_b;
  out[4] = even_b - odd_b;
  out[5] = in[3];
}

// What the values of a kernel's polynomial at the points are multiplied by: 1 / the product of distances to other points.
constexpr double OF_0 = 1 / (double{A2} * B2);
constexpr double OF_A = 1 / (2 * double{A2} * (A2 - B2)), OF_B = 1 / (2 * double{B2} * (B2 - A2));
const double KERNEL_AT_POINTS[6][3] = {
    {OF_0, 0, 0}, {OF_A, A * OF_A, A2 * OF_A}, {OF_A, -A * OF_A, A2 * OF_A}, {OF_B, B * OF_B, B2 * OF_B},
    {OF_B, -B * OF_B, B2 * OF_B}, {0, 0, 1},
};

// keep(pair of points, value) of kernels of 3 x 3.
template <class Keep>
inline void kernel_at_points(const Doubles kernel[9], const Keep& keep) {
  for (int i = 0; i < 6; i++) {
    const double* own = KERNEL_AT_POINTS[i];
    Doubles half[3];
    for (int l = 0; l < 3; l++) half[l] = own[0] * kernel[l] + own[1] * kernel[3 + l] + own[2] * kernel[6 + l];
    for (int j = 0; j < 6; j++) {
      const double* other = KERNEL_AT_POINTS[j];
      keep(i * 6 + j, __builtin_convertvector(other[0] * half[0] + other[1] * half[1] + other[2] * half[2], Floats));
    }
  }
}

// How many outputs are made together.
inline int64_t block_of(int64_t outputs) { return outputs % BLOCK ? LANES : BLOCK; }

// What `Along` makes of a square of From x From values, column by column and then row by row: To x To values.
template <int From, int To, void (*Along)(const Floats*, Floats*), class Read, class Write>
[[gnu::always_inline]] inline void in_both_directions(const Read& read, const Write& write) {
  Floats half[To][From];
#pragma GCC unroll 6
  for (int j = 0; j < From; j++) {
    Floats column[From], values[To];
#pragma GCC unroll 6
    for (int i = 0; i < From; i++) column[i] = read(i, j);
    Along(column, values);
#pragma GCC unroll 6
    for (int i = 0; i < To; i++) half[i][j] = values[i];
  }
#pragma GCC unroll 6
  for (int i = 0; i < To; i++) {
    Floats values[To];
    Along(half[i], values);
#pragma GCC unroll 6
    for (int j = 0; j < To; j++) write(i, j, values[j]);
  }
}

struct Maps {
  int64_t images, height, width, channels;
};

struct Tiles {
  int64_t rows, columns, count;
  explicit Tiles(const Maps& maps)
      : rows((maps.height + SIDE - 1) / SIDE),
        columns((maps.width + SIDE - 1) / SIDE),
        count(maps.images * rows * columns) {}
};

// Where a tile lies: its image, and the row and column of its first output.
struct Place {
  int64_t image, y, x;
  Place(const Tiles& tiles, int64_t tile)
      : image(tile / (tiles.rows * tiles.columns)),
        y(tile / tiles.columns % tiles.rows * SIDE),
        x(tile % tiles.columns * SIDE) {}
};

// A point's values of all tiles lie together; a little more room keeps points out of each other's lines of the cache.
inline int64_t point_stride(int64_t channels) { return TILES_AT_ONCE * channels + LANES; }

// Write the inputs of `count` tiles at the points: (36, tiles, channels). A doubled map has every pixel four times.
void inputs_at_points(const float* maps, const Maps& shape, bool is_doubled, const Tiles& tiles, int64_t first,
                      int64_t count, float* made) {
  const int64_t rows = shape.height >> is_doubled, columns = shape.width >> is_doubled, channels = shape.channels;
  const int64_t stride = point_stride(channels);
  for (int64_t tile = 0; tile < count; tile++) {
    const Place place(tiles, first + tile);
    const float* image = maps + place.image * rows * columns * channels;
    int64_t row_at[6], column_at[6];  // of the pixels that the tile meets; -1 outside of the map
    for (int64_t i = 0; i < 6; i++) {
      const int64_t y = place.y + i - 1, x = place.x + i - 1;
      row_at[i] = y < 0 || y >= shape.height ? -1 : (y >> is_doubled) * columns * channels;
      column_at[i] = x < 0 || x >= shape.width ? -1 : (x >> is_doubled) * channels;
    }
    for (int64_t channel = 0; channel < channels; channel += LANES) {
      const auto input = [&](int i, int j) {
        return row_at[i] < 0 || column_at[j] < 0 ? Floats{} : load(image + row_at[i] + column_at[j] + channel);
      };
      float* target = made + tile * channels + channel;
      const auto keep = [&](int i, int j, Floats value) { store(target + (i * 6 + j) * stride, value); };
      in_both_directions<6, 6, input_at_points>(input, keep);
    }
  }
}

// products (Rows, Vectors of LANES) = rows (Rows, depth) times weights (depth, Vectors of LANES). A few terms are summed
// before they meet the others: that halves the errors.
template <int Rows, int Vectors>
inline void multiply(const float* rows, int64_t depth, const float* weights, float* products) {
  for (int64_t first = 0; first < depth; first += TERMS_AT_ONCE) {
    Floats sums[Rows][Vectors];
#pragma GCC unroll 16
    for (int row = 0; row < Rows; row++)
#pragma GCC unroll 4
      for (int vector = 0; vector < Vectors; vector++) sums[row][vector] = Floats{};
    add_products<0>(rows + first, depth, weights + first * Vectors * LANES, TERMS_AT_ONCE, sums);
#pragma GCC unroll 16
    for (int row = 0; row < Rows; row++)
#pragma GCC unroll 4
      for (int vector = 0; vector < Vectors; vector++) {
        float* target = products + (row * Vectors + vector) * LANES;
        store(target, first ? load(target) + sums[row][vector] : sums[row][vector]);
      }
  }
}

// Write the outputs of `count` tiles for one block of channels from their products at the points.
template <int Vectors>
void outputs_of_products(const float* products, const Maps& shape, const Tiles& tiles, int64_t first, int64_t count,
                         int64_t channel, const float* bias, const float* added, float* out) {
  const int64_t stride = point_stride(Vectors * LANES);
  for (int64_t tile = 0; tile < count; tile++) {
    const Place place(tiles, first + tile);
    for (int vector = 0; vector < Vectors; vector++) {
      const int64_t lane = vector * LANES;
      const float* own = products + tile * Vectors * LANES + lane;
      const Floats shift = bias ? load(bias + channel + lane) : Floats{};
      const auto product = [&](int i, int j) { return load(own + (i * 6 + j) * stride); };
      const auto put = [&](int i, int j, Floats value) {
        const int64_t y = place.y + i, x = place.x + j;
        if (y >= shape.height || x >= shape.width) return;
        const int64_t at = ((place.image * shape.height + y) * shape.width + x) * shape.channels + channel + lane;
        store(out + at, added ? value + shift + load(added + at) : value + shift);
      };
      in_both_directions<6, 4, output_from_points>(product, put);
    }
  }
}

template <int Vectors>
void convolve(const float* maps, const float* weights, const float* bias, const float* added, float* out,
              const Maps& in, const Maps& made, bool is_doubled) {
  constexpr int64_t block = Vectors * LANES;
  const Tiles tiles(made);
  const int64_t threads = omp_get_max_threads(), share = (tiles.count + threads - 1) / threads;
  const int64_t at_once = std::min(TILES_AT_ONCE, (share + FEW - 1) / FEW * FEW);  // so that every thread has some
#pragma omp parallel
  {
    float* inputs = room<CONVOLVED>(PAIRS * (point_stride(in.channels) + point_stride(block)));
    float* products = inputs + PAIRS * point_stride(in.channels);
#pragma omp for schedule(static)
    for (int64_t first = 0; first < tiles.count; first += at_once) {
      const int64_t count = std::min(at_once, tiles.count - first);
      inputs_at_points(maps, in, is_doubled, tiles, first, count, inputs);
      for (int64_t channel = 0; channel < made.channels; channel += block) {
        for (int64_t pair = 0; pair < PAIRS; pair++) {
          const float* rows = inputs + pair * point_stride(in.channels);
          const float* weight = weights + (pair * made.channels + channel) * in.channels;
          float* target = products + pair * point_stride(block);
          int64_t tile = 0;
          for (; tile + ROWS <= count; tile += ROWS)
            multiply<ROWS, Vectors>(rows + tile * in.channels, in.channels, weight, target + tile * block);
          for (; tile + FEW <= count; tile += FEW)
            multiply<FEW, Vectors>(rows + tile * in.channels, in.channels, weight, target + tile * block);
          for (; tile < count; tile++)
            multiply<1, Vectors>(rows + tile * in.channels, in.channels, weight, target + tile * block);
        }
        outputs_of_products<Vectors>(products, made, tiles, first, count, channel, bias, added, out);
      }
    }
  }
}

// Write the gradient of outputs of `count` tiles at the points: (36, tiles, channels).
void gradients_at_points(const float* gradient, const Maps& shape, const Tiles& tiles, int64_t first, int64_t count,
                         float* made) {
  const int64_t channels = shape.channels, stride = point_stride(channels);
  for (int64_t tile = 0; tile < count; tile++) {
    const Place place(tiles, first + tile);
    const float* image = gradient + place.image * shape.height * shape.width * channels;
    for (int64_t channel = 0; channel < channels; channel += LANES) {
      const auto output = [&](int i, int j) {
        const int64_t y = place.y + i, x = place.x + j;
        const bool is_inside = y < shape.height && x < shape.width;
        return is_inside ? load(image + (y * shape.width + x) * channels + channel) : Floats{};
      };
      float* target = made + tile * channels + channel;
      const auto keep = [&](int i, int j, Floats value) { store(target + (i * 6 + j) * stride, value); };
      in_both_directions<4, 6, gradient_at_points>(output, keep);
    }
  }
}

// sums (TOGETHER inputs, Vectors of outputs) += over tiles: inputs (tiles, TOGETHER) times gradients (tiles, Vectors).
template <int Vectors>
inline void add_outer_products(const float* inputs, int64_t in_channels, const float* gradients, int64_t out_channels,
                               int64_t count, float* sums) {
  Floats held[TOGETHER][Vectors];
#pragma GCC unroll 16
  for (int row = 0; row < TOGETHER; row++)
#pragma GCC unroll 4
    for (int vector = 0; vector < Vectors; vector++) held[row][vector] = load(sums + row * out_channels + vector * LANES);
  add_products<0>(inputs, 1, in_channels, gradients, out_channels, count, held);
#pragma GCC unroll 16
  for (int row = 0; row < TOGETHER; row++)
#pragma GCC unroll 4
    for (int vector = 0; vector < Vectors; vector++) store(sums + row * out_channels + vector * LANES, held[row][vector]);
}

}  // namespace

// Weights at the points, from weights (outputs, inputs, 3, 3). Turned round they are those of the gradient of inputs:
// outputs and inputs change places, and each kernel is turned by half a circle.
extern "C" void weights_at_points(const float* weights, float* made, int64_t outputs, int64_t inputs,
                                  int64_t is_turned) {
  const int64_t block = block_of(outputs);
#pragma omp parallel for schedule(static)
  for (int64_t first = 0; first < outputs; first += LANES)
    for (int64_t input = 0; input < inputs; input += TOGETHER) {
      Floats values[PAIRS][TOGETHER];  // points lie far apart, and would push each other out of the cache
      for (int64_t i = 0; i < TOGETHER; i++) {
        Doubles kernel[9];
        for (int64_t lane = 0; lane < LANES; lane++) {
          const int64_t from = input + i, to = first + lane, at = is_turned ? from * outputs + to : to * inputs + from;
          for (int k = 0; k < 9; k++) kernel[k][lane] = weights[at * 9 + (is_turned ? 8 - k : k)];
        }
        kernel_at_points(kernel, [&](int pair, Floats value) { values[pair][i] = value; });
      }
      float* target = made + (first / block * inputs + input) * block + first % block;
      for (int64_t pair = 0; pair < PAIRS; pair++)
        for (int64_t i = 0; i < TOGETHER; i++) store(target + pair * outputs * inputs + i * block, values[pair][i]);
    }
}

// out (images, height, width, outputs) = maps (images, height, width, inputs) convolved, plus bias and `added` where they
// are not null. Doubled maps are given at half of height and width.
extern "C" void convolve_3x3(const float* maps, const float* weights, const float* bias, const float* added, float* out,
                             int64_t images, int64_t height, int64_t width, int64_t inputs, int64_t outputs,
                             int64_t is_doubled) {
  const Maps in{images, height, width, inputs}, made{images, height, width, outputs};
  if (block_of(outputs) == LANES)
    convolve<1>(maps, weights, bias, added, out, in, made, is_doubled);
  else
    convolve<VECTORS>(maps, weights, bias, added, out, in, made, is_doubled);
}

// made (outputs, inputs, 3, 3) = the gradient of the weights, from the maps and the gradient of the outputs.
extern "C" void weights_gradient_3x3(const float* maps, const float* gradient, float* made, int64_t images, int64_t height,
                                     int64_t width, int64_t inputs, int64_t outputs, int64_t is_doubled, int64_t threads) {
  const Maps in{images, height, width, inputs}, of_outputs{images, height, width, outputs};
  const Tiles tiles(of_outputs);
  const int64_t size = PAIRS * inputs * outputs, groups = (tiles.count + TILES_AT_ONCE - 1) / TILES_AT_ONCE;
  std::vector<float> all(threads * size);
#pragma omp parallel for schedule(static, 1) num_threads(threads)
  for (int64_t thread = 0; thread < threads; thread++) {
    float* sums = all.data() + thread * size;
    float* values = room<WEIGHTS_GRADIENT>(PAIRS * (point_stride(inputs) + point_stride(outputs)));
    float* gradients = values + PAIRS * point_stride(inputs);
    for (int64_t group = groups * thread / threads; group < groups * (thread + 1) / threads; group++) {
      const int64_t first = group * TILES_AT_ONCE, count = std::min(TILES_AT_ONCE, tiles.count - first);
      inputs_at_points(maps, in, is_doubled, tiles, first, count, values);
      gradients_at_points(gradient, of_outputs, tiles, first, count, gradients);
      for (int64_t pair = 0; pair < PAIRS; pair++)
        for (int64_t input = 0; input < inputs; input += TOGETHER) {
          const float* own = values + pair * point_stride(inputs) + input;
          const float* others = gradients + pair * point_stride(outputs);
          float* target = sums + (pair * inputs + input) * outputs;
          int64_t at = 0;
          for (; at + BLOCK <= outputs; at += BLOCK)
            add_outer_products<VECTORS>(own, inputs, others + at, outputs, count, target + at);
          for (; at < outputs; at += LANES)
            add_outer_products<1>(own, inputs, others + at, outputs, count, target + at);
        }
    }
  }
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t input = 0; input < inputs; input++)
    for (int64_t output = 0; output < outputs; output++) {
      double half[3][6] = {};
      for (int i = 0; i < 6; i++)
        for (int j = 0; j < 6; j++) {
          double value = 0;
          for (int64_t thread = 0; thread < threads; thread++)
            value += all[thread * size + ((i * 6 + j) * inputs + input) * outputs + output];
          for (int k = 0; k < 3; k++) half[k][j] += KERNEL_AT_POINTS[i][k] * value;
        }
      float* target = made + (output * inputs + input) * 9;
      for (int k = 0; k < 3; k++)
        for (int l = 0; l < 3; l++) {
          double value = 0;
          for (int j = 0; j < 6; j++) value += half[k][j] * KERNEL_AT_POINTS[j][l];
          target[k * 3 + l] = static_cast<float>(value);
        }
    }
}
