// Tables and symbols for the tests and the benchmark of rANS: seeded, like those of a codec.
#ifndef COMNECK_TEST_RANS_SYMBOLS_H
#define COMNECK_TEST_RANS_SYMBOLS_H

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "check.h"
#include "comneck.h"
#include "entropy/rans_tables.h"

namespace comneck {

struct Random {  // splitmix64
  uint64_t state;
  uint64_t next() {
    uint64_t z = state += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }
  double uniform() { return (static_cast<double>(next() >> 11) + 0.5) * 0x1p-53; }
  int64_t below(int64_t n) { return static_cast<int64_t>(next() % static_cast<uint64_t>(n)); }
};

inline double scale_of(int t) { return std::exp(std::log(0.11) + (std::log(256.0) - std::log(0.11)) * t / 63); }

// 64 normal distributions, 12 bits: what CodingTablesBuilder makes, but for the search of the best range.
inline RansTables gaussian_tables() {
  std::vector<int32_t> shift(64), first(64), count(64), frequency(64 * 256);
  for (int t = 0; t < 64; t++) {
    const double scale = scale_of(t);
    while (3.7 * scale / (1 << shift[t]) > 125) shift[t]++;
    const double unit = 1 << shift[t];
    const int reach = std::min(127, std::max(1, static_cast<int>(std::ceil(3.7 * scale / unit - 0.5))));
    first[t] = -reach;
    count[t] = 2 * reach + 1;
    int sum = 0;
    int32_t *f = frequency.data() + t * 256;
    for (int q = 0; q < count[t]; q++) {
      const double low = ((first[t] + q) * unit - 0.5) / scale;
      const double high = low + unit / scale;
      const double p = (std::erfc(low / std::sqrt(2.0)) - std::erfc(high / std::sqrt(2.0))) / 2;
      f[q] = std::max(1, static_cast<int>(p * (4096 - 256)));
      sum += f[q];
    }
    f[count[t]] = 1;
    f[reach] += 4096 - 1 - sum;
  }
  RansTables tables;
  CHECK_EQ(pack_tables(64, shift.data(), first.data(), count.data(), frequency.data(), &tables), COMNECK_OK);
  return tables;
}

// Tables as of a factorized prior: one a channel, of very different shapes, too large together for a GPU's shared memory.
inline RansTables channel_tables() {
  constexpr int32_t kTables = 160;
  std::vector<int32_t> shift(kTables), first(kTables), count(kTables), frequency(kTables * 256);
  for (int32_t t = 0; t < kTables; t++) {
    const auto at = static_cast<size_t>(t);
    shift[at] = t % 9 == 8 ? 3 : 0;
    count[at] = 1 + t * 37 % 255;
    first[at] = -(count[at] / 2) - (t % 31 == 30 ? 4000 : 0);
    int32_t left = 4096 - count[at] - 1;
    for (int32_t q = 0; q <= count[at]; q++) {
      const int32_t more = q == count[at] ? left : left / 3;
      frequency[static_cast<size_t>(t * 256 + (q * 7) % (count[at] + 1))] += more;
      left -= more;
    }
    for (int32_t q = 0; q <= count[at]; q++) frequency[static_cast<size_t>(t * 256 + q)] += 1;
  }
  RansTables packed;
  CHECK_EQ(pack_tables(kTables, shift.data(), first.data(), count.data(), frequency.data(), &packed), COMNECK_OK);
  return packed;
}

struct Symbols {
  std::vector<uint8_t> indices;
  std::vector<int16_t> values;
};

// decay: chance that an index is not the next one; 0.11 gives about 0.77 bits a symbol.
inline Symbols symbols_of(Random *random, int64_t count, double decay) {
  Symbols symbols;
  symbols.indices.resize(static_cast<size_t>(count));
  symbols.values.resize(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; i++) {
    const int t = static_cast<int>(std::min(63.0, std::log(random->uniform()) / std::log(1 - decay)));
    const double normal = std::sqrt(-2 * std::log(random->uniform())) * std::cos(6.283185307179586 * random->uniform());
    symbols.indices[static_cast<size_t>(i)] = static_cast<uint8_t>(t);
    symbols.values[static_cast<size_t>(i)] =
        static_cast<int16_t>(std::clamp(std::nearbyint(normal * scale_of(t)), -32768.0, 32767.0));
  }
  return symbols;
}

}  // namespace comneck

#endif
