// Whole plans of a small codec, hyper-synthesis and two checkerboard passes, on two libraries: what one of them encodes the other one decodes,
// to the same symbols and latents, bit by bit, in batches of 1, 3 and 16, and one hostile payload harms no other image of its batch. Also the
// beginning of a neck, in one step and in two.
//
//   kernel_plan_test libcomneck.so libcomneck_cuda_emulated.so      (or libcomneck_cuda.so, on a machine with a GPU)
//
// On the emulation also: nothing is allocated once a plan is sealed, a run is one launch of its graph, and every call of CUDA's that fails
// becomes the status that says so, after which the library works again.
#include <dlfcn.h>

#include <cstring>
#include <string>
#include <vector>

#include "comneck_cuda.h"
#include "rans_symbols.h"

using namespace comneck;

namespace {

// comneck.h in a library that was loaded.
struct Library {
  explicit Library(const char *path) : handle(dlopen(path, RTLD_NOW | RTLD_LOCAL)) {
    if (handle == nullptr) std::fprintf(stderr, "%s\n", dlerror());
    CHECK(handle != nullptr);
#define FIND(name) name = reinterpret_cast<decltype(&comneck_##name)>(dlsym(handle, "comneck_" #name)); CHECK(name != nullptr)
    FIND(last_error); FIND(context_create); FIND(context_destroy); FIND(layer_create); FIND(layer_destroy); FIND(plan_create);
    FIND(plan_stage); FIND(plan_port); FIND(plan_port_memory); FIND(plan_seal); FIND(plan_execute); FIND(plan_nanos); FIND(plan_destroy);
    FIND(plan_convolution); FIND(plan_quantize_gaussian); FIND(plan_quantize_factorized); FIND(plan_payloads);
    FIND(plan_decode_factorized); FIND(plan_decode_gaussian); FIND(plan_finish_payloads); FIND(plan_payload); FIND(plan_damage);
    FIND(plan_encode); FIND(plan_encoded); FIND(plan_bytes); FIND(plan_embed); FIND(plan_layer_norm);
    FIND(tables_create); FIND(tables_destroy); FIND(rans_encoder_create); FIND(rans_encode); FIND(rans_encoder_destroy);
#undef FIND
    inject = reinterpret_cast<void (*)(int32_t, int32_t, int32_t, int32_t)>(dlsym(handle, "comneck_emulation_inject"));
    count = reinterpret_cast<int64_t (*)(int32_t)>(dlsym(handle, "comneck_emulation_count"));
    is_device = dlsym(handle, "comneck_cuda_probe") != nullptr;
    embed_norm = reinterpret_cast<decltype(embed_norm)>(dlsym(handle, "comneck_cuda_plan_embed_norm"));
    launches = reinterpret_cast<decltype(launches)>(dlsym(handle, "comneck_cuda_plan_launches"));
    CHECK((embed_norm != nullptr) == is_device && (launches != nullptr) == is_device);
  }

  void *handle;
#define FUNCTION(name) decltype(&comneck_##name) name = nullptr
  FUNCTION(last_error); FUNCTION(context_create); FUNCTION(context_destroy); FUNCTION(layer_create); FUNCTION(layer_destroy);
  FUNCTION(plan_create); FUNCTION(plan_stage); FUNCTION(plan_port); FUNCTION(plan_port_memory); FUNCTION(plan_seal); FUNCTION(plan_execute);
  FUNCTION(plan_nanos); FUNCTION(plan_destroy); FUNCTION(plan_convolution); FUNCTION(plan_quantize_gaussian);
  FUNCTION(plan_quantize_factorized); FUNCTION(plan_payloads); FUNCTION(plan_decode_factorized); FUNCTION(plan_decode_gaussian);
  FUNCTION(plan_encode); FUNCTION(plan_encoded); FUNCTION(plan_bytes); FUNCTION(plan_embed); FUNCTION(plan_layer_norm);
  FUNCTION(plan_finish_payloads); FUNCTION(plan_payload); FUNCTION(plan_damage); FUNCTION(tables_create); FUNCTION(tables_destroy);
  FUNCTION(rans_encoder_create); FUNCTION(rans_encode); FUNCTION(rans_encoder_destroy);
#undef FUNCTION
  void (*inject)(int32_t, int32_t, int32_t, int32_t);  // null but on the emulation
  int64_t (*count)(int32_t);
  bool is_device;
  decltype(&comneck_cuda_plan_embed_norm) embed_norm;  // null on the processor
  decltype(&comneck_cuda_plan_launches) launches;
};

constexpr int32_t kZ = 6;        // channels of z
constexpr int32_t kHyper = 10;   // of the hyper-synthesis
constexpr int32_t kLatent = 5;   // of y
constexpr int32_t kZHeight = 3;
constexpr int32_t kZWidth = 2;
constexpr int32_t kHeight = 2 * kZHeight;
constexpr int32_t kWidth = 2 * kZWidth;
constexpr int32_t kAnchors = kHeight * kWidth / 2;

#define TRY(call)                                                    \
  do {                                                               \
    if (const int32_t status_ = (call); status_ != COMNECK_OK) return status_; \
  } while (0)

// Layers and tables of the codec: the same numbers on every library.
struct Codec {
  explicit Codec(const Library &library) : api(library) {}
  ~Codec() {
    if (encoder != nullptr) api.rans_encoder_destroy(encoder);
    for (comneck_tables *tables : {channel_tables, gaussian_tables}) api.tables_destroy(tables);
    for (comneck_layer *layer : {hyper, first, context_layer, second}) api.layer_destroy(layer);
    api.context_destroy(context);
  }

  int32_t open() {
    Random random{31};
    for (int t = 0; t < 63; t++) thresholds.push_back(static_cast<float>(scale_of(t)));
    for (int32_t c = 0; c < kZ; c++) medians.push_back(static_cast<float>(random.uniform()) - 0.5f);
    TRY(api.context_create(api.is_device ? 0 : 1, COMNECK_ISA_AUTO, &context));
    TRY(layer(&random, {kZ, kHyper, 4, 4, 2, 1, COMNECK_TRANSPOSED, COMNECK_PRECISION_F32}, 0.0f, &hyper));
    TRY(layer(&random, {kHyper, 2 * kLatent, 1, 1, 1, 0, COMNECK_DIRECT, COMNECK_PRECISION_F32}, 1.5f, &first));
    TRY(layer(&random, {kLatent, kHyper, 5, 5, 1, 2, COMNECK_CHECKERBOARD, COMNECK_PRECISION_F32}, 0.0f, &context_layer));
    TRY(layer(&random, {2 * kHyper, 2 * kLatent, 1, 1, 1, 0, COMNECK_DIRECT, COMNECK_PRECISION_F32}, 1.5f, &second));
    TRY(tables(comneck::gaussian_tables(), &gaussian_tables));
    TRY(tables(comneck::channel_tables(), &channel_tables));
    return api.rans_encoder_create(context, &encoder);
  }

