// Attention of whole sequences, causal or not, of whose weights training drops some, and its gradients (Vaswani et al.
// 2017, section 3.2.1).
//
// A head of a sequence is one thread's; all it needs fits into a second-level cache. Its queries are taken a few at a time:
// their products with the keys they see, the softmax of these and the blend of the values follow one another while the first
// cache holds them. For the gradients the weights are kept, tile by tile, with a minus where they were dropped.

#include <algorithm>
#include <cmath>
#include <limits>

#include "random.hpp"

using namespace irisflow;

namespace {

constexpr int64_t TILE = DRAWN_TOGETHER;  // tokens that are seen, or not, together until single ones are masked
constexpr int QUERIES = LANES == 16 ? 8 : 4;  // rows of a product: they divide a tile

struct Sizes {
  int64_t tokens, width;
  bool is_causal;
  int64_t padded() const { return (tokens + TILE - 1) / TILE * TILE; }
  int64_t head() const { return padded() * width; }
  // How many keys queries of a tile may see, a multiple of TILE, and how many of them are there for queries up to one.
  int64_t seen(int64_t tile) const { return is_causal ? tile + TILE : padded(); }
  int64_t keys(int64_t queries) const { return is_causal ? queries : tokens; }
  // Of the queries before a tile, how many weights are kept.
  int64_t before(int64_t tile) const { return is_causal ? tile * (tile / TILE + 1) * TILE / 2 : tile * padded(); }
};

// to (padded tokens, width) = a head's tokens x scale, zeros behind them.
void gather(const float* from, int64_t stride, const Sizes& sizes, float scale, float* to) {
  for (int64_t token = 0; token < sizes.tokens; token++)
    for (int64_t at = 0; at < sizes.width; at++) to[token * sizes.width + at] = from[token * stride + at] * scale;
  std::fill(to + sizes.tokens * sizes.width, to + sizes.head(), 0.0f);
}

// to = the transposed of rows (padded tokens, width) in blocks of tokens: (blocks, width, BLOCK).
void transpose(const float* from, const Sizes& sizes, float* to) {
  for (int64_t first = 0; first < sizes.padded(); first += BLOCK)
    for (int64_t at = 0; at < sizes.width; at++)
      for (int64_t token = 0; token < BLOCK; token++)
        to[(first * sizes.width) + at * BLOCK + token] = from[(first + token) * sizes.width + at];
}

// A matrix that is multiplied: how far apart its rows lie, and the terms within one.
struct Rows {
  const float* data;
  int64_t row, term;
};

// made (QUERIES, Vectors x LANES) = rows (QUERIES, terms) times weights (terms, Vectors x LANES), or is raised by it.
template <int Vectors, bool Raises>
inline void multiply_block(const Rows& rows, const float* weights, int64_t weights_stride, int64_t terms, float* made,
                           int64_t made_stride) {
  Floats sums[QUERIES][Vectors] = {};
  if constexpr (Raises)
#pragma GCC unroll 8
    for (int row = 0; row < QUERIES; row++)
#pragma GCC unroll 4
      for (int vector = 0; vector < Vectors; vector++) sums[row][vector] = load(made + row * made_stride + vector * LANES);
  add_products<0>(rows.data, rows.row, rows.term, weights, weights_stride, terms, sums);
#pragma GCC unroll 8
  for (int row = 0; row < QUERIES; row++)
#pragma GCC unroll 4
    for (int vector = 0; vector < Vectors; vector++) store(made + row * made_stride + vector * LANES, sums[row][vector]);
}

// The same for all columns of a head.
template <bool Raises>
inline void multiply(const Rows& rows, const float* weights, int64_t terms, int64_t width, float* made) {
  int64_t at = 0;
  for (; at + BLOCK <= width; at += BLOCK)
    multiply_block<VECTORS, Raises>(rows, weights + at, width, terms, made + at, width);
  for (; at < width; at += LANES) multiply_block<1, Raises>(rows, weights + at, width, terms, made + at, width);
}

// made (QUERIES, seen) = products of QUERIES rows with the first `seen` tokens, a multiple of TILE, of those transposed.
inline void multiply_tokens(const float* rows, const float* transposed, int64_t seen, int64_t width, float* made) {
  for (int64_t first = 0; first < seen; first += BLOCK)
    multiply_block<VECTORS, false>({rows, width, 1}, transposed + first * width, BLOCK, width, made + first, seen);
}

inline Integers places() {
  Integers made;
  for (int lane = 0; lane < LANES; lane++) made[lane] = lane;
  return made;
}

// Make of a query's scores (seen, a multiple of TILE) its weights, 0 behind those of so many keys, dropped and grown; `kept`
// are those before, with a minus where they are dropped. A score that is no number makes all of them none.
inline void weigh(float* scores, int64_t seen, int64_t keys, uint32_t row, const Drop& drop, float* kept) {
  constexpr float lowest = std::numeric_limits<float>::lowest();
  const auto is_seen = [keys, place = places()](int64_t key) {
    return place + static_cast<int32_t>(key) < static_cast<int32_t>(keys);
  };
  Floats largest = Floats{} + lowest, sums{};
  for (int64_t key = 0; key < seen; key += LANES) {
    const Floats score = is_seen(key) ? load(scores + key) : Floats{} + lowest;
    store(scores + key, score);
    largest = larger(largest, score);
  }
  const float top = largest_of(largest);
  for (int64_t key = 0; key < seen; key += LANES) {
    const Floats score = load(scores + key), power = is_seen(key) ? exponential(score - top) : Floats{};
    store(scores + key, power);
    sums += power + 0.0f * score;
  }
  const float share = 1 / sum_of(sums);
  for (int64_t first = 0; first < seen; first += TILE) {
    uint32_t words[TILE] = {};
    if (drop.least) draw(drop.key, row, static_cast<uint32_t>(first), words);
#pragma GCC unroll 8
    for (int64_t at = 0; at < TILE; at += LANES) {
      const Floats weight = load(scores + first + at) * share;
      const auto is_kept = load_words(words + at) >= drop.least;
      store(scores + first + at, is_kept ? weight * drop.scale : Floats{});
      if (kept) store(kept + first + at, is_kept ? weight : -weight);
    }
  }
}

// Make of the gradient of a query's dropped weights (seen) that of its scores, and of its kept weights the dropped ones.
// With w the weights and g their gradient before they are dropped, it is w (g - sum of w g).
inline void weigh_gradient(const float* kept, int64_t seen, float scale, float* gradient, float* dropped) {
  Floats sums{};
  for (int64_t key = 0; key < seen; key += LANES) {
    const Floats left = larger(load(kept + key), Floats{}) * scale;
    store(dropped + key, left);
    sums += left * load(gradient + key);
  }
  const float sum = sum_of(sums);
  for (int64_t key = 0; key < seen; key += LANES) {
    const Floats weight = load(kept + key), size = larger(weight, -weight);
    store(gradient + key, load(dropped + key) * load(gradient + key) - size * sum);
  }
}

}  // namespace

