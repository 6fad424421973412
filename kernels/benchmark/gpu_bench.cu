// What the device makes of it, as JSON lines; every result is checked before it is timed. benchmarks/gpu/run.sh runs it; columns are in
// benchmarks/README.md. Compiled for the emulation it is the same program with tiny sizes, which shows that it works and nothing else.
//
//   rans_decode, rans_encode   the kernels alone, one pass of Gaussian symbols
//   canonical_gemm             the layers of ELIC's entropy networks, one by one
//   y_to_bytes                 latents on the host -> payload bytes there: the prepared run of an encoder's entropy part
//   bytes_to_y_hat             payload bytes handed over -> y_hat on the host: the prepared run of a whole decoder
//
// Floors are counted, not measured: fused multiply-adds, bytes that must cross the device's memory once, launches.
#include <algorithm>
#include <cstdio>
#include <functional>
#include <memory>

#include "canonical_conv/canonical_conv.h"
#include "comneck_cuda.h"
#include "device_array.h"
#include "entropy/rans_encoder.h"
#include "rans_decode/rans_batch.h"
#include "rans_decode/rans_decode.h"
#include "rans_encode/rans_encode.h"
#include "rans_symbols.h"
#include "runtime/device_info.h"

using namespace comneck;
using namespace comneck::cuda;

namespace {

#if defined(COMNECK_EMULATION)
constexpr bool kEmulated = true;
#else
constexpr bool kEmulated = false;
#endif

struct Machine {
  double fma_per_second = 0;    // 0: unknown
  double bytes_per_second = 0;
  int32_t multiprocessors = 4;
};

Machine machine() {
  Machine m;
  m.multiprocessors = probe(0).multiprocessors;
#if !defined(COMNECK_EMULATION)
  int major = 0, minor = 0, clock = 0, memory_clock = 0, bus = 0;
  CHECK(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0) == cudaSuccess);
  CHECK(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, 0) == cudaSuccess);
  const int lanes = major == 8 && minor == 0 ? 64 : 128;  // FP32 units of a multiprocessor
  if (cudaDeviceGetAttribute(&clock, cudaDevAttrClockRate, 0) == cudaSuccess) m.fma_per_second = 1e3 * clock * lanes * m.multiprocessors;
  if (cudaDeviceGetAttribute(&memory_clock, cudaDevAttrMemoryClockRate, 0) == cudaSuccess &&
      cudaDeviceGetAttribute(&bus, cudaDevAttrGlobalMemoryBusWidth, 0) == cudaSuccess) {
    m.bytes_per_second = 2e3 * memory_clock * bus / 8;
  }
#endif
  return m;
}

// Median and least milliseconds of what is queued on the default stream, after two rounds to warm up.
struct Times {
  double median;
  double least;
};

Times measure(int repeats, const std::function<void()> &work) {
  cudaEvent_t from = nullptr, to = nullptr;
  CHECK(cudaEventCreate(&from) == cudaSuccess && cudaEventCreate(&to) == cudaSuccess);
  std::vector<double> times;
  for (int i = -2; i < repeats; i++) {
    CHECK(cudaEventRecord(from, nullptr) == cudaSuccess);
    work();
    CHECK(cudaEventRecord(to, nullptr) == cudaSuccess);
    CHECK(cudaStreamSynchronize(nullptr) == cudaSuccess);
    float ms = 0;
    CHECK(cudaEventElapsedTime(&ms, from, to) == cudaSuccess);
    if (i >= 0) times.push_back(static_cast<double>(ms));
  }
  (void)cudaEventDestroy(from);
  (void)cudaEventDestroy(to);
  std::sort(times.begin(), times.end());
  return {times[times.size() / 2], times[0]};
}