  int32_t layer(Random *random, comneck_convolution geometry, float bias_of_all, comneck_layer **made) const {
    const int64_t inputs = int64_t{geometry.input_channels} * geometry.kernel_height * geometry.kernel_width;
    std::vector<float> weight(static_cast<size_t>(inputs * geometry.output_channels));
    for (float &w : weight) w = static_cast<float>((random->uniform() * 2 - 1) / static_cast<double>(inputs) * 2);
    const std::vector<float> bias(static_cast<size_t>(geometry.output_channels), bias_of_all);
    return api.layer_create(context, &geometry, weight.data(), static_cast<int64_t>(4 * weight.size()), COMNECK_F32, bias.data(),
                            static_cast<int64_t>(4 * bias.size()), COMNECK_F32, made);
  }

  int32_t tables(const RansTables &source, comneck_tables **made) const {
    std::vector<int32_t> shift, start, count, frequency(source.shapes.size() * kTableSymbols);
    for (size_t t = 0; t < source.shapes.size(); t++) {
      shift.push_back(source.shapes[t].shift);
      start.push_back(source.shapes[t].first);
      count.push_back(source.shapes[t].count);
      for (size_t q = 0; q <= static_cast<size_t>(count.back()); q++) frequency[t * kTableSymbols + q] = source.codes[t * kTableSymbols + q] & 0xFFFF;
    }
    const auto bytes = [](const std::vector<int32_t> &values) { return static_cast<int64_t>(4 * values.size()); };
    return api.tables_create(static_cast<int32_t>(shift.size()), shift.data(), bytes(shift), start.data(), bytes(start), count.data(),
                             bytes(count), frequency.data(), bytes(frequency), made);
  }

  const Library &api;
  std::vector<float> thresholds, medians;
  comneck_context *context = nullptr;
  comneck_layer *hyper = nullptr, *first = nullptr, *context_layer = nullptr, *second = nullptr;
  comneck_tables *gaussian_tables = nullptr, *channel_tables = nullptr;
  comneck_rans_encoder *encoder = nullptr;
};

// An encoding or decoding plan with its buffers.
struct Plan {
  Plan(const Codec &owner, int32_t batch, bool encoding) : codec(owner), api(owner.api), images(batch), encodes(encoding) {
    z = view(COMNECK_F32, COMNECK_FULL, kZHeight, kZWidth, kZ);
    y = view(COMNECK_F32, COMNECK_FULL, kHeight, kWidth, kLatent);
    z_hat = view(COMNECK_F32, COMNECK_FULL, kZHeight, kZWidth, kZ);
    hyper = view(COMNECK_F32, COMNECK_FULL, kHeight, kWidth, kHyper);
    neighbours = view(COMNECK_F32, COMNECK_NON_ANCHORS, kHeight, kWidth, kHyper);
    y_hat = view(COMNECK_F32, COMNECK_FULL, kHeight, kWidth, kLatent);
    symbols[0] = view(COMNECK_I16, COMNECK_FULL, kZHeight, kZWidth, kZ);
    for (int pass = 0; pass < 2; pass++) {
      const int32_t grid = pass == 0 ? COMNECK_ANCHORS : COMNECK_NON_ANCHORS;
      parameters[pass] = view(COMNECK_F32, grid, kHeight, kWidth, 2 * kLatent);
      symbols[pass + 1] = view(COMNECK_I16, grid, kHeight, kWidth, kLatent);
      indices[pass] = view(COMNECK_U8, grid, kHeight, kWidth, kLatent);
    }
  }
  ~Plan() { api.plan_destroy(plan); }

  comneck_view view(int32_t type, int32_t grid, int32_t height, int32_t width, int32_t channels) {
    const int64_t positions = grid == COMNECK_FULL ? height * width : height * width / 2;
    const int64_t bytes = positions * images * channels * (type == COMNECK_F32 ? 4 : type == COMNECK_I16 ? 2 : 1);
    const comneck_view made{end, bytes, type, grid, images, height, width, channels, 0, channels};
    end += (bytes + 63) / 64 * 64;
    return made;
  }

  int32_t prepare() {
    TRY(api.plan_create(codec.context, &plan));
    const auto thresholds = static_cast<int64_t>(4 * codec.thresholds.size());
    int32_t stage = 0;
    TRY(api.plan_stage(plan, &stage));
    if (encodes) {
      TRY(api.plan_quantize_factorized(plan, &z, codec.medians.data(), 4 * kZ, &symbols[0], &z_hat));
    } else {
      TRY(api.plan_payloads(plan, images));
      TRY(api.plan_decode_factorized(plan, codec.channel_tables, codec.medians.data(), 4 * kZ, &symbols[0], &z_hat));
    }
    TRY(api.plan_stage(plan, &stage));
    TRY(api.plan_convolution(plan, codec.hyper, &z_hat, 1, nullptr, COMNECK_RELU, &hyper));
    for (int pass = 0; pass < 2; pass++) {
      TRY(api.plan_stage(plan, &stage));
      if (pass == 1) TRY(api.plan_convolution(plan, codec.context_layer, &y_hat, 1, nullptr, COMNECK_NONE, &neighbours));
      const comneck_view sources[] = {hyper, neighbours};
      TRY(api.plan_convolution(plan, pass == 0 ? codec.first : codec.second, sources, pass + 1, nullptr, COMNECK_NONE, &parameters[pass]));
      if (encodes) {
        TRY(api.plan_quantize_gaussian(plan, &y, &parameters[pass], codec.thresholds.data(), thresholds, &indices[pass], &symbols[pass + 1], &y_hat));
      } else {
        TRY(api.plan_decode_gaussian(plan, codec.gaussian_tables, &parameters[pass], codec.thresholds.data(), thresholds, &symbols[pass + 1], &y_hat));
      }
    }
    if (encodes) {
      TRY(api.plan_stage(plan, &stage));
      const comneck_tables *const tables[] = {codec.channel_tables, codec.gaussian_tables, codec.gaussian_tables};
      const comneck_view all_indices[] = {comneck_view{}, indices[0], indices[1]};
      TRY(api.plan_encode(plan, tables, symbols, all_indices, 3, images % 4));
    }
    stages = stage + 1;
    if (encodes) {
      for (const comneck_view *in : {&z, &y}) TRY(api.plan_port(plan, in->offset_bytes, in->bytes, COMNECK_INPUT));
      for (const comneck_view &out : indices) TRY(api.plan_port(plan, out.offset_bytes, out.bytes, COMNECK_OUTPUT));
    } else {
      TRY(api.plan_finish_payloads(plan));
    }
    for (const comneck_view &out : symbols) TRY(api.plan_port(plan, out.offset_bytes, out.bytes, COMNECK_OUTPUT));
    TRY(api.plan_port(plan, y_hat.offset_bytes, y_hat.bytes, COMNECK_OUTPUT));
    void *memory = nullptr;
    return api.plan_seal(plan, end, &memory);
  }

