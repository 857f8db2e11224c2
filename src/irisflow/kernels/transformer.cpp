// One pass of a few tokens through a GPT with a key-value cache, as world_model/backbones/gpt.py defines it: all layers in
// one call and one parallel region.
//
// Every weight and every key is read once a pass, so a product goes block by block of its outputs: a block is its biases,
// then for each input the weights of its outputs, read in this order and met by all rows. Rows lie a little more than their
// width apart, else all of them would fall into the same sets of a cache. Each number is summed by one thread in an order
// that does not depend on how many there are.

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "vectors.hpp"

using namespace irisflow;

namespace {

constexpr int64_t LINE = 16;  // floats of a line of the cache
constexpr int AHEAD = 512;  // weights that are fetched before they are needed
constexpr int64_t AHEAD_KEYS = 16;  // the same of keys and values
constexpr int64_t LEAST_WORK = 1 << 17;  // of a thread in a layer: rows x weights

inline int64_t padded(int64_t width) { return width + LINE; }

// Lanes with the bit `Apart` hold b's sums of two lanes so far apart, the others a's.
template <int Apart, int... Lane>
inline Floats paired_sums(Floats a, Floats b, std::integer_sequence<int, Lane...>) {
  constexpr int other = LANES;
  return __builtin_shuffle(a, b, Integers{(Lane & Apart ? other + Lane : Lane)...}) +
         __builtin_shuffle(a, b, Integers{(Lane & Apart ? other + (Lane ^ Apart) : Lane ^ Apart)...});
}

template <int Apart>
inline Floats paired_sums(Floats a, Floats b) {
  return paired_sums<Apart>(a, b, std::make_integer_sequence<int, LANES>{});
}

// Each lane is the sum of all.
template <int Apart = LANES / 2>
inline Floats sum_of_lanes(Floats a) {
  a = paired_sums<Apart>(a, a);
  if constexpr (Apart > 1) a = sum_of_lanes<Apart / 2>(a);
  return a;
}

// Lane i is the sum of the lanes of a[i]; overwrites a.
template <int Apart = LANES / 2>
inline Floats sums_of_each(Floats* a) {
#pragma GCC unroll 8
  for (int i = 0; i < Apart; i++) a[i] = paired_sums<Apart>(a[i], a[i + Apart]);
  if constexpr (Apart > 1) return sums_of_each<Apart / 2>(a);
  return a[0];
}

// x times the normal distribution's integral up to x (Hendrycks and Gimpel 2016), to within 2.5e-7: the integral beyond |x|
// is e^(-x^2 / 2) times a polynomial of 1 / (1 + .4 |x| / sqrt 2), fitted to half of erfcx.
inline Floats gelu(Floats x) {
  const Floats size = larger(x, -x);
  const Floats place = 1.0f / (1.0f + 0.282842712f * size);
  Floats sum = place * 0.0177595392f - 0.192886710f;
  sum = sum * place + 0.558979332f;
  sum = sum * place - 0.431188256f;
  sum = sum * place + 0.407589495f;
  sum = sum * place + 0.00938275736f;
  sum = sum * place + 0.131798401f;
  sum = sum * place - 0.00143455877f;
  return larger(x, Floats{}) - size * sum * exponential(-0.5f * size * size);
}

struct Product {
  int64_t inputs, outputs;
  int64_t num_blocks() const { return (outputs + BLOCK - 1) / BLOCK; }
  int64_t block_size() const { return (inputs + 1) * BLOCK; }
  int64_t size() const { return num_blocks() * block_size(); }
};

// Where a layer's weights lie: what its parameters are, in order, for a width.
struct Layer {
  Product qkv, out, widen, narrow;
  int64_t norm1, at_qkv, at_out, norm2, at_widen, at_narrow, size;
  explicit Layer(int64_t width)
      : qkv{width, 3 * width},
        out{width, width},
        widen{width, 4 * width},
        narrow{4 * width, width},
        norm1(0),
        at_qkv(2 * width),
        at_out(at_qkv + qkv.size()),
        norm2(at_out + out.size()),
        at_widen(norm2 + 2 * width),
        at_narrow(at_widen + widen.size()),
        size(at_narrow + narrow.size()) {}
};

void pack(const float* weight, const float* bias, const Product& shape, float* made) {
#pragma omp parallel for schedule(static)
  for (int64_t block = 0; block < shape.num_blocks(); block++) {
    float* target = made + block * shape.block_size();
    for (int64_t lane = 0; lane < BLOCK; lane++) {
      const int64_t output = block * BLOCK + lane;
      const bool is_there = output < shape.outputs;
      target[lane] = is_there ? bias[output] : 0;
      for (int64_t input = 0; input < shape.inputs; input++)
        target[(input + 1) * BLOCK + lane] = is_there ? weight[output * shape.inputs + input] : 0;
    }
  }
}

// write(row, output, a vector of values) for `Rows` rows from `first` on and one block of outputs.
template <int Rows, class Write>
inline void multiply(const Product& shape, const float* block, const float* rows, int64_t first, int64_t output,
                     const Write& write) {
  const int64_t stride = padded(shape.inputs);
  Floats sums[Rows][VECTORS];
#pragma GCC unroll 16
  for (int row = 0; row < Rows; row++)
#pragma GCC unroll 4
    for (int vector = 0; vector < VECTORS; vector++) sums[row][vector] = load(block + vector * LANES);
  add_products<AHEAD>(rows + first * stride, stride, block + BLOCK, shape.inputs, sums);
#pragma GCC unroll 16
  for (int row = 0; row < Rows; row++)
#pragma GCC unroll 4
    for (int vector = 0; vector < VECTORS; vector++)
      if (output + vector * LANES < shape.outputs) write(first + row, output + vector * LANES, sums[row][vector]);
}

// The same for `count` rows, up to `Most`.
template <int Most, class Write>
inline void multiply_up_to(const Product& shape, const float* block, const float* rows, int64_t first, int64_t count,
                           int64_t output, const Write& write) {
  if (count == Most)
    multiply<Most>(shape, block, rows, first, output, write);
  else if constexpr (Most > 1)
    multiply_up_to<Most - 1>(shape, block, rows, first, count, output, write);
}

// One block of outputs of all rows, in parts of about the same size.
template <class Write>
inline void multiply_all(const Product& shape, const float* weights, const float* rows, int64_t num_rows, int64_t index,
                         const Write& write) {
  const float* block = weights + index * shape.block_size();
  const int64_t num_parts = (num_rows + ROWS - 1) / ROWS;
  for (int64_t part = 0; part < num_parts; part++) {
    const int64_t first = num_rows * part / num_parts, count = num_rows * (part + 1) / num_parts - first;
    multiply_up_to<ROWS>(shape, block, rows, first, count, index * BLOCK, write);
  }
}

// A layer norm of each row; `weights` are its weight, then its bias.
void normalise(const float* rows, int64_t num_rows, int64_t width, const float* weights, double epsilon, int64_t out_stride,
               float* out) {
  for (int64_t row = 0; row < num_rows; row++) {
    const float* from = rows + row * width;
    float* to = out + row * out_stride;
    Floats sum{}, square{};
    for (int64_t at = 0; at < width; at += LANES) sum += load(from + at);
    const Floats mean = sum_of_lanes(sum) / static_cast<float>(width);
    for (int64_t at = 0; at < width; at += LANES) {
      const Floats gap = load(from + at) - mean;
      square += gap * gap;
    }
    const float variance = sum_of_lanes(square)[0] / static_cast<float>(width);
    const float scale = static_cast<float>(1 / std::sqrt(variance + epsilon));
    for (int64_t at = 0; at < width; at += LANES)
      store(to + at, (load(from + at) - mean) * scale * load(weights + at) + load(weights + width + at));
  }
}

// Fetch what is read `AHEAD_KEYS` keys later: of these `num_keys`, or else from `then` on, which is read after them.
inline void fetch_ahead(const float* keys, int64_t key, int64_t num_keys, int64_t width, const float* then) {
  const int64_t later = key + AHEAD_KEYS;
  const float* from = later < num_keys ? keys + later * width : then + (later - num_keys) * width;
  for (int64_t at = 0; at < width; at += LINE) __builtin_prefetch(from + at);
}

// A query's products with the keys. `then`: what is read after these.
void score(const float* query, const float* keys, int64_t num_keys, int64_t width, const float* then, float* scores) {
  int64_t key = 0;
  for (; key + LANES <= num_keys; key += LANES) {
    Floats products[LANES];
#pragma GCC unroll 16
    for (int64_t i = 0; i < LANES; i++) {
      const float* from = keys + (key + i) * width;
      products[i] = load(query) * load(from);
      for (int64_t at = LANES; at < width; at += LANES) products[i] += load(query + at) * load(from + at);
      fetch_ahead(keys, key + i, num_keys, width, then);
    }
    store(scores + key, sums_of_each(products));
  }
  for (; key < num_keys; key++) {
    Floats product{};
    for (int64_t at = 0; at < width; at += LANES) product += load(query + at) * load(keys + key * width + at);
    scores[key] = sum_of_lanes(product)[0];
    fetch_ahead(keys, key, num_keys, width, then);
  }
}

// Make of scores what a softmax over the first `num_seen` is before it is divided by its sum, which is returned; those
// behind them become as good as 0.
float weigh(float* scores, int64_t num_seen, int64_t num_keys) {
  const int64_t stop = (num_keys + LANES - 1) / LANES * LANES;
  std::fill(scores + num_seen, scores + stop, -std::numeric_limits<float>::infinity());
  Floats most = load(scores), sum{};
  for (int64_t key = LANES; key < stop; key += LANES) most = larger(most, load(scores + key));
  const float largest = largest_of(most);
  for (int64_t key = 0; key < stop; key += LANES) {
    const Floats weight = exponential(load(scores + key) - largest);
    sum += weight;
    store(scores + key, weight);
  }
  return sum_of_lanes(sum)[0];
}

// made (Queries, Vectors x LANES) = the values, weighted for each query. `then`: what is read after these.
template <int Queries, int Vectors>
inline void blend(const float* weights, int64_t weights_stride, const float* sums, const float* values, int64_t num_keys,
                  int64_t width, const float* then, float* made, int64_t made_stride) {
  Floats blends[Queries][Vectors] = {};
  for (int64_t key = 0; key < num_keys; key++) {
#pragma GCC unroll 4
    for (int vector = 0; vector < Vectors; vector++)
#pragma GCC unroll 4
      for (int query = 0; query < Queries; query++)
        blends[query][vector] += weights[query * weights_stride + key] * load(values + key * width + vector * LANES);
    fetch_ahead(values, key, num_keys, width, then);
  }
#pragma GCC unroll 4
  for (int query = 0; query < Queries; query++)
#pragma GCC unroll 4
    for (int vector = 0; vector < Vectors; vector++)
      store(made + query * made_stride + vector * LANES, blends[query][vector] / sums[query]);
}

// Attention of `Queries` tokens of one head. `num_seen` of each: the keys up to the last that it sees. `then`: what is read
// after the values.
template <int Queries>
void attend(const float* queries, int64_t queries_stride, const float* keys, const float* values, const int64_t* num_seen,
            int64_t width, const float* then, float* scores, float* made, int64_t made_stride) {
  const int64_t num_keys = *std::max_element(num_seen, num_seen + Queries);
  const int64_t stride = (num_keys + LANES - 1) / LANES * LANES;
  float sums[Queries];
  for (int query = 0; query < Queries; query++) {
    score(queries + query * queries_stride, keys, num_keys, width, values, scores + query * stride);
    sums[query] = weigh(scores + query * stride, num_seen[query], num_keys);
  }
  int64_t at = 0;
  for (; at + 4 * LANES <= width; at += 4 * LANES)
    blend<Queries, 4>(scores, stride, sums, values + at, num_keys, width, then + at, made + at, made_stride);
  for (; at < width; at += LANES)
    blend<Queries, 1>(scores, stride, sums, values + at, num_keys, width, then + at, made + at, made_stride);
}

// How many keys a token sees, if it sees those up to some last one.
inline int64_t seen_by(const uint8_t* visible, int64_t window, int64_t token, int64_t stop) {
  while (stop > token + 1 && !visible[token * window + stop - 1]) stop--;
  return stop;
}

}  // namespace