// fma, bytes: the floor.
void print(const Machine &m, const char *bench, const char *what, int32_t batch, const Times &times, double fma, double bytes, int32_t launches,
           double symbols) {
  std::printf("{\"bench\":\"%s\",\"what\":\"%s\",\"batch\":%d,\"emulated\":%s,\"ms\":%.4f,\"least_ms\":%.4f,\"floor_fma\":%.0f,\"floor_bytes\":%.0f,"
              "\"launches\":%d",
              bench, what, batch, kEmulated ? "true" : "false", times.median, times.least, fma, bytes, launches);
  if (symbols > 0) std::printf(",\"gsym_per_s\":%.4f", symbols / times.median * 1e-6);
  if (m.fma_per_second > 0) {
    std::printf(",\"floor_ms\":%.5f,\"share_of_fp32_peak\":%.4f", 1e3 * std::max(fma / m.fma_per_second, bytes / std::max(1.0, m.bytes_per_second)),
                fma / m.fma_per_second / (times.median * 1e-3));
  }
  std::printf("}\n");
  std::fflush(stdout);
}

// ------------------------------------------------------------------------------------------------------------------------------- rANS

void bench_rans(const Machine &m, int32_t batch, int32_t count, int repeats) {
  Random random{41};
  const RansTables tables = gaussian_tables();
  constexpr int32_t kDistinct = 8;  // images that differ; the others are the same again
  std::vector<Symbols> images;
  std::vector<std::vector<uint8_t>> payloads;
  std::vector<uint32_t> checksums;
  RansEncoder encoder;
  for (int32_t n = 0; n < std::min(batch, kDistinct); n++) {
    images.push_back(symbols_of(&random, count, 0.11));
    const RansPass pass{&tables, images.back().indices.data(), images.back().values.data(), count};
    encoder.encode(&pass, 1, 0);
    payloads.push_back(encoder.payload());
    checksums.push_back(encoder.symbol_checksum());
  }
  std::vector<int16_t> values;
  std::vector<uint8_t> indices;
  std::vector<float> means;  // mean 0, and a scale that gives the symbol's table
  std::vector<RansImage> laid_out(static_cast<size_t>(batch));
  std::vector<RansSections> sections(laid_out.size());
  std::vector<uint16_t> words;
  std::vector<uint8_t> bits;
  std::vector<float> thresholds;
  for (int t = 0; t < 63; t++) thresholds.push_back(static_cast<float>(scale_of(t)));
  double coded_bytes = 0;
  for (size_t n = 0; n < laid_out.size(); n++) {
    const Symbols &image = images[n % images.size()];
    const std::vector<uint8_t> &payload = payloads[n % images.size()];
    coded_bytes += static_cast<double>(payload.size());
    values.insert(values.end(), image.values.begin(), image.values.end());
    indices.insert(indices.end(), image.indices.begin(), image.indices.end());
    for (const uint8_t index : image.indices) {
      means.push_back(0);
      means.push_back(index == 63 ? 1e9f : thresholds[index]);
    }
    PayloadHead head;
    PayloadDamage damage;
    CHECK(read_payload_head(payload.data(), static_cast<int64_t>(payload.size()), &head, &damage));
    const auto first_word = static_cast<int64_t>(words.size());
    const auto first_bit = static_cast<int64_t>(bits.size());
    words.resize(words.size() + static_cast<size_t>(words_room(head)));
    bits.resize(bits.size() + static_cast<size_t>(head.bit_bytes + kBitPadding));
    lay_out(payload.data(), head, words.data(), first_word, bits.data(), first_bit, &laid_out[n], &sections[n]);
  }
  const auto all = static_cast<size_t>(batch) * static_cast<size_t>(count);
  const int32_t per_block = batch <= 2 * m.multiprocessors ? 1 : 4;

  std::vector<uint8_t> packed;
  const RansTablesLayout layout = pack_device_tables(tables, &packed);
  DeviceArray<uint8_t> device_tables(packed);
  DeviceArray<RansImage> fresh(laid_out), device_images(laid_out);
  DeviceArray<uint16_t> device_words(words);
  DeviceArray<uint8_t> device_bits(bits), device_indices(all);
  DeviceArray<float> device_means(means), device_thresholds(thresholds), hat(all);
  DeviceArray<int16_t> symbols(all), coded(all);
  RansDecodeCall decode{};
  decode.images = device_images.data();
  decode.image_count = batch;
  decode.words = device_words.data();
  decode.bits = device_bits.data();
  decode.tables = device_tables.data();
  decode.layout = layout;
  decode.grid = COMNECK_FULL;
  decode.height = 1;
  decode.width = count;
  decode.positions = count;
  decode.channels = 1;
  decode.means = device_means.data();
  decode.means_stride = 2;
  decode.thresholds = device_thresholds.data();
  decode.threshold_count = 63;
  decode.symbols = symbols.data();
  decode.symbols_stride = 1;
  decode.hat = hat.data();
  decode.hat_stride = 1;
  decode.indices = device_indices.data();
  decode.coded = coded.data();
  decode.coded_stride = count;
  const auto run_decode = [&] {
    CHECK(cudaMemcpyAsync(device_images.data(), fresh.data(), laid_out.size() * sizeof(RansImage), cudaMemcpyDeviceToDevice, nullptr) == cudaSuccess);
    CHECK(rans_decode(decode, per_block, nullptr) == cudaSuccess);
    CHECK(rans_finish(device_images.data(), batch, device_bits.data(), coded.data(), count, count, nullptr) == cudaSuccess);
  };
  run_decode();
  CHECK(symbols.to_host() == values);
  const std::vector<RansImage> finished = device_images.to_host();
  for (size_t n = 0; n < finished.size(); n++) {
    CHECK(finished[n].error == RansError::kNone);
    CHECK_EQ(finished[n].checksum, checksums[n % checksums.size()]);
  }
  // payload in, mean and scale in, symbol and latent out
  print(m, "rans_decode", "one pass and the end", batch, measure(repeats, run_decode), 0, coded_bytes + 14.0 * static_cast<double>(all), 2,
        static_cast<double>(all));

  std::vector<uint8_t> block;
  RansEncodePass pass{};
  pass.tables = append_encode_tables(tables, &block);
  DeviceArray<uint8_t> encode_tables(block), encode_indices(indices);
  DeviceArray<int16_t> encode_values(values);
  pass.count = count;
  pass.indices = encode_indices.data();
  pass.indices_stride = count;
  pass.values = encode_values.data();
  pass.values_stride = count;
  DeviceArray<RansEncodePass> passes(std::vector<RansEncodePass>{pass});
  RansEncodeCall encode{};
  encode.image_count = batch;
  encode.passes = passes.data();
  encode.pass_count = 1;
  encode.symbols = count;
  encode.tables = encode_tables.data();
  encode.tables_bytes = static_cast<int32_t>(block.size());
  encode.payload_room = count / 2 + 4096;
  encode.word_room = rans_encode_words(count, 1);
  encode.side_room = rans_encode_side(encode.payload_room);
  const auto rooms = static_cast<size_t>(batch);
  DeviceArray<uint8_t> out(rooms * static_cast<size_t>(encode.payload_room));
  DeviceArray<uint16_t> word_scratch(rooms * static_cast<size_t>(encode.word_room));
  DeviceArray<uint32_t> side_scratch(rooms * static_cast<size_t>(encode.side_room));
  DeviceArray<RansEncoded> encoded(rooms);
  encode.payloads = out.data();
  encode.words = word_scratch.data();
  encode.side = side_scratch.data();
  encode.encoded = encoded.data();
  const auto run_encode = [&] { CHECK(rans_encode(encode, per_block, nullptr) == cudaSuccess); };
  run_encode();
  const std::vector<RansEncoded> results = encoded.to_host();
  const std::vector<uint8_t> bytes = out.to_host();
  for (size_t n = 0; n < results.size(); n++) {
    const std::vector<uint8_t> &payload = payloads[n % payloads.size()];
    CHECK_EQ(results[n].bytes, static_cast<int64_t>(payload.size()));
    CHECK(std::equal(payload.begin(), payload.end(), bytes.begin() + static_cast<std::ptrdiff_t>(n) * encode.payload_room));
  }
  // symbol and table in, payload out
  print(m, "rans_encode", "one pass", batch, measure(repeats, run_encode), 0, coded_bytes + 3.0 * static_cast<double>(all), 1, static_cast<double>(all));
}