  // Host memory of a port, and where an image's part of it begins.
  template <class T>
  T *port(const comneck_view &of, int32_t image = 0) const {
    void *memory = nullptr;
    CHECK_EQ(api.plan_port_memory(plan, of.offset_bytes, &memory), COMNECK_OK);
    return static_cast<T *>(memory) + image * (of.bytes / images / static_cast<int64_t>(sizeof(T)));
  }

  std::string damage(int32_t image) const {
    char text[200];
    int64_t offset = 0;
    CHECK_EQ(api.plan_damage(plan, image, text, sizeof text, &offset), COMNECK_OK);
    return text;
  }

  const Codec &codec;
  const Library &api;
  const int32_t images;
  const bool encodes;
  int64_t end = 0;
  int32_t stages = 0;
  comneck_plan *plan = nullptr;
  comneck_view z, y, z_hat, hyper, neighbours, y_hat, parameters[2], symbols[3], indices[2];
};

struct Image {
  std::vector<float> z, y;                 // in
  std::vector<uint8_t> payload;            // out
  int32_t checksum = 0;
  std::vector<int16_t> symbols[3];
  std::vector<float> y_hat;
};

std::vector<Image> make_images(uint64_t seed, int32_t count) {
  Random random{seed};
  std::vector<Image> images(static_cast<size_t>(count));
  for (Image &image : images) {
    for (int i = 0; i < kZHeight * kZWidth * kZ; i++) image.z.push_back(static_cast<float>(random.uniform() * 12 - 6));
    for (int i = 0; i < kHeight * kWidth * kLatent; i++) {
      image.y.push_back(static_cast<float>((random.uniform() * 2 - 1) * (random.below(40) == 0 ? 30000 : 4)));
    }
  }
  return images;
}

template <class T>
std::vector<T> part(const Plan &plan, const comneck_view &of, int32_t image) {
  const T *from = plan.port<T>(of, image);
  return {from, from + of.bytes / plan.images / static_cast<int64_t>(sizeof(T))};
}

int32_t encode(const Codec &codec, Plan *plan, std::vector<Image> *images) {
  for (int32_t n = 0; n < plan->images; n++) {
    const Image &image = (*images)[static_cast<size_t>(n)];
    std::copy(image.z.begin(), image.z.end(), plan->port<float>(plan->z, n));
    std::copy(image.y.begin(), image.y.end(), plan->port<float>(plan->y, n));
  }
  TRY(codec.api.plan_execute(plan->plan));
  std::vector<uint8_t> z_indices(static_cast<size_t>(kZHeight * kZWidth * kZ));
  for (size_t i = 0; i < z_indices.size(); i++) z_indices[i] = static_cast<uint8_t>(i % kZ);
  for (int32_t n = 0; n < plan->images; n++) {
    Image &image = (*images)[static_cast<size_t>(n)];
    for (int p = 0; p < 3; p++) image.symbols[p] = part<int16_t>(*plan, plan->symbols[p], n);
    image.y_hat = part<float>(*plan, plan->y_hat, n);
    const std::vector<uint8_t> indices[] = {z_indices, part<uint8_t>(*plan, plan->indices[0], n), part<uint8_t>(*plan, plan->indices[1], n)};
    comneck_rans_pass passes[3];
    for (int p = 0; p < 3; p++) {
      const auto count = static_cast<int64_t>(indices[p].size());
      passes[p] = {p == 0 ? codec.channel_tables : codec.gaussian_tables, indices[p].data(), count, image.symbols[p].data(), 2 * count, count};
    }
    const void *payload = nullptr;
    int64_t bytes = 0;
    int32_t checksum = 0;
    TRY(codec.api.plan_encoded(plan->plan, n, &payload, &bytes, &image.checksum));
    image.payload.assign(static_cast<const uint8_t *>(payload), static_cast<const uint8_t *>(payload) + bytes);
    TRY(codec.api.rans_encode(codec.encoder, passes, sizeof passes, plan->images % 4, &payload, &bytes, &checksum));
    CHECK_EQ(bytes, static_cast<int64_t>(image.payload.size()));
    CHECK(std::memcmp(payload, image.payload.data(), image.payload.size()) == 0);
    CHECK_EQ(checksum, image.checksum);
  }
  return COMNECK_OK;
}

// hostile: the image whose payload is not one, or -1.
int32_t decode(const Codec &codec, Plan *plan, const std::vector<Image> &images, int32_t hostile, uint64_t seed) {
  Random random{seed};
  for (int32_t n = 0; n < plan->images; n++) {
    const Image &image = images[static_cast<size_t>(n)];
    std::vector<uint8_t> bytes = image.payload;
    if (n == hostile) {
      if (seed % 2 == 0) bytes.resize(static_cast<size_t>(random.below(static_cast<int64_t>(bytes.size()))));
      for (uint8_t &byte : bytes) byte = static_cast<uint8_t>(random.next());
      if (!bytes.empty()) bytes[0] = static_cast<uint8_t>(seed % 4);
    }
    TRY(codec.api.plan_payload(plan->plan, n, bytes.data(), static_cast<int64_t>(bytes.size()), image.checksum));
  }
  return codec.api.plan_execute(plan->plan);
}

void check_decoded(const Plan &plan, const std::vector<Image> &images, int32_t hostile) {
  for (int32_t n = 0; n < plan.images; n++) {
    const Image &image = images[static_cast<size_t>(n)];
    const std::string damage = plan.damage(n);
    if (n == hostile) {
      CHECK(!damage.empty());
      continue;
    }
    if (!damage.empty()) std::fprintf(stderr, "image %d of %d: %s\n", n, plan.images, damage.c_str());
    CHECK(damage.empty());
    for (int p = 0; p < 3; p++) CHECK(part<int16_t>(plan, plan.symbols[p], n) == image.symbols[p]);
    const std::vector<float> y_hat = part<float>(plan, plan.y_hat, n);
    CHECK(std::memcmp(y_hat.data(), image.y_hat.data(), 4 * y_hat.size()) == 0);
  }
}

// One writes, the other reads.
void check_across(const Library &writer_library, const Library &reader_library) {
  Codec writer(writer_library), reader(reader_library);
  CHECK_EQ(writer.open(), COMNECK_OK);
  CHECK_EQ(reader.open(), COMNECK_OK);
  for (const int32_t batch : {1, 3, 16}) {
    std::vector<Image> images = make_images(static_cast<uint64_t>(batch), batch);
    Plan writes(writer, batch, true), reads(reader, batch, false);
    CHECK_EQ(writes.prepare(), COMNECK_OK);
    CHECK_EQ(reads.prepare(), COMNECK_OK);
    CHECK_EQ(encode(writer, &writes, &images), COMNECK_OK);
    size_t distinct = 0;
    for (const Image &image : images) distinct += image.symbols[2] != images[0].symbols[2] ? 1 : 0;
    CHECK(distinct == images.size() - 1);  // or the comparisons below would show little
    for (int repeat = 0; repeat < 3; repeat++) {
      const int32_t hostile = repeat == 1 ? batch / 2 : -1;
      CHECK_EQ(decode(reader, &reads, images, hostile, static_cast<uint64_t>(100 + batch + repeat)), COMNECK_OK);
      check_decoded(reads, images, hostile);
    }
  }
}

// ------------------------------------------------------------------------------------------- the encoding step alone, at any size

// A plan whose inputs are symbols and indices.
struct Encoder {
  struct Pass {
    bool gaussian;  // else a table for each channel
    int32_t grid;
    int32_t height;
    int32_t width;
    int32_t channels;
    comneck_view symbols{};
    comneck_view indices{};
  };

