// What cuDNN documents for the calls that vendor/cudnn.cu makes, on the emulation's memory and streams: a library of its own with the real one's
// functions, for tests only. Anything that those calls should not say is refused, as far as a library can see it.
//
// Where the real one may choose, this one chooses what is hardest on the caller: the algorithms that it finds first are not deterministic, cannot
// be used, or come without what the caller needs; workspace is overwritten. Floats are multiplied as TF32.
#include <algorithm>
#include <bit>
#include <cstdlib>
#include <cstring>

#include "backend/bits.h"
#include "vendor/cudnn_api.h"

#define EXPORTED extern "C" __attribute__((visibility("default")))

using namespace comneck::cuda::cudnn;

namespace comneck::cuda::cudnn {

struct HandleOpaque {
  cudaStream_t stream = nullptr;
};
struct TensorOpaque {
  int type = -1;
  int size[4] = {};    // n, c, h, w
  int stride[4] = {};
};
struct FilterOpaque {
  int type = -1;
  int k = 0, c = 0, h = 0, w = 0;
};
struct ConvolutionOpaque {
  int padding = -1;
  int stride = 0;
  int math = 0;
};
struct ActivationOpaque {
  int mode = -1;
};

}  // namespace comneck::cuda::cudnn

namespace {

constexpr size_t kWorkspace = 2048;
constexpr int kImplicitGemm = 0;
constexpr int kBackwardData1 = 1;

struct Fault {
  int32_t function = -1;
  int32_t after = 0;
};
Fault fault;
int64_t calls[5];

// Functions that can be made to fail, counted.
enum { kCreate = 0, kDescriptor = 1, kAlgorithms = 2, kConvolve = 3, kAdd = 4 };

bool fails(int32_t function) {
  calls[function]++;
  return fault.function == function && fault.after-- <= 0;
}

bool is_type(int type) { return type == kFloat || type == kHalf || type == kBfloat16; }

float load(const void *data, int type, int64_t i) {
  if (type == kFloat) return static_cast<const float *>(data)[i];
  const uint16_t half = static_cast<const uint16_t *>(data)[i];
  return type == kBfloat16 ? comneck::from_bf16(half) : comneck::from_f16(half);
}

// An operand of a tensor core: of a float, ten bits of its fraction.
float operand(const void *data, int type, int64_t i) {
  const float value = load(data, type, i);
  return type == kFloat ? std::bit_cast<float>((std::bit_cast<uint32_t>(value) + 0x1000u) & 0xFFFFE000u) : value;
}

void store(void *data, int type, int64_t i, float value) {
  if (type == kFloat) {
    static_cast<float *>(data)[i] = value;
  } else {
    static_cast<uint16_t *>(data)[i] = type == kBfloat16 ? comneck::to_bf16(value) : comneck::to_f16(value);
  }
}

int64_t place(const TensorOpaque &t, int c, int h, int w) {
  return int64_t{c} * t.stride[1] + int64_t{h} * t.stride[2] + int64_t{w} * t.stride[3];
}

// x (1,C,H,W) convolved is y (1,K,(H + 2 padding - h) / stride + 1, ...), one type, channels next to each other.
bool fits(const TensorOpaque *x, const FilterOpaque *f, const ConvolutionOpaque *v, const TensorOpaque *y) {
  if (x == nullptr || f == nullptr || v == nullptr || y == nullptr || !is_type(x->type) || f->type != x->type || y->type != x->type ||
      v->stride < 1 || v->padding < 0 || v->math != kTensorOpMath) {
    return false;
  }
  for (const TensorOpaque *t : {x, y}) {
    const bool whole = t->size[0] == 1 && t->stride[1] == 1 && t->stride[3] >= t->size[1] && t->stride[2] == t->size[3] * t->stride[3] &&
                       t->stride[0] == t->size[2] * t->stride[2];
    if (!whole) return false;
  }
  return x->size[1] == f->c && y->size[1] == f->k && y->size[2] == (x->size[2] + 2 * v->padding - f->h) / v->stride + 1 &&
         y->size[3] == (x->size[3] + 2 * v->padding - f->w) / v->stride + 1;
}

bool is_bias(const TensorOpaque *bias, const TensorOpaque *of) {
  return bias != nullptr && bias->type == of->type && bias->size[0] == 1 && bias->size[1] == of->size[1] && bias->size[2] == 1 &&
         bias->size[3] == 1 && bias->stride[1] == 1;
}

bool is_aligned(const void *memory) { return memory != nullptr && reinterpret_cast<uintptr_t>(memory) % 16 == 0; }

struct Work {
  TensorOpaque x, y;
  FilterOpaque filter;
  ConvolutionOpaque convolution;
  const void *from, *weights, *bias;
  void *to, *workspace;
  bool relu;
};

int32_t forward(const void *arguments) {
  const Work &p = *static_cast<const Work *>(arguments);
  std::memset(p.workspace, 0xFF, kWorkspace);
  const FilterOpaque &f = p.filter;
  for (int k = 0; k < f.k; k++) {
    for (int h = 0; h < p.y.size[2]; h++) {
      for (int w = 0; w < p.y.size[3]; w++) {
        float sum = 0.0f;
        for (int r = 0; r < f.h; r++) {
          for (int s = 0; s < f.w; s++) {
            const int down = h * p.convolution.stride + r - p.convolution.padding, across = w * p.convolution.stride + s - p.convolution.padding;
            if (down < 0 || down >= p.x.size[2] || across < 0 || across >= p.x.size[3]) continue;
            for (int c = 0; c < f.c; c++) {
              sum += operand(p.from, p.x.type, place(p.x, c, down, across)) * operand(p.weights, f.type, ((int64_t{k} * f.h + r) * f.w + s) * f.c + c);
            }
          }
        }
        const float value = sum + load(p.bias, p.y.type, k);
        store(p.to, p.y.type, place(p.y, k, h, w), p.relu ? std::max(value, 0.0f) : value);
      }
    }
  }
  return cudaSuccess;
}

// dx[c, h, w] = sum over all y that x[c, h, w] has a part in.
int32_t backward(const void *arguments) {
  const Work &p = *static_cast<const Work *>(arguments);
  std::memset(p.workspace, 0xFF, kWorkspace);
  const FilterOpaque &f = p.filter;
  for (int c = 0; c < f.c; c++) {
    for (int h = 0; h < p.x.size[2]; h++) {
      for (int w = 0; w < p.x.size[3]; w++) {
        float sum = 0.0f;
        for (int r = 0; r < f.h; r++) {
          for (int s = 0; s < f.w; s++) {
            const int down = h + p.convolution.padding - r, across = w + p.convolution.padding - s;
            if (down < 0 || across < 0 || down % p.convolution.stride != 0 || across % p.convolution.stride != 0) continue;
            const int y = down / p.convolution.stride, x = across / p.convolution.stride;
            if (y >= p.y.size[2] || x >= p.y.size[3]) continue;
            for (int k = 0; k < f.k; k++) {
              sum += operand(p.from, p.y.type, place(p.y, k, y, x)) * operand(p.weights, f.type, ((int64_t{k} * f.h + r) * f.w + s) * f.c + c);
            }
          }
        }
        store(p.to, p.x.type, place(p.x, c, h, w), sum);
      }
    }
  }
  return cudaSuccess;
}

int32_t add(const void *arguments) {
  const Work &p = *static_cast<const Work *>(arguments);
  for (int c = 0; c < p.y.size[1]; c++) {
    for (int h = 0; h < p.y.size[2]; h++) {
      for (int w = 0; w < p.y.size[3]; w++) {
        const int64_t at = place(p.y, c, h, w);
        store(p.to, p.y.type, at, load(p.to, p.y.type, at) + load(p.bias, p.y.type, c));
      }
    }
  }
  return cudaSuccess;
}

int submit(Handle handle, int32_t (*work)(const void *), const Work &arguments) {
  const auto *door = reinterpret_cast<const comneck_emulated_door *>(handle->stream);
  return door->submit(handle->stream, work, &arguments, sizeof arguments) == cudaSuccess ? kSuccess : kExecutionFailed;
}

template <class T>
int make(T **made) {
  if (fails(kDescriptor)) return kBadParameter;
  *made = new T;
  return kSuccess;
}

template <class T>
int destroy(T *made) {
  delete made;
  return kSuccess;
}

int answer(int usable, int wanted, int *found, Found *answers) {
  if (fails(kAlgorithms)) return kNotSupported;
  const Found all[] = {{usable, kSuccess, 0.1f, 0, 1 - kDeterministic, kTensorOpMath, {}},
                       {usable, kNotSupported, -1.0f, 0, kDeterministic, kTensorOpMath, {}},
                       {7, kSuccess, 0.2f, kWorkspace, kDeterministic, kTensorOpMath, {}},  // which no workspace is known for
                       {kImplicitGemm, kSuccess, 0.3f, kWorkspace, kDeterministic, kTensorOpMath, {}},
                       {usable, kSuccess, 0.4f, kWorkspace, kDeterministic, kTensorOpMath, {}}};
  *found = std::min(wanted, 5);
  std::copy_n(all, *found, answers);
  return kSuccess;
}

}  // namespace