// ------------------------------------------------------------------------------------------------------------------- a whole decoder

struct Sizes {
  int32_t divisor;  // of ELIC's channels
  int32_t z;        // side of z's grid
  int32_t count;    // rans symbols of an image
  int repeats;
};

#define NEED(call)                                                                                  \
  do {                                                                                              \
    if ((call) != COMNECK_OK) {                                                                     \
      std::fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #call, comneck_last_error());     \
      std::exit(1);                                                                                 \
    }                                                                                               \
  } while (0)

// ELIC's entropy networks with seeded weights, as a plan that encodes or one that decodes.
class Elic {
 public:
  Elic(const Sizes &sizes, comneck_context *context) : sizes_(sizes), context_(context) {
    for (int t = 0; t < 63; t++) thresholds_.push_back(static_cast<float>(scale_of(t)));
    n_ = 192 / sizes.divisor;
    for (const int32_t c : {16, 16, 32, 64, 192}) slices_.push_back(std::max(1, c / sizes.divisor));
    for (const int32_t c : slices_) m_ += c;
    medians_.assign(static_cast<size_t>(n_), 0.25f);
    hyper_ = tables(true, n_);
    latent_ = tables(false, 64);
    hidden_ = {scaled(224), scaled(128), scaled(640), scaled(512), scaled(288)};
    layers_ = {layer(n_, n_, 5, 2, COMNECK_TRANSPOSED, 0), layer(n_, hidden_[4], 5, 2, COMNECK_TRANSPOSED, 0),
               layer(hidden_[4], 2 * m_, 3, 1, COMNECK_DIRECT, 0)};
    for (size_t i = 0; i < slices_.size(); i++) {
      const int32_t c = slices_[i];
      const int32_t inputs = i == 0 ? 0 : i == 1 ? slices_[0] : slices_[0] + slices_[i - 1];
      if (i > 0) {
        layers_.push_back(layer(inputs, hidden_[0], 5, 1, COMNECK_DIRECT, 0));
        layers_.push_back(layer(hidden_[0], hidden_[1], 5, 1, COMNECK_DIRECT, 0));
        layers_.push_back(layer(hidden_[1], 2 * c, 5, 1, COMNECK_DIRECT, 0));
      }
      layers_.push_back(layer(c, 2 * c, 5, 1, COMNECK_CHECKERBOARD, 0));
      layers_.push_back(layer(2 * c + (i > 0 ? 2 * c : 0) + 2 * m_, hidden_[2], 1, 1, COMNECK_DIRECT, 0));
      layers_.push_back(layer(hidden_[2], hidden_[3], 1, 1, COMNECK_DIRECT, 0));
      layers_.push_back(layer(hidden_[3], 2 * c, 1, 1, COMNECK_DIRECT, 0.4f));
    }
  }
  ~Elic() {
    for (comneck_layer *one : layers_) comneck_layer_destroy(one);
    comneck_tables_destroy(hyper_);
    comneck_tables_destroy(latent_);
  }
  Elic(const Elic &) = delete;
  Elic &operator=(const Elic &) = delete;