  Encoder(const Codec &owner, int32_t batch, std::vector<Pass> list) : codec(owner), api(owner.api), images(batch), passes(std::move(list)) {
    for (Pass &pass : passes) {
      pass.symbols = view(COMNECK_I16, pass);
      if (pass.gaussian) pass.indices = view(COMNECK_U8, pass);
    }
  }
  ~Encoder() { api.plan_destroy(plan); }

  comneck_view view(int32_t type, const Pass &pass) {
    const int64_t bytes = count(pass) * images * (type == COMNECK_I16 ? 2 : 1);
    const comneck_view made{end, bytes, type, pass.grid, images, pass.height, pass.width, pass.channels, 0, pass.channels};
    end += (bytes + 63) / 64 * 64 + 64;
    return made;
  }

  static int64_t count(const Pass &pass) {
    const int64_t all = int64_t{pass.height} * pass.width;
    return pass.channels * (pass.grid == COMNECK_FULL ? all : pass.grid == COMNECK_ANCHORS ? (all + 1) / 2 : all / 2);
  }

  int32_t prepare(int32_t chosen_substreams) {
    substreams = chosen_substreams;
    TRY(api.plan_create(codec.context, &plan));
    std::vector<const comneck_tables *> tables;
    std::vector<comneck_view> symbols, indices;
    for (const Pass &pass : passes) {
      tables.push_back(pass.gaussian ? codec.gaussian_tables : codec.channel_tables);
      symbols.push_back(pass.symbols);
      indices.push_back(pass.indices);
      TRY(api.plan_port(plan, pass.symbols.offset_bytes, pass.symbols.bytes, COMNECK_INPUT));
      if (pass.gaussian) TRY(api.plan_port(plan, pass.indices.offset_bytes, pass.indices.bytes, COMNECK_INPUT));
    }
    TRY(api.plan_encode(plan, tables.data(), symbols.data(), indices.data(), static_cast<int32_t>(passes.size()), substreams));
    void *memory = nullptr;
    return api.plan_seal(plan, end, &memory);
  }

  template <class T>
  T *port(const comneck_view &of) const {
    void *memory = nullptr;
    CHECK_EQ(api.plan_port_memory(plan, of.offset_bytes, &memory), COMNECK_OK);
    return static_cast<T *>(memory);
  }

  // wild: chance of any 16-bit value, so of an escape most likely.
  void fill(uint64_t seed, double wild) const {
    Random random{seed};
    for (const Pass &pass : passes) {
      const Symbols drawn = symbols_of(&random, count(pass) * images, 0.11);
      auto *symbols = port<int16_t>(pass.symbols);
      for (size_t i = 0; i < drawn.values.size(); i++) {
        symbols[i] = random.uniform() < wild ? static_cast<int16_t>(random.next()) : drawn.values[i];
      }
      if (pass.gaussian) std::copy(drawn.indices.begin(), drawn.indices.end(), port<uint8_t>(pass.indices));
    }
  }

  // Every image's payload is the one that the processor's encoder makes of the same symbols. Returns the longest. wrong: the image that has an
  // index without a table, or -1.
  int64_t check(const Codec &expected, int32_t wrong) const {
    int64_t longest = 0;
    for (int32_t n = 0; n < images; n++) {
      std::vector<comneck_rans_pass> all;
      std::vector<std::vector<uint8_t>> channels(passes.size());
      for (size_t p = 0; p < passes.size(); p++) {
        const Pass &pass = passes[p];
        const int64_t symbols = count(pass);
        for (int64_t i = 0; i < symbols; i++) channels[p].push_back(static_cast<uint8_t>(i % pass.channels));
        const uint8_t *indices = pass.gaussian ? port<uint8_t>(pass.indices) + n * symbols : channels[p].data();
        all.push_back({pass.gaussian ? expected.gaussian_tables : expected.channel_tables, indices, symbols,
                       port<int16_t>(pass.symbols) + n * symbols, 2 * symbols, symbols});
      }
      const void *payload = nullptr, *same = nullptr;
      int64_t bytes = 0, same_bytes = 0;
      int32_t checksum = 0, same_checksum = 0;
      const int32_t status = api.plan_encoded(plan, n, &payload, &bytes, &checksum);
      const int32_t same_status = expected.api.rans_encode(expected.encoder, all.data(), static_cast<int64_t>(all.size() * sizeof all[0]), substreams,
                                                           &same, &same_bytes, &same_checksum);
      CHECK_EQ(status, n == wrong ? COMNECK_MISUSE : COMNECK_OK);
      CHECK_EQ(same_status, status);
      if (status != COMNECK_OK) continue;
      CHECK_EQ(bytes, same_bytes);
      CHECK(std::memcmp(payload, same, static_cast<size_t>(bytes)) == 0);
      CHECK_EQ(checksum, same_checksum);
      longest = std::max(longest, bytes);
    }
    return longest;
  }

