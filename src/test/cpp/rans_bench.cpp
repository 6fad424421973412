// Speed of rANS on one core: 8.39 M symbols, 64 tables, about 0.77 bits a symbol (geometrically distributed indices), in passes of 256 K.
// Every instruction set in turn, checked first, then timed; the median of the repeats counts. JSON lines.
//   rans_bench [repeats] [substreams]
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <vector>

#include "check.h"
#include "comneck.h"
#include "entropy/checksum.h"
#include "entropy/rans_decoder.h"
#include "entropy/rans_encoder.h"
#include "entropy/rans_isa.h"
#include "rans_symbols.h"

using namespace comneck;

namespace {

double best(const std::vector<double> &values) { return *std::min_element(values.begin(), values.end()); }

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// Of this thread's own processor time, so that other work on the machine counts less.
double now() {
  timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

template <class Body>
double seconds(const Body &body) {
  const double start = now();
  body();
  return now() - start;
}

void bench(const RansTables &tables, int64_t count, int64_t pass, int repeats, int32_t substreams) {
  Random random{7};
  const Symbols symbols = symbols_of(&random, count, 0.12);
  std::vector<RansPass> passes;
  for (int64_t at = 0; at < count; at += pass) {
    passes.push_back({&tables, symbols.indices.data() + at, symbols.values.data() + at, std::min(pass, count - at)});
  }
  RansEncoder encoder;
  std::vector<double> encoding;
  for (int i = 0; i < repeats; i++) {
    encoding.push_back(seconds([&] { encoder.encode(passes.data(), static_cast<int32_t>(passes.size()), substreams); }));
  }
  const std::vector<uint8_t> payload = encoder.payload();
  const double bits = 8.0 * static_cast<double>(payload.size()) / static_cast<double>(count);
  const int used = (payload[0] & 31) + 1;

  const char *names[] = {"portable", "avx2", "avx512"};
  std::vector<int32_t> sets;
  for (const int32_t isa : {kIsaPortable, kIsaAvx2, kIsaAvx512}) {
    if (rans_isa(isa) == isa) sets.push_back(isa);
  }
  std::vector<std::vector<double>> times(sets.size());
  std::vector<int16_t> out(static_cast<size_t>(count));
  for (int i = -1; i < repeats; i++) {
    for (size_t k = 0; k < sets.size(); k++) {
      RansDecoder decoder(sets[k]);
      decoder.reserve(static_cast<int64_t>(payload.size()));
      const double time = seconds([&] {
        CHECK_EQ(decoder.start(payload.data(), static_cast<int64_t>(payload.size())), COMNECK_OK);
        for (size_t p = 0; p < passes.size(); p++) {
          CHECK_EQ(decoder.decode(tables, passes[p].indices, out.data() + static_cast<int64_t>(p) * pass, passes[p].count), COMNECK_OK);
        }
        CHECK_EQ(decoder.finish(encoder.symbol_checksum()), COMNECK_OK);
      });
      if (i < 0) {
        CHECK(out == symbols.values);
      } else {
        times[k].push_back(time);
      }
    }
  }
  for (size_t k = 0; k < sets.size(); k++) {
    std::printf("{\"preset\": \"rans-decode\", \"isa\": \"%s\", \"symbols\": %lld, \"substreams\": %d, \"bits_per_symbol\": %.4f, "
                "\"msymbols_per_s\": %.1f, \"best_msymbols_per_s\": %.1f, \"against_portable\": %.2f}\n",
                names[sets[k] - kIsaPortable], static_cast<long long>(count), used, bits,
                static_cast<double>(count) / median(times[k]) / 1e6,
                static_cast<double>(count) / best(times[k]) / 1e6, median(times[0]) / median(times[k]));
  }
  std::printf("{\"preset\": \"rans-encode\", \"isa\": \"portable\", \"symbols\": %lld, \"substreams\": %d, \"bits_per_symbol\": %.4f, "
              "\"msymbols_per_s\": %.1f}\n",
              static_cast<long long>(count), used, bits, static_cast<double>(count) / median(encoding) / 1e6);
}

}  // namespace

int main(int argc, char **argv) {
  const int repeats = argc > 1 ? std::atoi(argv[1]) : 9;
  const int32_t substreams = argc > 2 ? std::atoi(argv[2]) : 0;
  const RansTables tables = gaussian_tables();
  bench(tables, int64_t{1} << 23, 1 << 18, repeats, substreams);
  bench(tables, 81920, 8192, 20 * repeats, substreams);  // one 256x256 picture, ten passes
  return 0;
}