  struct Run {
    ~Run() { comneck_plan_destroy(plan); }
    comneck_plan *plan = nullptr;
    int32_t batch = 0;
    int64_t end = 0;
    double fma = 0;
    int32_t launches = 0;
    comneck_view z, y, y_hat, z_symbols;
    std::vector<comneck_view> symbols, indices;

    template <class T>
    T *port(const comneck_view &view) const {
      void *memory = nullptr;
      NEED(comneck_plan_port_memory(plan, view.offset_bytes, &memory));
      return static_cast<T *>(memory);
    }
  };

  std::unique_ptr<Run> record(int32_t batch, bool encodes) {
    auto run = std::make_unique<Run>();
    Run &r = *run;
    r.batch = batch;
    NEED(comneck_plan_create(context_, &r.plan));
    const int32_t s = sizes_.z;
    r.z = buffer(r, COMNECK_F32, COMNECK_FULL, s, n_);
    r.y = buffer(r, COMNECK_F32, COMNECK_FULL, 4 * s, m_);
    r.y_hat = buffer(r, COMNECK_F32, COMNECK_FULL, 4 * s, m_);
    r.z_symbols = buffer(r, COMNECK_I16, COMNECK_FULL, s, n_);
    const comneck_view z_hat = buffer(r, COMNECK_F32, COMNECK_FULL, s, n_);
    const comneck_view h1 = buffer(r, COMNECK_F32, COMNECK_FULL, 2 * s, n_);
    const comneck_view h2 = buffer(r, COMNECK_F32, COMNECK_FULL, 4 * s, hidden_[4]);
    const comneck_view hyper = buffer(r, COMNECK_F32, COMNECK_FULL, 4 * s, 2 * m_);
    const comneck_view c1 = buffer(r, COMNECK_F32, COMNECK_FULL, 4 * s, hidden_[0]);
    const comneck_view c2 = buffer(r, COMNECK_F32, COMNECK_FULL, 4 * s, hidden_[1]);
    const auto median_bytes = static_cast<int64_t>(4 * medians_.size());
    const auto threshold_bytes = static_cast<int64_t>(4 * thresholds_.size());
    if (encodes) {
      NEED(comneck_plan_quantize_factorized(r.plan, &r.z, medians_.data(), median_bytes, &r.z_symbols, &z_hat));
    } else {
      NEED(comneck_plan_payloads(r.plan, batch));
      NEED(comneck_plan_decode_factorized(r.plan, hyper_, medians_.data(), median_bytes, &r.z_symbols, &z_hat));
    }
    r.launches++;
    size_t next = 0;
    convolution(r, layers_[next++], {z_hat}, COMNECK_RELU, h1);
    convolution(r, layers_[next++], {h1}, COMNECK_RELU, h2);
    convolution(r, layers_[next++], {h2}, COMNECK_NONE, hyper);
    int32_t first = 0;
    for (size_t i = 0; i < slices_.size(); first += slices_[i], i++) {
      const int32_t c = slices_[i];
      std::vector<comneck_view> support;
      if (i > 0) {
        std::vector<comneck_view> seen{part(r.y_hat, 0, slices_[0])};
        if (i > 1) seen.push_back(part(r.y_hat, first - slices_[i - 1], slices_[i - 1]));
        support.push_back(buffer(r, COMNECK_F32, COMNECK_FULL, 4 * s, 2 * c));
        convolution(r, layers_[next++], seen, COMNECK_RELU, c1);
        convolution(r, layers_[next++], {c1}, COMNECK_RELU, c2);
        convolution(r, layers_[next++], {c2}, COMNECK_NONE, support[0]);
      }
      support.push_back(hyper);
      const comneck_view slice = part(r.y_hat, first, c);
      const comneck_view of_y = part(r.y, first, c);
      for (const int32_t grid : {COMNECK_ANCHORS, COMNECK_NON_ANCHORS}) {
        std::vector<comneck_view> sources = support;
        comneck_view near{};
        near.channels = 2 * c;  // absent at the anchors
        if (grid == COMNECK_NON_ANCHORS) {
          near = buffer(r, COMNECK_F32, grid, 4 * s, 2 * c);
          convolution(r, layers_[next], {slice}, COMNECK_NONE, near);
        }
        sources.insert(sources.begin(), near);
        const comneck_view p0 = buffer(r, COMNECK_F32, grid, 4 * s, hidden_[2]);
        const comneck_view p1 = buffer(r, COMNECK_F32, grid, 4 * s, hidden_[3]);
        const comneck_view p2 = buffer(r, COMNECK_F32, grid, 4 * s, 2 * c);
        convolution(r, layers_[next + 1], sources, COMNECK_RELU, p0);
        convolution(r, layers_[next + 2], {p0}, COMNECK_RELU, p1);
        convolution(r, layers_[next + 3], {p1}, COMNECK_NONE, p2);
        r.symbols.push_back(buffer(r, COMNECK_I16, grid, 4 * s, c));
        if (encodes) {
          r.indices.push_back(buffer(r, COMNECK_U8, grid, 4 * s, c));
          NEED(comneck_plan_quantize_gaussian(r.plan, &of_y, &p2, thresholds_.data(), threshold_bytes, &r.indices.back(), &r.symbols.back(), &slice));
        } else {
          NEED(comneck_plan_decode_gaussian(r.plan, latent_, &p2, thresholds_.data(), threshold_bytes, &r.symbols.back(), &slice));
        }
        r.launches++;
      }
      next += 4;
    }
    const auto port = [&](const comneck_view &view, int32_t direction) { NEED(comneck_plan_port(r.plan, view.offset_bytes, view.bytes, direction)); };
    if (encodes) {
      port(r.z, COMNECK_INPUT);
      port(r.y, COMNECK_INPUT);
      std::vector<const comneck_tables *> tables(r.symbols.size() + 1, latent_);
      tables[0] = hyper_;
      r.symbols.insert(r.symbols.begin(), r.z_symbols);
      r.indices.insert(r.indices.begin(), comneck_view{});
      NEED(comneck_plan_encode(r.plan, tables.data(), r.symbols.data(), r.indices.data(), static_cast<int32_t>(tables.size()), 0));
      r.launches++;
    } else {
      NEED(comneck_plan_finish_payloads(r.plan));
      r.launches++;
    }
    port(r.y_hat, COMNECK_OUTPUT);
    void *memory = nullptr;
    NEED(comneck_plan_seal(r.plan, r.end, &memory));
    return run;
  }

