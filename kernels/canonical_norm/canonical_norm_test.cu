// Both against the processor's canonical kernels of vision.h, bit by bit: widths around sixteen partial sums, around each count of registers and
// beyond them all, types on both sides, rows that are not finite, strided views whose neighbours stay untouched.
#include "canonical_norm/canonical_norm.h"

#include <limits>

#include "strided_buffer.h"
#include "vision/vision.h"

using namespace comneck;
using namespace comneck::cuda;

namespace {

constexpr int32_t kTypes[] = {COMNECK_F32, COMNECK_BF16, COMNECK_F16};
constexpr int32_t kWidths[] = {1,   2,   15,  16,  17,   31,   32,   33,   64,   192,  255,  256,  257,  767,
                               768, 769, 800, 1023, 1024, 1025, 1280, 1281, 1791, 1792, 1793, 1850};

int32_t type_of(Random *random) { return kTypes[random->below(3)]; }

std::vector<float> values_of(Random *random, int64_t count) {
  std::vector<float> values;
  for (int64_t i = 0; i < count; i++) values.push_back(hard_value(random, false));
  return values;
}

struct Norm {
  Norm(Random *random, int32_t channel_count)
      : channels(channel_count), weight(values_of(random, channels)), bias(values_of(random, channels)), device_weight(weight), device_bias(bias) {
    epsilon = random->below(3) == 0 ? 0.0f : 1e-5f;  // without it a row of one value divides by zero
  }

  // On the processor, in F32, rounded once to the destination's type.
  std::vector<uint8_t> expected(const std::vector<float> &rows, const StridedBuffer &to) const {
    std::vector<float> normed(rows.size());
    const auto count = static_cast<int64_t>(rows.size()) / channels;
    vision_portable().layer_norm({{rows.data(), kF32, channels}, {normed.data(), kF32, channels}, weight.data(), bias.data(), channels, epsilon}, 0, count);
    StridedBuffer filled = to;
    for (int64_t r = 0; r < count; r++) {
      for (int32_t c = 0; c < channels; c++) filled.set(r, c, normed[static_cast<size_t>(r * channels + c)]);
    }
    return filled.bytes;
  }

  int32_t channels;
  float epsilon;
  std::vector<float> weight, bias;
  DeviceArray<float> device_weight, device_bias;
};

std::vector<float> floats_of(const StridedBuffer &from, int64_t rows, int32_t channels) {
  std::vector<float> values;
  for (int64_t r = 0; r < rows; r++) {
    for (int32_t c = 0; c < channels; c++) values.push_back(from.get(r, c));
  }
  return values;
}

// Some rows far from zero and close to each other, so that the mean's last bit shows, and epsilon.
void calm(Random *random, StridedBuffer *from, int64_t rows, int32_t channels) {
  for (int64_t r = random->below(2); r < rows; r += 2) {
    for (int32_t c = 0; c < channels; c++) from->set(r, c, 3.0f + 0.02f * static_cast<float>(random->uniform()));
  }
}

// A NaN, infinities and what overflows in a sum, each in a row of its own, first and last channel among others.
void spoil(Random *random, StridedBuffer *from, int64_t rows, int32_t channels) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const float bad[] = {NAN, kInfinity, -kInfinity, 3e38f, -60000.0f};
  for (int64_t r = random->below(3); r < rows; r += 1 + random->below(3)) {
    const int32_t places[] = {0, channels - 1, static_cast<int32_t>(random->below(channels))};
    from->set(r, places[random->below(3)], bad[random->below(5)]);
  }
}

void check_layer_norm(Random *random, int64_t rows, int32_t channels, int32_t type, bool spoiled) {
  StridedBuffer from(random, rows, channels, type, false);
  const StridedBuffer to(random, rows, channels, type_of(random), false);
  calm(random, &from, rows, channels);
  if (spoiled) spoil(random, &from, rows, channels);
  const Norm norm(random, channels);
  DeviceArray<uint8_t> device_from(from.bytes), device_to(to.bytes);
  CHECK(layer_norm(from.side(device_from.data()), norm.device_weight.data(), norm.device_bias.data(), norm.epsilon, to.side(device_to.data()),
                   rows, channels, nullptr) == cudaSuccess);
  char what[80];
  std::snprintf(what, sizeof what, "%lld rows of %d, types %d and %d", static_cast<long long>(rows), channels, type, to.type);
  to.check_same(norm.expected(floats_of(from, rows, channels), to), device_to.to_host(), what);
  CHECK(device_from.to_host() == from.bytes);
  // in place
  CHECK(layer_norm(from.side(device_from.data()), norm.device_weight.data(), norm.device_bias.data(), norm.epsilon, from.side(device_from.data()),
                   rows, channels, nullptr) == cudaSuccess);
  from.check_same(norm.expected(floats_of(from, rows, channels), from), device_from.to_host(), what);
}