// Number of floats that the weights of so many layers take in the order of `transformer_pass`.
extern "C" int64_t transformer_size(int64_t layers, int64_t width) { return layers * Layer(width).size + 2 * width; }

// Write them. `parameters`: of each layer norm, qkv, out, norm, widen and narrow, each weight and bias; then the last
// norm's.
extern "C" void transformer_pack(const float* const* parameters, float* made, int64_t layers, int64_t width) {
  const Layer layer(width);
  const auto pack_norm = [&](float* target) {
    std::copy_n(*parameters++, width, target);
    std::copy_n(*parameters++, width, target + width);
  };
  const auto pack_product = [&](const Product& shape, float* target) {
    pack(parameters[0], parameters[1], shape, target);
    parameters += 2;
  };
  for (int64_t index = 0; index < layers; index++, made += layer.size) {
    pack_norm(made + layer.norm1);
    pack_product(layer.qkv, made + layer.at_qkv);
    pack_product(layer.out, made + layer.at_out);
    pack_norm(made + layer.norm2);
    pack_product(layer.widen, made + layer.at_widen);
    pack_product(layer.narrow, made + layer.at_narrow);
  }
  pack_norm(made);
}

// Number of floats that the weights of two layers take in the order of `perceptron_pass`.
extern "C" int64_t perceptron_size(int64_t width, int64_t outputs) {
  return Product{width, width}.size() + Product{width, outputs}.size();
}