// Makes the call of a function (0 Create, 1 descriptors, 2 algorithms, 3 convolution, 4 addition) after `after` more of them fail, and all later
// ones; -1: none.
EXPORTED void comneck_fake_cudnn_inject(int32_t function, int32_t after) { fault = {function, after}; }
EXPORTED int64_t comneck_fake_cudnn_count(int32_t function) { return calls[function]; }

EXPORTED size_t cudnnGetVersion() {
  const char *other = std::getenv("COMNECK_FAKE_CUDNN_VERSION");
  return other == nullptr ? 91900 : static_cast<size_t>(std::atoll(other));
}

EXPORTED int cudnnCreate(Handle *handle) {
  if (fails(kCreate)) return 1001;
  *handle = new HandleOpaque;
  return kSuccess;
}
EXPORTED int cudnnDestroy(Handle handle) { return destroy(handle); }
EXPORTED int cudnnSetStream(Handle handle, cudaStream_t stream) {
  handle->stream = stream;
  return kSuccess;
}

EXPORTED int cudnnCreateTensorDescriptor(Tensor *tensor) { return make(tensor); }
EXPORTED int cudnnDestroyTensorDescriptor(Tensor tensor) { return destroy(tensor); }
EXPORTED int cudnnSetTensor4dDescriptorEx(Tensor tensor, int type, int n, int c, int h, int w, int n_stride, int c_stride, int h_stride,
                                          int w_stride) {
  if (!is_type(type) || n < 1 || c < 1 || h < 1 || w < 1 || n_stride < 1 || c_stride < 1 || h_stride < 1 || w_stride < 1) return kBadParameter;
  *tensor = {type, {n, c, h, w}, {n_stride, c_stride, h_stride, w_stride}};
  return kSuccess;
}