void check_embed_norm(Random *random, int64_t images, int64_t tokens, int32_t shift, int32_t channels, int32_t type, bool spoiled) {
  const int64_t patches = images * (tokens - shift), rows = images * tokens;
  StridedBuffer from(random, patches, channels, type, false);
  const StridedBuffer to(random, rows, channels, type_of(random), false);
  calm(random, &from, patches, channels);
  std::vector<float> token = values_of(random, shift * channels), table = values_of(random, tokens * channels);
  if (spoiled) {
    spoil(random, &from, patches, channels);
    table[static_cast<size_t>(random->below(tokens * channels))] = NAN;
    if (shift == 1 && random->below(2) == 0) token[static_cast<size_t>(random->below(channels))] = -std::numeric_limits<float>::infinity();
  }
  const Norm norm(random, channels);
  std::vector<float> values = floats_of(from, patches, channels), embedded(static_cast<size_t>(rows * channels));
  vision_portable().embed({{values.data(), kF32, channels}, {embedded.data(), kF32, channels}, shift == 0 ? nullptr : token.data(), table.data(), tokens, channels},
                          0, rows);
  DeviceArray<uint8_t> device_from(from.bytes), device_to(to.bytes);
  const DeviceArray<float> device_token(token), device_table(table);
  CHECK(embed_norm(from.side(device_from.data()), device_token.data(), device_table.data(), tokens, shift, norm.device_weight.data(),
                   norm.device_bias.data(), norm.epsilon, to.side(device_to.data()), rows, channels, nullptr) == cudaSuccess);
  char what[120];
  std::snprintf(what, sizeof what, "%lld images of %lld tokens of %d, %d of them class tokens, types %d and %d", static_cast<long long>(images),
                static_cast<long long>(tokens), channels, shift, type, to.type);
  to.check_same(norm.expected(embedded, to), device_to.to_host(), what);
}

void check_misuse() {
  const Side none{nullptr, 1, COMNECK_F32};
  const auto norm = [&](int64_t rows, int32_t channels) { return layer_norm(none, nullptr, nullptr, 0, none, rows, channels, nullptr); };
  CHECK(norm(-1, 4) == cudaErrorInvalidValue);
  CHECK(norm(4, 0) == cudaErrorInvalidValue);
  CHECK(norm(int64_t{INT32_MAX} * 2 + 1, 4) == cudaErrorInvalidValue);
  CHECK(norm(0, 4) == cudaSuccess);
  const auto embed = [&](int64_t tokens, int32_t shift, int64_t rows, int32_t channels) {
    return embed_norm(none, nullptr, nullptr, tokens, shift, nullptr, nullptr, 0, none, rows, channels, nullptr);
  };
  CHECK(embed(3, 1, -3, 4) == cudaErrorInvalidValue);
  CHECK(embed(3, 1, 3, 0) == cudaErrorInvalidValue);
  CHECK(embed(3, 2, 3, 4) == cudaErrorInvalidValue);
  CHECK(embed(3, -1, 3, 4) == cudaErrorInvalidValue);
  CHECK(embed(0, 0, 3, 4) == cudaErrorInvalidValue);
  CHECK(embed(3, 1, 4, 4) == cudaErrorInvalidValue);
  CHECK(embed(3, 1, 0, 4) == cudaSuccess);
}

}  // namespace

int main() {
  check_misuse();
  Random random{61};
  for (const int32_t channels : kWidths) {
    const bool wide = channels > 257;  // fewer rows, or the sanitizers take minutes
    for (const int32_t type : kTypes) {
      for (const bool spoiled : {false, true}) {
        for (const int64_t rows : {0, 1, 2, 7, 33}) {
          if (rows < 7 || !wide) check_layer_norm(&random, rows, channels, type, spoiled);
        }
        for (const int64_t images : {0, 1, 3}) {
          for (const int64_t tokens : {1, 2, 17}) {
            for (const int32_t shift : {0, 1}) {
              if (images * tokens < 9 || !wide) check_embed_norm(&random, images, tokens, shift, channels, type, spoiled);
            }
          }
        }
      }
    }
  }
  for (const int32_t shift : {0, 1}) check_embed_norm(&random, 3, 257, shift, 192, COMNECK_F32, true);
  check_embed_norm(&random, 1, 257, 1, 1024, COMNECK_F32, false);
#if defined(COMNECK_EMULATION)
  for (uint64_t seed = 2; seed < 6; seed++) {
    emulation::seed(seed);
    check_embed_norm(&random, 3, 17, 1, 100, COMNECK_BF16, true);
    check_layer_norm(&random, 33, 100, COMNECK_F32, true);
  }
#endif
  return 0;
}