// Write them: weight and bias of each.
extern "C" void perceptron_pack(const float* const* parameters, float* made, int64_t width, int64_t outputs) {
  const Product first{width, width}, second{width, outputs};
  pack(parameters[0], parameters[1], first, made);
  pack(parameters[2], parameters[3], second, made + first.size());
}

// made (rows, outputs) = a layer, ReLU and another layer of rows (rows, width).
extern "C" void perceptron_pass(const float* rows, const float* weights, float* made, int64_t num_rows, int64_t width,
                                int64_t outputs, int64_t threads) {
  const Product first{width, width}, second{width, outputs};
  const int64_t stride = padded(width);
  float *given = room<LAYERS>(2 * num_rows * stride), *hidden = given + num_rows * stride;
  for (int64_t row = 0; row < num_rows; row++) std::copy_n(rows + row * width, width, given + row * stride);
  threads = std::max<int64_t>(1, std::min(threads, num_rows * (first.size() + second.size()) / LEAST_WORK));
#pragma omp parallel num_threads(threads)
  {
#pragma omp for schedule(static)
    for (int64_t block = 0; block < first.num_blocks(); block++)
      multiply_all(first, weights, given, num_rows, block, [&](int64_t row, int64_t output, Floats value) {
        store(hidden + row * stride + output, larger(value, Floats{}));
      });
#pragma omp for schedule(static)
    for (int64_t block = 0; block < second.num_blocks(); block++)
      multiply_all(second, weights + first.size(), hidden, num_rows, block,
                   [&](int64_t row, int64_t output, Floats value) { store(made + row * outputs + output, value); });
  }
}