  int64_t symbols() const {
    int64_t sum = 0;
    for (const Pass &pass : passes) sum += count(pass);
    return sum;
  }

  const Codec &codec;
  const Library &api;
  const int32_t images;
  std::vector<Pass> passes;
  int32_t substreams = 0;
  int64_t end = 0;
  comneck_plan *plan = nullptr;
};

void check_encoding(const Library &library, const Library &processor) {
  Codec codec(library), expected(processor);
  CHECK_EQ(codec.open(), COMNECK_OK);
  CHECK_EQ(expected.open(), COMNECK_OK);
  uint64_t seed = 400;
  // no symbol at all, 1, 31, 32, 33, 255 to 257, and some thousands
  for (const int32_t width : {1, 31, 32, 33, 85, 256, 1025}) {
    for (const int32_t batch : {1, 3, 16}) {
      if (batch == 16 && width > 256) continue;
      const int32_t substreams = static_cast<int32_t>(seed) % 3 == 0 ? 0 : static_cast<int32_t>(seed) % 3 == 1 ? 5 : 32;
      Encoder one(codec, batch, {{true, COMNECK_NON_ANCHORS, 1, width, 1}});
      CHECK_EQ(one.prepare(substreams), COMNECK_OK);
      Encoder all(codec, batch, {{false, COMNECK_FULL, 1, width, 3}, {true, COMNECK_ANCHORS, 1, width, 1}, {true, COMNECK_NON_ANCHORS, 1, width, 1},
                                 {false, COMNECK_FULL, 1, 1, 160}});
      CHECK_EQ(all.prepare(substreams), COMNECK_OK);
      for (const double wild : {0.0, 0.3}) {
        for (Encoder *encoder : {&one, &all}) {
          encoder->fill(seed++, wild);
          CHECK_EQ(library.plan_execute(encoder->plan), COMNECK_OK);
          encoder->check(expected, -1);
        }
      }
      // an index without a table harms its image alone, and the next execution nothing
      const int32_t wrong = batch / 2;
      const int64_t at = Encoder::count(all.passes[1]) * (wrong + 1) - 1;
      for (const uint8_t index : {uint8_t{64}, uint8_t{255}}) {
        all.port<uint8_t>(all.passes[1].indices)[at] = index;
        CHECK_EQ(library.plan_execute(all.plan), COMNECK_OK);
        all.check(expected, wrong);
      }
      all.port<uint8_t>(all.passes[1].indices)[at] = 63;
      CHECK_EQ(library.plan_execute(all.plan), COMNECK_OK);
      all.check(expected, -1);
    }
  }

  // Payloads of almost nothing but escapes: longer than their room, whose larger one stays.
  Encoder large(codec, 3, {{true, COMNECK_FULL, 40, 60, 4}});
  CHECK_EQ(large.prepare(0), COMNECK_OK);
  for (const double wild : {0.0, 1.0, 0.1, 1.0}) {
    large.fill(seed++, wild);
    CHECK_EQ(library.plan_execute(large.plan), COMNECK_OK);
    const int64_t longest = large.check(expected, -1);
    CHECK(wild < 1 || longest > 2 * large.symbols());
  }
}

void check_encoding_misuse(const Library &library) {
  Codec codec(library);
  CHECK_EQ(codec.open(), COMNECK_OK);
  Encoder sound(codec, 2, {{true, COMNECK_FULL, 2, 3, 4}, {false, COMNECK_FULL, 1, 2, 160}});
  CHECK_EQ(sound.prepare(0), COMNECK_OK);
  const void *payload = nullptr;
  int64_t bytes = 0;
  int32_t checksum = 0;
  CHECK_EQ(library.plan_encoded(sound.plan, 0, &payload, &bytes, &checksum), COMNECK_MISUSE);  // not executed
  sound.fill(1, 0);
  CHECK_EQ(library.plan_execute(sound.plan), COMNECK_OK);
  for (const int32_t image : {-1, 2}) CHECK_EQ(library.plan_encoded(sound.plan, image, &payload, &bytes, &checksum), COMNECK_MISUSE);
  CHECK_EQ(library.plan_encoded(sound.plan, 0, nullptr, &bytes, &checksum), COMNECK_MISUSE);
  CHECK_EQ(library.plan_encoded(sound.plan, 1, &payload, &bytes, &checksum), COMNECK_OK);

  comneck_plan *plan = nullptr;
  CHECK_EQ(library.plan_create(codec.context, &plan), COMNECK_OK);
  const comneck_tables *tables[] = {codec.gaussian_tables, codec.channel_tables};
  const comneck_view symbols[] = {sound.passes[0].symbols, sound.passes[1].symbols};
  const comneck_view indices[] = {sound.passes[0].indices, sound.passes[1].indices};
  const auto refused = [&](const comneck_view *s, const comneck_view *i, int32_t passes, int32_t substreams) {
    CHECK_EQ(library.plan_encode(plan, tables, s, i, passes, substreams), COMNECK_MISUSE);
    CHECK(std::strlen(library.last_error()) > 10);
  };
  refused(symbols, indices, 0, 0);
  refused(symbols, indices, 5000, 0);
  refused(symbols, indices, 2, 33);
  refused(symbols, indices, 2, -1);
  refused(nullptr, indices, 2, 0);
  comneck_view changed[] = {symbols[0], symbols[1]};
  changed[1].channels = 161;  // more than the buffer has, and than there are tables
  refused(changed, indices, 2, 0);
  changed[1] = symbols[1];
  changed[1].channels = 100;  // a slice
  refused(changed, indices, 2, 0);
  changed[1] = symbols[1];
  changed[1].images = 1;
  refused(changed, indices, 2, 0);
  changed[1] = symbols[1];
  changed[0].type = COMNECK_U8;
  refused(changed, indices, 2, 0);
  changed[0] = symbols[0];
  changed[0].height = 1 << 20;
  changed[0].width = 1 << 20;
  refused(changed, indices, 2, 0);
  comneck_view other[] = {indices[0], indices[1]};
  other[0].channels = 3;
  refused(symbols, other, 2, 0);
  tables[0] = nullptr;
  refused(symbols, indices, 2, 0);
  tables[0] = codec.gaussian_tables;
  std::swap(tables[0], tables[1]);  // 64 tables for 160 channels
  refused(symbols, indices, 2, 0);
  std::swap(tables[0], tables[1]);
  CHECK_EQ(library.plan_encode(plan, tables, symbols, indices, 2, 0), COMNECK_OK);
  refused(symbols, indices, 2, 0);  // for the second time
  library.plan_destroy(plan);
}

enum { kAllocations, kLaunches, kSynchronisations, kCaptures };

void check_prepared_runs(const Library &library) {
  Codec codec(library);
  CHECK_EQ(codec.open(), COMNECK_OK);
  std::vector<Image> images = make_images(5, 3);
  Plan writes(codec, 3, true), reads(codec, 3, false);
  CHECK_EQ(writes.prepare(), COMNECK_OK);
  CHECK_EQ(reads.prepare(), COMNECK_OK);
  CHECK_EQ(encode(codec, &writes, &images), COMNECK_OK);  // the encoder's own memory
  const int64_t allocations = library.count(kAllocations);
  const int64_t captures = library.count(kCaptures);
  for (int repeat = 0; repeat < 5; repeat++) {
    const int64_t launches = library.count(kLaunches);
    CHECK_EQ(decode(codec, &reads, images, repeat == 2 ? 1 : -1, 8), COMNECK_OK);
    CHECK_EQ(library.count(kLaunches) - launches, 1);  // the graph
    check_decoded(reads, images, repeat == 2 ? 1 : -1);
    int64_t nanos[4] = {};
    CHECK_EQ(reads.stages, 4);
    CHECK_EQ(library.plan_nanos(reads.plan, nanos, 4), COMNECK_OK);
    for (const int64_t stage : nanos) CHECK(stage > 0);
    CHECK_EQ(encode(codec, &writes, &images), COMNECK_OK);
  }
  CHECK_EQ(library.count(kAllocations), allocations);
  CHECK_EQ(library.count(kCaptures), captures);

  // A payload larger than any before: memory grows, the graph is made anew, and the run is right.
  std::vector<Image> large = images;
  large[1].payload.resize(300000, 7);
  CHECK_EQ(decode(codec, &reads, large, -1, 0), COMNECK_OK);
  CHECK(!reads.damage(1).empty());
  CHECK(library.count(kAllocations) > allocations && library.count(kCaptures) == captures + 1);
  const int64_t launches = library.count(kLaunches);
  CHECK_EQ(decode(codec, &reads, images, -1, 0), COMNECK_OK);
  check_decoded(reads, images, -1);
  CHECK_EQ(library.count(kLaunches) - launches, 1);

  // Likewise encoded payloads; from then on nothing is allocated, and a failure on the way is one execution's alone.
  for (int32_t failing = -1; failing < 3; failing++) {
    Encoder encoder(codec, 2, {{true, COMNECK_FULL, 40, 60, 4}});
    CHECK_EQ(encoder.prepare(3), COMNECK_OK);
    int64_t small = 0, grown = 0;
    CHECK_EQ(library.plan_bytes(encoder.plan, &small), COMNECK_OK);
    encoder.fill(3, 0);
    int64_t before = library.count(kLaunches);
    CHECK_EQ(library.plan_execute(encoder.plan), COMNECK_OK);
    CHECK_EQ(library.count(kLaunches) - before, 1);
    encoder.fill(4, 1);
    if (failing >= 0) {
      library.inject(kAllocations, failing, 2, 0);
      CHECK_EQ(library.plan_execute(encoder.plan), COMNECK_OUT_OF_MEMORY);
      library.inject(0, 0, 0, 0);
      const void *payload = nullptr;
      int64_t bytes = 0;
      int32_t checksum = 0;
      CHECK_EQ(library.plan_encoded(encoder.plan, 0, &payload, &bytes, &checksum), COMNECK_MISUSE);
    }
    CHECK_EQ(library.plan_execute(encoder.plan), COMNECK_OK);
    CHECK(encoder.check(codec, -1) > encoder.symbols());
    CHECK_EQ(library.plan_bytes(encoder.plan, &grown), COMNECK_OK);
    CHECK(grown > small);
    for (int repeat = 0; repeat < 2; repeat++) {
      encoder.fill(static_cast<uint64_t>(5 + repeat), repeat);
      const int64_t allocated = library.count(kAllocations);
      before = library.count(kLaunches);
      CHECK_EQ(library.plan_execute(encoder.plan), COMNECK_OK);
      CHECK_EQ(library.count(kAllocations), allocated);
      CHECK_EQ(library.count(kLaunches) - before, 1);
      encoder.check(codec, -1);
    }
  }

  // Without a graph: the steps one by one, the same bits; the next execution has a graph.
  Plan plain(codec, 3, false);
  library.inject(kCaptures, 0, 900, 0);
  CHECK_EQ(plain.prepare(), COMNECK_OK);
  for (int repeat = 0; repeat < 2; repeat++) {
    const int64_t before = library.count(kLaunches);
    CHECK_EQ(decode(codec, &plain, images, -1, 0), COMNECK_OK);
    check_decoded(plain, images, -1);
    // the capture that follows the first execution counts its launches as well
    CHECK(repeat == 0 ? library.count(kLaunches) - before > 8 : library.count(kLaunches) - before == 1);
  }
  library.inject(0, 0, 0, 0);
}

// Everything from opening to decoding.
int32_t whole_life(const Library &library, std::vector<Image> *images) {
  Codec codec(library);
  TRY(codec.open());
  const auto batch = static_cast<int32_t>(images->size());
  Plan writes(codec, batch, true), reads(codec, batch, false);
  TRY(writes.prepare());
  TRY(reads.prepare());
  TRY(encode(codec, &writes, images));
  TRY(decode(codec, &reads, *images, -1, 0));
  check_decoded(reads, *images, -1);
  return COMNECK_OK;
}

void check_failures(const Library &library) {
  struct Fault {
    int32_t call;
    int32_t error;
    int32_t status;
  };
  constexpr Fault kFaults[] = {{kAllocations, 2, COMNECK_OUT_OF_MEMORY}, {kLaunches, 719, COMNECK_LAUNCH_FAILED},
                               {kSynchronisations, 700, COMNECK_LAUNCH_FAILED}, {kSynchronisations, 46, COMNECK_DEVICE_LOST},
                               {kLaunches, 214, COMNECK_DEVICE_LOST}};
  for (const Fault &fault : kFaults) {
    for (const int32_t sticky : {0, 1}) {
      int32_t failures = 0;
      std::vector<Image> images = make_images(6, 2);
      const int64_t before = library.count(fault.call);
      CHECK_EQ(whole_life(library, &images), COMNECK_OK);
      const auto calls = static_cast<int32_t>(library.count(fault.call) - before);
      CHECK(calls > 2);
      for (int32_t after = 0; after < calls; after++) {
        library.inject(fault.call, after, fault.error, sticky);
        const int32_t status = whole_life(library, &images);
        // A capture that fails alone costs speed, not the run.
        CHECK(status == fault.status || (status == COMNECK_OK && sticky == 0 && fault.call != kSynchronisations));
        CHECK(status == COMNECK_OK || std::strlen(library.last_error()) > 10);
        failures += status != COMNECK_OK ? 1 : 0;
        library.inject(0, 0, 0, 0);
      }
      CHECK(failures >= 3);
      CHECK_EQ(whole_life(library, &images), COMNECK_OK);
    }
  }

  // A run that failed once works again, when the device does.
  Codec codec(library);
  CHECK_EQ(codec.open(), COMNECK_OK);
  std::vector<Image> images = make_images(7, 2);
  Plan writes(codec, 2, true), reads(codec, 2, false);
  CHECK_EQ(writes.prepare(), COMNECK_OK);
  CHECK_EQ(reads.prepare(), COMNECK_OK);
  CHECK_EQ(encode(codec, &writes, &images), COMNECK_OK);
  std::vector<Image> large = images;
  large[0].payload.resize(100000, 1);
  for (int32_t after = 0; after < 2; after++) {  // both sides of the payloads' memory
    library.inject(kAllocations, after, 2, 0);
    CHECK_EQ(decode(codec, &reads, large, -1, 0), COMNECK_OUT_OF_MEMORY);
    library.inject(0, 0, 0, 0);
  }
  CHECK_EQ(decode(codec, &reads, images, -1, 0), COMNECK_OK);
  check_decoded(reads, images, -1);
  library.inject(kLaunches, 0, 719, 0);
  CHECK_EQ(decode(codec, &reads, images, -1, 0), COMNECK_LAUNCH_FAILED);
  library.inject(0, 0, 0, 0);
  CHECK_EQ(decode(codec, &reads, images, -1, 0), COMNECK_OK);
  check_decoded(reads, images, -1);
}

// Patches to normalised tokens: a plan with its own ports.
struct Embedding {
  static constexpr int32_t kImages = 3, kPatches = 4, kWidth = 33;

