// A class for each row of logits, at a uniformly drawn place among the shares of all classes, end to end.

#include <limits>

#include "vectors.hpp"

using namespace irisflow;

namespace {

constexpr int64_t ALONE = 1 << 15;  // logits that one thread has seen to before another has begun

}  // namespace

// made (rows) = the class of each row of logits (rows, classes) whose shares hold its number, in [0, 1). Shares are the
// probabilities in whole numbers, so many as `whole`.
extern "C" void draw_classes(const float* logits, const double* numbers, int64_t* made, int64_t rows, int64_t classes,
                             double whole) {
  const int64_t size = (classes + LANES - 1) / LANES * LANES;
#pragma omp parallel for schedule(static) if (rows * classes > ALONE)
  for (int64_t row = 0; row < rows; row++) {
    float* shares = room<DRAWN>(size);
    for (int64_t k = 0; k < size; k++)
      shares[k] = k < classes ? logits[row * classes + k] : -std::numeric_limits<float>::infinity();
    Floats largest = load(shares), sums{};
    for (int64_t k = LANES; k < size; k += LANES) largest = larger(largest, load(shares + k));
    const float top = largest_of(largest);
    for (int64_t k = 0; k < size; k += LANES) {
      const Floats power = exponential(load(shares + k) - top);
      store(shares + k, power);
      sums += power;
    }
    const float sum = sum_of(sums);
    const auto share = [&](int64_t k) { return static_cast<int64_t>(shares[k] / sum * static_cast<float>(whole)); };
    int64_t total = 0, end = 0, found = 0;
    for (int64_t k = 0; k < classes; k++) total += share(k);
    const auto place = static_cast<int64_t>(numbers[row] * static_cast<double>(total));
    for (; found + 1 < classes; found++) {
      end += share(found);
      if (end > place) break;
    }
    made[row] = found;
  }
}