// made (batch, length, width) = the outputs at `length` tokens, behind `start` others of which `caches` hold keys and
// values: one of each layer, (2, batch, heads, window, width / heads); theirs are added. `visible` (window, window): who
// sees whom.
extern "C" void transformer_pass(const float* embeddings, const float* positions, const float* weights, float* const* caches,
                                 const uint8_t* visible, float* made, int64_t batch, int64_t length, int64_t start,
                                 int64_t window, int64_t layers, int64_t heads, int64_t width, int64_t threads,
                                 double epsilon) {
  const Layer layer(width);
  const int64_t rows = batch * length, head_width = width / heads, stop = start + length;
  const int64_t stride = padded(width), wide = padded(4 * width);
  float* x = room<LAYERS>(rows * (2 * width + stride + wide));
  float *queries = x + rows * width, *attended = queries + rows * width, *widened = attended + rows * stride;
  for (int64_t row = 0; row < rows; row++) {
    const float *embedding = embeddings + row * width, *position = positions + (start + row % length) * width;
    for (int64_t at = 0; at < width; at++) x[row * width + at] = embedding[at] + position[at];
  }
  const float scale = 1 / std::sqrt(static_cast<float>(head_width));
  threads = std::max<int64_t>(1, std::min(threads, rows * layer.size / LEAST_WORK));

#pragma omp parallel num_threads(threads)
  {
    float* normed = room<NORMED>(rows * stride);
    float* scores = room<SCORES>(2 * (window + LANES));
    const float* own = weights;
    for (int64_t index = 0; index < layers; index++, own += layer.size) {
      float* cache = caches[index];
      const auto add = [&](int64_t row, int64_t output, Floats value) {
        float* target = x + row * width + output;
        store(target, load(target) + value);
      };
      normalise(x, rows, width, own + layer.norm1, epsilon, stride, normed);
#pragma omp for schedule(static)
      for (int64_t block = 0; block < layer.qkv.num_blocks(); block++)
        multiply_all(layer.qkv, own + layer.at_qkv, normed, rows, block, [&](int64_t row, int64_t output, Floats value) {
          const int64_t part = output / width, place = output % width, head = place / head_width;
          if (part == 0) return store(queries + row * width + place, value * scale);
          const int64_t pair = ((part - 1) * batch + row / length) * heads + head;
          store(cache + (pair * window + start + row % length) * head_width + place % head_width, value);
        });
#pragma omp for schedule(static)
      for (int64_t pair = 0; pair < batch * heads; pair++) {
        const float *keys = cache + pair * window * head_width, *values = keys + batch * heads * window * head_width;
        const int64_t first = pair / heads * length, place = pair % heads * head_width;
        for (int64_t token = 0; token < length; token += 2) {
          const int64_t seen[2] = {seen_by(visible, window, start + token, stop),
                                   token + 1 < length ? seen_by(visible, window, start + token + 1, stop) : 0};
          const float* query = queries + (first + token) * width + place;
          float* target = attended + (first + token) * stride + place;
          if (token + 1 < length)
            attend<2>(query, width, keys, values, seen, head_width, keys + window * head_width, scores, target, stride);
          else
            attend<1>(query, width, keys, values, seen, head_width, keys + window * head_width, scores, target, stride);
        }
      }
#pragma omp for schedule(static)
      for (int64_t block = 0; block < layer.out.num_blocks(); block++)
        multiply_all(layer.out, own + layer.at_out, attended, rows, block, add);
      normalise(x, rows, width, own + layer.norm2, epsilon, stride, normed);
#pragma omp for schedule(static)
      for (int64_t block = 0; block < layer.widen.num_blocks(); block++)
        multiply_all(layer.widen, own + layer.at_widen, normed, rows, block, [&](int64_t row, int64_t output, Floats value) {
          store(widened + row * wide + output, gelu(value));
        });
#pragma omp for schedule(static)
      for (int64_t block = 0; block < layer.narrow.num_blocks(); block++)
        multiply_all(layer.narrow, own + layer.at_narrow, widened, rows, block, add);
    }
#pragma omp for schedule(static)
    for (int64_t row = 0; row < rows; row++)
      normalise(x + row * width, 1, width, own, epsilon, width, made + row * width);
  }
}