  // Encodes random latents, decodes them as often as asked, and says how long that took.
  void bench(const Machine &m, int32_t batch) {
    const std::unique_ptr<Run> writes = record(batch, true);
    Random random{51};
    float *z = writes->port<float>(writes->z);
    float *y = writes->port<float>(writes->y);
    for (int64_t i = 0; i < writes->z.bytes / 4; i++) z[i] = static_cast<float>(random.uniform() * 6 - 3);
    for (int64_t i = 0; i < writes->y.bytes / 4; i++) y[i] = static_cast<float>((random.uniform() + random.uniform() - 1) * 1.5);
    const auto write = [&] { NEED(comneck_plan_execute(writes->plan)); };
    write();
    std::vector<std::vector<uint8_t>> payloads;
    std::vector<int32_t> checksums;
    double bytes = 0;
    for (int32_t n = 0; n < batch; n++) {
      const void *payload = nullptr;
      int64_t length = 0;
      checksums.emplace_back();
      NEED(comneck_plan_encoded(writes->plan, n, &payload, &length, &checksums.back()));
      payloads.emplace_back(static_cast<const uint8_t *>(payload), static_cast<const uint8_t *>(payload) + length);
      bytes += static_cast<double>(length);
    }
    const std::unique_ptr<Run> reads = record(batch, false);
    const auto run = [&] {
      for (int32_t n = 0; n < batch; n++) {
        const std::vector<uint8_t> &payload = payloads[static_cast<size_t>(n)];
        NEED(comneck_plan_payload(reads->plan, n, payload.data(), static_cast<int64_t>(payload.size()), checksums[static_cast<size_t>(n)]));
      }
      NEED(comneck_plan_execute(reads->plan));
    };
    run();
    for (int32_t n = 0; n < batch; n++) {
      char text[200];
      int64_t offset = 0;
      NEED(comneck_plan_damage(reads->plan, n, text, sizeof text, &offset));
      if (text[0] != 0) std::fprintf(stderr, "image %d: %s\n", n, text);
      CHECK(text[0] == 0);
    }
    CHECK(std::memcmp(reads->port<char>(reads->y_hat), writes->port<char>(writes->y_hat), static_cast<size_t>(reads->y_hat.bytes)) == 0);
    print(m, "y_to_bytes", "prepared run, host to host", batch, measure(sizes_.repeats, write), writes->fma,
          bytes + weight_bytes_ + static_cast<double>(writes->y.bytes + writes->z.bytes + writes->y_hat.bytes), writes->launches, 0);
    const Times times = measure(sizes_.repeats, run);
    print(m, "bytes_to_y_hat", "prepared run, host to host", batch, times, reads->fma, bytes + weight_bytes_ + static_cast<double>(reads->y_hat.bytes), reads->launches, 0);
  }