EXPORTED int cudnnCreateFilterDescriptor(Filter *filter) { return make(filter); }
EXPORTED int cudnnDestroyFilterDescriptor(Filter filter) { return destroy(filter); }
EXPORTED int cudnnSetFilter4dDescriptor(Filter filter, int type, int format, int k, int c, int h, int w) {
  if (!is_type(type) || format != kNhwc || k < 1 || c < 1 || h < 1 || w < 1) return kBadParameter;
  *filter = {type, k, c, h, w};
  return kSuccess;
}

EXPORTED int cudnnCreateConvolutionDescriptor(Convolution *convolution) { return make(convolution); }
EXPORTED int cudnnDestroyConvolutionDescriptor(Convolution convolution) { return destroy(convolution); }
EXPORTED int cudnnSetConvolution2dDescriptor(Convolution convolution, int pad_h, int pad_w, int down, int across, int dilation_h, int dilation_w,
                                             int mode, int type) {
  if (pad_h < 0 || pad_h != pad_w || down < 1 || down != across || dilation_h != 1 || dilation_w != 1 || mode != kCrossCorrelation ||
      type != kFloat) {
    return kBadParameter;
  }
  *convolution = {pad_h, down, 0};
  return kSuccess;
}
EXPORTED int cudnnSetConvolutionMathType(Convolution convolution, int math_type) {
  convolution->math = math_type;
  return kSuccess;
}

EXPORTED int cudnnCreateActivationDescriptor(Activation *activation) { return make(activation); }
EXPORTED int cudnnDestroyActivationDescriptor(Activation activation) { return destroy(activation); }
EXPORTED int cudnnSetActivationDescriptor(Activation activation, int mode, int nan, double) {
  if ((mode != kRelu && mode != kIdentity) || nan != kNoNan) return kBadParameter;
  activation->mode = mode;
  return kSuccess;
}