// How many weights of a head are kept for the gradients.
extern "C" int64_t attention_kept(int64_t tokens, int64_t is_causal) {
  const Sizes sizes{tokens, 0, is_causal != 0};
  return sizes.before(sizes.padded());
}

// made (batch, tokens, heads, width) = what each query attends to, if causal, only among the keys up to its own; `kept`, if
// any, (batch, heads, attention_kept). Query, keys and values lie alike, at these strides.
extern "C" void attend(const float* query, const float* keys, const float* values, float* kept, float* made, int64_t batch,
                       int64_t heads, int64_t tokens, int64_t width, int64_t batch_stride, int64_t head_stride,
                       int64_t token_stride, int64_t is_causal, int64_t random_key, int64_t least, double scale) {
  const Sizes sizes{tokens, width, is_causal != 0};
  const Drop drop{static_cast<uint64_t>(random_key), static_cast<uint32_t>(least), static_cast<float>(scale)};
  const auto shrunk = static_cast<float>(1 / std::sqrt(static_cast<double>(width)));
#pragma omp parallel for schedule(static)
  for (int64_t index = 0; index < batch * heads; index++) {
    const int64_t start = index / heads * batch_stride + index % heads * head_stride;
    float* own_query = room<ATTENDED>(4 * sizes.head() + QUERIES * (sizes.padded() + width));
    float *own_keys = own_query + sizes.head(), *turned = own_keys + sizes.head(), *own_values = turned + sizes.head();
    float *scores = own_values + sizes.head(), *blend = scores + QUERIES * sizes.padded();
    gather(query + start, token_stride, sizes, shrunk, own_query);
    gather(keys + start, token_stride, sizes, 1.0f, own_keys);
    gather(values + start, token_stride, sizes, 1.0f, own_values);
    transpose(own_keys, sizes, turned);
    float* own_kept = kept ? kept + index * sizes.before(sizes.padded()) : nullptr;
    float* to = made + (index / heads * tokens * heads + index % heads) * width;
    for (int64_t first = 0; first < tokens; first += QUERIES) {
      const int64_t tile = first / TILE * TILE, seen = sizes.seen(tile), last = std::min(tokens, first + QUERIES);
      multiply_tokens(own_query + first * width, turned, seen, width, scores);
      for (int64_t token = first; token < last; token++) {
        float* kept_row = own_kept ? own_kept + sizes.before(tile) + (token - tile) * seen : nullptr;
        const auto row = static_cast<uint32_t>(index * tokens + token);
        weigh(scores + (token - first) * seen, seen, sizes.keys(token + 1), row, drop, kept_row);
      }
      multiply<false>({scores, seen, 1}, own_values, sizes.keys(last), width, blend);
      for (int64_t token = first; token < last; token++)
        std::copy_n(blend + (token - first) * width, width, to + token * heads * width);
    }
  }
}