  Embedding(const Library &library, bool with_class) : api(library), tokens(kPatches + (with_class ? 1 : 0)) {
    CHECK_EQ(api.context_create(api.is_device ? 0 : 1, COMNECK_ISA_AUTO, &context), COMNECK_OK);
    CHECK_EQ(api.plan_create(context, &plan), COMNECK_OK);
    int32_t stage = 0;
    CHECK_EQ(api.plan_stage(plan, &stage), COMNECK_OK);
    from = view(0, kPatches);
    to = view(end(from), tokens);
    middle = view(end(to), tokens);
    Random random{77};
    for (int32_t c = 0; with_class && c < kWidth; c++) token.push_back(static_cast<float>(random.uniform()));
    for (std::vector<float> *each : {&weight, &bias}) {
      for (int32_t c = 0; c < kWidth; c++) each->push_back(static_cast<float>(random.uniform()));
    }
    for (int32_t i = 0; i < tokens * kWidth; i++) table.push_back(static_cast<float>(random.uniform()));
  }
  Embedding(const Embedding &) = delete;
  ~Embedding() {
    api.plan_destroy(plan);
    api.context_destroy(context);
  }

  static comneck_view view(int64_t offset, int32_t positions) {
    return {offset, int64_t{4} * kImages * positions * kWidth, COMNECK_F32, COMNECK_FULL, kImages, 1, positions, kWidth, 0, kWidth};
  }
  static int64_t end(const comneck_view &of) { return of.offset_bytes + (of.bytes + 63) / 64 * 64; }
  static int64_t bytes(const std::vector<float> &values) { return static_cast<int64_t>(4 * values.size()); }
  const float *class_token() const { return token.empty() ? nullptr : token.data(); }