  // Each layer of a decoder alone, at full grids: rows of all images.
  static void bench_layers(const Machine &m, const Sizes &sizes, int32_t batch) {
    struct Shape {
      const char *name;
      int32_t inputs, outputs, kernel;
    };
    double fma = 0, ms = 0;
    for (const Shape &shape : {Shape{"aggregation 1x1 640-640", 640, 640, 1}, Shape{"aggregation 1x1 640-512", 640, 512, 1},
                               Shape{"context 5x5 80-224", 80, 224, 5}, Shape{"context 5x5 224-128", 224, 128, 5},
                               Shape{"hyper 3x3 288-640", 288, 640, 3}}) {
      const int32_t in = std::max(4, shape.inputs / sizes.divisor), out = std::max(4, shape.outputs / sizes.divisor);
      const int32_t side = 4 * sizes.z;
      const comneck_convolution geometry{in, out, shape.kernel, shape.kernel, 1, shape.kernel / 2, COMNECK_DIRECT, COMNECK_PRECISION_F32};
      Random random{61};
      std::vector<float> weights(static_cast<size_t>(in * out * shape.kernel * shape.kernel));
      for (float &w : weights) w = static_cast<float>(random.uniform() - 0.5);
      const ConvLayer layer = pack_layer(geometry, weights.data(), nullptr);
      const auto rows = static_cast<size_t>(batch * side * side);
      std::vector<float> input(rows * static_cast<size_t>(in));
      for (float &x : input) x = static_cast<float>(random.uniform() - 0.5);
      DeviceArray<float> device_weights(layer.weights), bias(layer.bias), source(input), destination(rows * static_cast<size_t>(out)), small(rows * static_cast<size_t>(out));
      DeviceArray<ConvTap> taps(layer.taps);
      DeviceArray<ConvPhase> phases(layer.phases);
      ConvCall call{};
      call.sources[0] = {{source.data(), in, COMNECK_F32}, in, 0, false};
      call.source_count = 1;
      call.weights = device_weights.data();
      call.bias = bias.data();
      call.taps = taps.data();
      call.phases = phases.data();
      call.phase_count = 1;
      call.input_channels = in;
      call.outputs = out;
      call.columns = layer.columns;
      call.input_height = call.height = side;
      call.input_width = call.width = side;
      call.input_step = call.output_step = 1;
      call.images = batch;
      call.grid = COMNECK_FULL;
      call.positions = side * side;
      call.destination = {small.data(), out, COMNECK_F32};
      CHECK(canonical_conv(call, ConvTile::kSmall, m.multiprocessors, nullptr) == cudaSuccess);
      call.destination = {destination.data(), out, COMNECK_F32};
      const auto run = [&] { CHECK(canonical_conv(call, ConvTile::kAuto, m.multiprocessors, nullptr) == cudaSuccess); };
      run();
      CHECK(destination.to_host() == small.to_host());  // both tilings, the same bits
      const Times times = measure(sizes.repeats, run);
      const double work = static_cast<double>(rows) * out * in * shape.kernel * shape.kernel;  // rim included
      print(m, "canonical_gemm", shape.name, batch, times, work, 4.0 * (static_cast<double>(rows) * (in + out) + static_cast<double>(weights.size())), 1, 0);
      fma += work;
      ms += times.median;
    }
    print(m, "canonical_gemm", "all of these", batch, {ms, ms}, fma, 0, 5, 0);
  }