// of_qkv (batch, tokens, 3, heads, width) = the gradients of query, keys and values, from that of what `attend` made,
// (batch, tokens, heads, width).
extern "C" void attend_gradient(const float* query, const float* keys, const float* values, const float* kept,
                                const float* gradient, float* of_qkv, int64_t batch, int64_t heads, int64_t tokens,
                                int64_t width, int64_t batch_stride, int64_t head_stride, int64_t token_stride,
                                int64_t is_causal, double scale) {
  const Sizes sizes{tokens, width, is_causal != 0};
  const auto grown = static_cast<float>(scale), shrunk = static_cast<float>(1 / std::sqrt(static_cast<double>(width)));
#pragma omp parallel for schedule(static)
  for (int64_t index = 0; index < batch * heads; index++) {
    const int64_t start = index / heads * batch_stride + index % heads * head_stride;
    float* own_query = room<ATTENDED>(7 * sizes.head() + 2 * TILE * sizes.padded());
    float *own_keys = own_query + sizes.head(), *turned = own_keys + sizes.head(), *own = turned + sizes.head();
    float *of_query = own + sizes.head(), *of_keys = of_query + sizes.head(), *of_values = of_keys + sizes.head();
    float *of_scores = of_values + sizes.head(), *dropped = of_scores + TILE * sizes.padded();
    gather(values + start, token_stride, sizes, 1.0f, own_keys);
    transpose(own_keys, sizes, turned);
    gather(query + start, token_stride, sizes, shrunk, own_query);
    gather(keys + start, token_stride, sizes, shrunk, own_keys);
    const int64_t place = index / heads * tokens * heads + index % heads;
    gather(gradient + place * width, heads * width, sizes, 1.0f, own);
    std::fill(of_keys, of_values + sizes.head(), 0.0f);
    for (int64_t tile = 0; tile < tokens; tile += TILE) {
      const int64_t seen = sizes.seen(tile), stop = std::min(tokens, tile + TILE);
      const float* own_kept = kept + index * sizes.before(sizes.padded()) + sizes.before(tile);
      for (int64_t first = tile; first < stop; first += QUERIES) {
        float* gradients = of_scores + (first - tile) * seen;
        multiply_tokens(own + first * width, turned, seen, width, gradients);
        const int64_t last = std::min(stop, first + QUERIES);
        for (int64_t token = first; token < last; token++) {
          const int64_t row = (token - tile) * seen;
          weigh_gradient(own_kept + row, seen, grown, of_scores + row, dropped + row);
        }
        multiply<false>({gradients, seen, 1}, own_keys, sizes.keys(last), width, of_query + first * width);
      }
      for (int64_t key = 0; key < sizes.keys(stop); key += QUERIES) {
        const int64_t from = is_causal ? std::max(tile, key) : tile, skipped = (from - tile) * seen + key;
        multiply<true>({dropped + skipped, 1, seen}, own + from * width, stop - from, width, of_values + key * width);
        multiply<true>({of_scores + skipped, 1, seen}, own_query + from * width, stop - from, width, of_keys + key * width);
      }
    }
    for (int64_t part = 0; part < 3; part++)
      for (int64_t token = 0; token < tokens; token++) {
        const int64_t at = ((index / heads * tokens + token) * 3 + part) * heads + index % heads;
        std::copy_n(of_query + part * sizes.head() + token * width, width, of_qkv + at * width);
      }
  }
}