  int32_t one_step() const {
    return api.embed_norm(plan, &from, class_token(), bytes(token), table.data(), bytes(table), weight.data(), bytes(weight), bias.data(),
                          bytes(bias), 1e-5f, &to);
  }
  int32_t two_steps() const {
    TRY(api.plan_embed(plan, &from, class_token(), bytes(token), table.data(), bytes(table), &middle));
    return api.plan_layer_norm(plan, &middle, weight.data(), bytes(weight), bias.data(), bytes(bias), 1e-5f, &to);
  }
  std::vector<uint32_t> run() const {
    CHECK_EQ(api.plan_port(plan, from.offset_bytes, from.bytes, COMNECK_INPUT), COMNECK_OK);
    CHECK_EQ(api.plan_port(plan, to.offset_bytes, to.bytes, COMNECK_OUTPUT), COMNECK_OK);
    void *memory = nullptr;
    CHECK_EQ(api.plan_seal(plan, end(middle), &memory), COMNECK_OK);
    CHECK_EQ(api.plan_port_memory(plan, from.offset_bytes, &memory), COMNECK_OK);
    Random random{78};
    for (int64_t i = 0; i < from.bytes / 4; i++) static_cast<float *>(memory)[i] = static_cast<float>(random.uniform() - 0.5);
    CHECK_EQ(api.plan_execute(plan), COMNECK_OK);
    CHECK_EQ(api.plan_port_memory(plan, to.offset_bytes, &memory), COMNECK_OK);
    std::vector<uint32_t> bits(static_cast<size_t>(to.bytes / 4));
    std::memcpy(bits.data(), memory, static_cast<size_t>(to.bytes));
    return bits;
  }
  int64_t launches_of(int32_t kind) const {
    int64_t counts[COMNECK_CUDA_KINDS];
    CHECK_EQ(api.launches(plan, counts, COMNECK_CUDA_KINDS), COMNECK_OK);
    return counts[kind];
  }