 private:
  int32_t scaled(int32_t channels) const { return std::max(4, channels / sizes_.divisor); }

  comneck_tables *tables(bool factorized, int32_t count) {
    const RansTables source = factorized ? channel_tables() : gaussian_tables();
    std::vector<int32_t> shift, first, values, frequency(static_cast<size_t>(count) * kTableSymbols);
    for (size_t t = 0; t < static_cast<size_t>(count); t++) {
      const size_t from = t % source.shapes.size();
      shift.push_back(source.shapes[from].shift);
      first.push_back(source.shapes[from].first);
      values.push_back(source.shapes[from].count);
      for (size_t q = 0; q <= static_cast<size_t>(values.back()); q++) {
        frequency[t * kTableSymbols + q] = static_cast<int32_t>(source.codes[from * kTableSymbols + q] & 0xFFFF);
      }
    }
    const auto bytes = [](const std::vector<int32_t> &v) { return static_cast<int64_t>(4 * v.size()); };
    comneck_tables *made = nullptr;
    NEED(comneck_tables_create(count, shift.data(), bytes(shift), first.data(), bytes(first), values.data(), bytes(values), frequency.data(), bytes(frequency), &made));
    return made;
  }

  comneck_layer *layer(int32_t inputs, int32_t outputs, int32_t kernel, int32_t stride, int32_t kind, float bias_of_all) {
    const comneck_convolution geometry{inputs, outputs, kernel, kernel, stride, kernel / 2, kind, COMNECK_PRECISION_F32};
    const auto each = static_cast<size_t>(inputs * kernel * kernel);
    std::vector<float> weight(each * static_cast<size_t>(outputs));
    for (float &w : weight) w = static_cast<float>((random_.uniform() * 2 - 1) / static_cast<double>(each));
    const std::vector<float> bias(static_cast<size_t>(outputs), bias_of_all);
    weight_bytes_ += 4.0 * static_cast<double>(weight.size());
    comneck_layer *made = nullptr;
    NEED(comneck_layer_create(context_, &geometry, weight.data(), static_cast<int64_t>(4 * weight.size()), COMNECK_F32, bias.data(),
                              static_cast<int64_t>(4 * bias.size()), COMNECK_F32, &made));
    geometries_.push_back(geometry);
    return made;
  }