EXPORTED int cudnnGetConvolutionForwardAlgorithm_v7(Handle handle, Tensor x, Filter filter, Convolution convolution, Tensor y, int wanted,
                                                    int *found, Found *answers) {
  if (handle == nullptr || wanted < 1 || !fits(x, filter, convolution, y)) return kBadParameter;
  return answer(kImplicitPrecompGemm, wanted, found, answers);
}
EXPORTED int cudnnGetConvolutionForwardWorkspaceSize(Handle handle, Tensor x, Filter filter, Convolution convolution, Tensor y, int algorithm,
                                                     size_t *bytes) {
  if (handle == nullptr || !fits(x, filter, convolution, y)) return kBadParameter;
  if (algorithm != kImplicitGemm && algorithm != kImplicitPrecompGemm) return kNotSupported;
  *bytes = kWorkspace;
  return kSuccess;
}
EXPORTED int cudnnConvolutionBiasActivationForward(Handle handle, const void *alpha, Tensor x_desc, const void *x, Filter filter, const void *w,
                                                   Convolution convolution, int algorithm, void *workspace, size_t bytes, const void *beta,
                                                   Tensor z_desc, const void *z, Tensor bias_desc, const void *bias, Activation activation,
                                                   Tensor y_desc, void *y) {
  if (handle == nullptr || handle->stream == nullptr || !fits(x_desc, filter, convolution, y_desc) || z_desc == nullptr || z == nullptr ||
      !is_bias(bias_desc, y_desc) || activation == nullptr || *static_cast<const float *>(alpha) != 1.0f ||
      *static_cast<const float *>(beta) != 0.0f || !is_aligned(x) || !is_aligned(y) || !is_aligned(w) || !is_aligned(bias) ||
      !is_aligned(workspace) || bytes < kWorkspace) {
    return kBadParameter;
  }
  if (fails(kConvolve)) return kExecutionFailed;
  if (algorithm != kImplicitPrecompGemm && (activation->mode == kIdentity || algorithm != kImplicitGemm)) return kNotSupported;
  return submit(handle, forward, {*x_desc, *y_desc, *filter, *convolution, x, w, bias, y, workspace, activation->mode == kRelu});
}

EXPORTED int cudnnGetConvolutionBackwardDataAlgorithm_v7(Handle handle, Filter filter, Tensor dy, Convolution convolution, Tensor dx, int wanted,
                                                         int *found, Found *answers) {
  if (handle == nullptr || wanted < 1 || !fits(dx, filter, convolution, dy)) return kBadParameter;
  return answer(kBackwardData1, wanted, found, answers);
}
EXPORTED int cudnnGetConvolutionBackwardDataWorkspaceSize(Handle handle, Filter filter, Tensor dy, Convolution convolution, Tensor dx,
                                                          int algorithm, size_t *bytes) {
  if (handle == nullptr || !fits(dx, filter, convolution, dy)) return kBadParameter;
  if (algorithm != kBackwardData1) return kNotSupported;
  *bytes = kWorkspace;
  return kSuccess;
}
EXPORTED int cudnnConvolutionBackwardData(Handle handle, const void *alpha, Filter filter, const void *w, Tensor dy_desc, const void *dy,
                                          Convolution convolution, int algorithm, void *workspace, size_t bytes, const void *beta,
                                          Tensor dx_desc, void *dx) {
  if (handle == nullptr || handle->stream == nullptr || !fits(dx_desc, filter, convolution, dy_desc) ||
      *static_cast<const float *>(alpha) != 1.0f || *static_cast<const float *>(beta) != 0.0f || !is_aligned(dy) || !is_aligned(dx) ||
      !is_aligned(w) || !is_aligned(workspace) || bytes < kWorkspace || algorithm != kBackwardData1) {
    return kBadParameter;
  }
  if (fails(kConvolve)) return kExecutionFailed;
  return submit(handle, backward, {*dx_desc, *dy_desc, *filter, *convolution, dy, w, nullptr, dx, workspace, false});
}

EXPORTED int cudnnAddTensor(Handle handle, const void *alpha, Tensor a_desc, const void *a, const void *beta, Tensor c_desc, void *c) {
  if (handle == nullptr || handle->stream == nullptr || c_desc == nullptr || !is_bias(a_desc, c_desc) ||
      *static_cast<const float *>(alpha) != 1.0f || *static_cast<const float *>(beta) != 1.0f || !is_aligned(a) || !is_aligned(c)) {
    return kBadParameter;
  }
  if (fails(kAdd)) return kExecutionFailed;
  return submit(handle, add, {*c_desc, *c_desc, {}, {}, nullptr, nullptr, a, c, nullptr, false});
}