  const Library &api;
  const int32_t tokens;
  comneck_context *context = nullptr;
  comneck_plan *plan = nullptr;
  comneck_view from, to, middle;
  std::vector<float> token, table, weight, bias;
};

// Class token, positions and LayerNorm in one kernel are the bits of the two steps, there and on the processor; misuse adds no step.
void check_embedding(const Library &processor, const Library &device) {
  for (const bool with_class : {false, true}) {
    const Embedding expected(processor, with_class), two(device, with_class), one(device, with_class);
    CHECK_EQ(expected.two_steps(), COMNECK_OK);
    CHECK_EQ(two.two_steps(), COMNECK_OK);
    CHECK_EQ(one.one_step(), COMNECK_OK);
    const std::vector<uint32_t> bits = expected.run();
    CHECK(bits == two.run());
    CHECK(bits == one.run());
    CHECK_EQ(two.launches_of(COMNECK_CUDA_EMBED_NORM), 0);
    CHECK_EQ(two.launches_of(COMNECK_CUDA_ELEMENTWISE) + two.launches_of(COMNECK_CUDA_CANONICAL_NORM), 2);
    CHECK_EQ(one.launches_of(COMNECK_CUDA_EMBED_NORM), 1);
    CHECK_EQ(one.launches_of(COMNECK_CUDA_ELEMENTWISE) + one.launches_of(COMNECK_CUDA_CANONICAL_NORM), 0);
  }

  Embedding e(device, true);
  const auto refused = [&](const char *why) {
    CHECK_EQ(e.one_step(), COMNECK_MISUSE);
    if (std::strstr(device.last_error(), why) == nullptr) std::fprintf(stderr, "%s: %s\n", why, device.last_error());
    CHECK(std::strstr(device.last_error(), why) != nullptr);
  };
  for (std::vector<float> *values : {&e.token, &e.table, &e.weight, &e.bias}) {
    values->push_back(0.0f);
    refused(values == &e.weight || values == &e.bias ? "without weight or bias" : "does not become");
    values->pop_back();
  }
  const comneck_view from = e.from, to = e.to;
  e.to = Embedding::view(to.offset_bytes, e.tokens - 1);
  refused("does not become");
  e.to = to;
  e.to.offset_bytes = from.offset_bytes + 64;
  refused("overlap");
  e.to = to;
  e.to.type = COMNECK_U8;
  refused("the destination");
  e.to = to;
  e.to.channels -= 1;
  refused("does not become");
  e.to = to;
  e.to.bytes -= 4;
  refused("the destination");
  e.to = to;
  e.to.images = 1;
  refused("one batch");
  e.to = to;
  e.from.type = COMNECK_I16;
  refused("the source");
  e.from = from;
  CHECK_EQ(device.embed_norm(nullptr, &e.from, nullptr, 0, nullptr, 0, nullptr, 0, nullptr, 0, 0, &e.to), COMNECK_MISUSE);
  CHECK_EQ(device.embed_norm(e.plan, nullptr, nullptr, 0, nullptr, 0, nullptr, 0, nullptr, 0, 0, &e.to), COMNECK_MISUSE);
  CHECK_EQ(device.embed_norm(e.plan, &e.from, nullptr, 0, nullptr, 0, nullptr, 0, nullptr, 0, 0, nullptr), COMNECK_MISUSE);
  for (int missing = 0; missing < 3; missing++) {  // with the right size
    CHECK_EQ(device.embed_norm(e.plan, &e.from, e.class_token(), Embedding::bytes(e.token), missing == 0 ? nullptr : e.table.data(),
                               Embedding::bytes(e.table), missing == 1 ? nullptr : e.weight.data(), Embedding::bytes(e.weight),
                               missing == 2 ? nullptr : e.bias.data(), Embedding::bytes(e.bias), 0, &e.to),
             COMNECK_MISUSE);
  }
  CHECK_EQ(e.launches_of(COMNECK_CUDA_EMBED_NORM), 0);
  CHECK_EQ(e.one_step(), COMNECK_OK);
  CHECK_EQ(e.launches_of(COMNECK_CUDA_EMBED_NORM), 1);
}

// What a step reads is where it writes, or has nothing in common with it: else threads would read what others write.
void check_overlaps(const Library &library) {
  comneck_context *context = nullptr;
  comneck_layer *layer = nullptr;
  comneck_plan *plan = nullptr;
  CHECK_EQ(library.context_create(library.is_device ? 0 : 1, COMNECK_ISA_AUTO, &context), COMNECK_OK);
  const comneck_convolution geometry{8, 8, 1, 1, 1, 0, COMNECK_DIRECT, COMNECK_PRECISION_BF16};
  const float weight[64]{}, ones[8]{};
  CHECK_EQ(library.layer_create(context, &geometry, weight, sizeof weight, COMNECK_F32, nullptr, 0, 0, &layer), COMNECK_OK);
  CHECK_EQ(library.plan_create(context, &plan), COMNECK_OK);
  const comneck_view to{0, 32 * 4 * 8, COMNECK_F32, COMNECK_FULL, 1, 1, 8, 8, 16, 32};
  const comneck_view source{2048, 8 * 4 * 8, COMNECK_F32, COMNECK_FULL, 1, 1, 8, 8, 0, 8};
  const auto norm = [&](const comneck_view &from) { return library.plan_layer_norm(plan, &from, ones, sizeof ones, ones, sizeof ones, 1e-5f, &to); };
  const auto added = [&](const comneck_view &residual) {
    return library.plan_convolution(plan, layer, &source, 1, &residual, COMNECK_NONE, &to);
  };
  const auto check = [&](const comneck_view &view, const char *why) {
    for (const int32_t status : {norm(view), added(view)}) {
      CHECK_EQ(status, why == nullptr ? COMNECK_OK : COMNECK_MISUSE);
      CHECK(why == nullptr || std::strstr(library.last_error(), why) != nullptr);
    }
  };
  check(to, nullptr);
  comneck_view other = to;
  for (const int32_t beside : {0, 8, 24}) {
    other.channel_offset = beside;
    check(other, nullptr);
  }
  for (const int32_t across : {9, 15, 17, 23}) {
    other.channel_offset = across;
    check(other, "overlap in part");
  }
  other = to;
  other.offset_bytes = 64;
  check(other, "overlap in part");
  other.offset_bytes = 1024;
  check(other, nullptr);
  other = to;
  other.type = COMNECK_BF16;
  check(other, "overlap in part");
  other = to;
  other.channel_stride = 24;
  check(other, "overlap in part");
  CHECK_EQ(library.plan_embed(plan, &to, nullptr, 0, weight, sizeof weight, &to), COMNECK_MISUSE);
  CHECK(std::strstr(library.last_error(), "overlap") != nullptr);
  CHECK_EQ(library.plan_embed(plan, &source, nullptr, 0, weight, sizeof weight, &to), COMNECK_OK);
  library.plan_destroy(plan);
  library.layer_destroy(layer);
  library.context_destroy(context);
}

}  // namespace

int main(int argc, char **argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: kernel_plan_test libcomneck.so libcomneck_cuda.so\n");
    return 2;
  }
  const Library processor(argv[1]), device(argv[2]);
  check_across(processor, device);
  check_across(device, processor);
  check_across(device, device);
  for (const Library *library : {&processor, &device}) {
    check_encoding(*library, processor);
    check_encoding_misuse(*library);
    check_overlaps(*library);
  }
  check_embedding(processor, device);
  if (device.inject != nullptr) {
    check_prepared_runs(device);
    check_failures(device);
  }
  return 0;
}