  static comneck_view buffer(Run &run, int32_t type, int32_t grid, int32_t side, int32_t channels) {
    const int64_t positions = grid == COMNECK_FULL ? side * side : side * side / 2;
    const int64_t bytes = positions * run.batch * channels * (type == COMNECK_F32 ? 4 : type == COMNECK_I16 ? 2 : 1);
    const comneck_view view{run.end, bytes, type, grid, run.batch, side, side, channels, 0, channels};
    run.end += (bytes + 63) / 64 * 64;
    return view;
  }

  static comneck_view part(comneck_view view, int32_t first, int32_t channels) {
    view.channel_offset = first;
    view.channels = channels;
    return view;
  }

  void convolution(Run &run, comneck_layer *by, const std::vector<comneck_view> &sources, int32_t function, const comneck_view &destination) {
    NEED(comneck_plan_convolution(run.plan, by, sources.data(), static_cast<int32_t>(sources.size()), nullptr, function, &destination));
    const auto number = static_cast<size_t>(std::find(layers_.begin(), layers_.end(), by) - layers_.begin());
    const comneck_convolution &g = geometries_[number];
    int32_t present = 0;
    for (const comneck_view &source : sources) present += source.channel_stride != 0 ? source.channels : 0;
    double taps = g.kernel_height * g.kernel_width;
    if (g.kind == COMNECK_CHECKERBOARD) taps = static_cast<double>(g.kernel_height * g.kernel_width / 2);
    if (g.kind == COMNECK_TRANSPOSED) taps /= g.stride * g.stride;
    run.fma += static_cast<double>(destination.bytes) / 4 * taps * present;  // destinations are whole buffers here
    run.launches++;
  }

  Sizes sizes_;
  comneck_context *context_;
  Random random_{71};
  int32_t n_ = 0, m_ = 0;
  std::vector<int32_t> slices_, hidden_;
  std::vector<float> thresholds_, medians_;
  std::vector<comneck_layer *> layers_;
  std::vector<comneck_convolution> geometries_;
  comneck_tables *hyper_ = nullptr, *latent_ = nullptr;
  double weight_bytes_ = 0;
};

}  // namespace

int main() {
  const Machine m = machine();
  const Sizes sizes = kEmulated ? Sizes{16, 1, 1200, 2} : Sizes{1, 4, 81920, 21};
  const std::vector<int32_t> rans_batches = kEmulated ? std::vector<int32_t>{1, 9} : std::vector<int32_t>{1, 64, 1024};
  const std::vector<int32_t> run_batches = kEmulated ? std::vector<int32_t>{1, 3} : std::vector<int32_t>{1, 16, 64};
  for (const int32_t batch : rans_batches) bench_rans(m, batch, sizes.count, sizes.repeats);
  for (const int32_t batch : kEmulated ? std::vector<int32_t>{2} : std::vector<int32_t>{1, 16}) Elic::bench_layers(m, sizes, batch);
  comneck_context *context = nullptr;
  NEED(comneck_context_create(0, COMNECK_ISA_AUTO, &context));
  {
    Elic elic(sizes, context);
    for (const int32_t batch : run_batches) elic.bench(m, batch);
  }
  comneck_context_destroy(context);
  return 0;
}