// In sampling.cpp.
extern "C" void draw_classes(const float* logits, const double* numbers, int64_t* made, int64_t rows, int64_t classes,
                             double whole);

// made (tokens, batch) = a frame's tokens, drawn one after another by numbers (tokens, batch): the first from `output`
// (batch, width), each other one from the output at the one before, whose embedding lies in table (classes, width). `head`
// is a perceptron's weights. The last token is not passed through.
extern "C" void transformer_frame(const float* output, const float* head, const float* table, const double* numbers,
                                  int64_t* made, const float* positions, const float* weights, float* const* caches,
                                  const uint8_t* visible, int64_t tokens, int64_t classes, int64_t batch, int64_t start,
                                  int64_t window, int64_t layers, int64_t heads, int64_t width, int64_t threads,
                                  double whole, double epsilon) {
  std::vector<float> outputs(output, output + batch * width), embedded(batch * width), logits(batch * classes);
  for (int64_t token = 0; token < tokens; token++, made += batch, numbers += batch) {
    perceptron_pass(outputs.data(), head, logits.data(), batch, width, classes, threads);
    draw_classes(logits.data(), numbers, made, batch, classes, whole);
    if (token + 1 == tokens) break;
    for (int64_t row = 0; row < batch; row++) std::copy_n(table + made[row] * width, width, &embedded[row * width]);
    transformer_pass(embedded.data(), positions, weights, caches, visible, outputs.data(), batch, 1, start + token, window,
                     layers, heads, width, threads, epsilon);
  }
}
