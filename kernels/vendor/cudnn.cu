#include "vendor/cudnn.h"

#include "vendor/library.h"

namespace comneck::cuda {

using namespace cudnn;

namespace {

constexpr int64_t kAlignment = 16;  // of each image

int type_of(int32_t type) { return type == COMNECK_F32 ? kFloat : type == COMNECK_BF16 ? kBfloat16 : kHalf; }

int64_t bytes_of(int32_t type) { return type == COMNECK_F32 ? 4 : 2; }

}  // namespace

std::vector<float> pack_cudnn_weights(const comneck_convolution &g, const std::vector<float> &weights) {
  const int64_t taps = int64_t{g.kernel_height} * g.kernel_width;
  const int64_t inner = g.kind == COMNECK_TRANSPOSED ? g.output_channels : g.input_channels;
  std::vector<float> packed(weights.size());
  for (size_t i = 0; i < weights.size(); i++) {  // (outer, inner, tap) to (outer, tap, inner)
    const auto at = static_cast<int64_t>(i);
    const int64_t tap = at % taps, c = at / taps % inner, outer = at / taps / inner;
    packed[static_cast<size_t>((outer * taps + tap) * inner + c)] = weights[i];
  }
  return packed;
}

std::unique_ptr<Cudnn> Cudnn::open(const char *path, std::string *text) {
  void *library = open_library(path, {"libcudnn.so.9"}, text);
  if (library == nullptr) return nullptr;
  std::unique_ptr<Cudnn> made(new Cudnn);
  Functions &f = made->functions_;
#define COMNECK_FIND(name)                                                                           \
  f.name = reinterpret_cast<decltype(f.name)>(find_function(library, "cudnn" #name, text)); \
  if (f.name == nullptr) return nullptr;
  COMNECK_CUDNN_FUNCTIONS(COMNECK_FIND)
#undef COMNECK_FIND
  const size_t version = f.GetVersion();  // 91900: 9.19.0
  const std::string name =
      std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100) + "." + std::to_string(version % 100);
  if (version / 10000 != 9) {
    *text = "version " + name + " is not 9, which is known";
    return nullptr;
  }
  if (const int status = f.Create(&made->handle_); status != kSuccess) {
    made->handle_ = nullptr;
    *text = "version " + name + " cannot be used here: its status " + std::to_string(status);
    return nullptr;
  }
  *text = name;
  return made;
}

Cudnn::~Cudnn() {
  if (handle_ != nullptr) (void)functions_.Destroy(handle_);
}

bool Cudnn::takes(const comneck_convolution &g) {
  if (g.precision == COMNECK_PRECISION_F32 || g.kind == COMNECK_CHECKERBOARD) return false;
  if (g.kind != COMNECK_TRANSPOSED) return g.kernel_height > 1 || g.kernel_width > 1;
  // The data's gradient has as many rows as there are here exactly when a convolution of them gives the source's back.
  const int32_t down = g.stride + 2 * g.padding - g.kernel_height, across = g.stride + 2 * g.padding - g.kernel_width;
  return down >= 0 && down < g.stride && across >= 0 && across < g.stride;
}

std::shared_ptr<const CudnnConvolution> Cudnn::prepare(const CudnnCall &call) const {
  const Functions &f = functions_;
  const comneck_convolution &g = call.geometry;
  const bool transposed = g.kind == COMNECK_TRANSPOSED;
  const int32_t height = transposed ? call.height * g.stride : (call.height + 2 * g.padding - g.kernel_height) / g.stride + 1;
  const int32_t width = transposed ? call.width * g.stride : (call.width + 2 * g.padding - g.kernel_width) / g.stride + 1;
  const int32_t type = call.source.type;
  const int64_t source_image = int64_t{call.height} * call.width * call.source.stride;
  const int64_t destination_image = int64_t{height} * width * call.destination.stride;
  const auto is_aligned = [](const Side &side, int64_t image) {
    return reinterpret_cast<uintptr_t>(side.data) % kAlignment == 0 && image * bytes_of(side.type) % kAlignment == 0;
  };
  const bool function = call.function == COMNECK_NONE || (call.function == COMNECK_RELU && !transposed);
  if (!takes(g) || !function || call.destination.type != type || source_image > INT32_MAX || destination_image > INT32_MAX ||
      !is_aligned(call.source, source_image) || !is_aligned(call.destination, destination_image)) {
    return nullptr;
  }
  std::shared_ptr<CudnnConvolution> made(new CudnnConvolution(*this, call));
  CudnnConvolution &p = *made;
  p.source_image_ = source_image * bytes_of(type);
  p.destination_image_ = destination_image * bytes_of(type);
  const int32_t inputs = g.input_channels, outputs = g.output_channels;
  const auto describe = [&](Tensor *tensor, int32_t channels, int32_t tall, int32_t wide, int64_t stride) {
    const auto place = static_cast<int>(stride);
    return f.CreateTensorDescriptor(tensor) == kSuccess &&
           f.SetTensor4dDescriptorEx(*tensor, type_of(type), 1, channels, tall, wide, tall * wide * place, 1, wide * place, place) == kSuccess;
  };
  if (!describe(&p.source_, inputs, call.height, call.width, call.source.stride) ||
      !describe(&p.destination_, outputs, height, width, call.destination.stride) || !describe(&p.bias_, outputs, 1, 1, outputs) ||
      f.CreateFilterDescriptor(&p.filter_) != kSuccess ||
      f.SetFilter4dDescriptor(p.filter_, type_of(type), kNhwc, transposed ? inputs : outputs, transposed ? outputs : inputs, g.kernel_height,
                              g.kernel_width) != kSuccess ||
      f.CreateConvolutionDescriptor(&p.convolution_) != kSuccess ||
      f.SetConvolution2dDescriptor(p.convolution_, g.padding, g.padding, g.stride, g.stride, 1, 1, kCrossCorrelation, kFloat) != kSuccess ||
      f.SetConvolutionMathType(p.convolution_, kTensorOpMath) != kSuccess || f.CreateActivationDescriptor(&p.activation_) != kSuccess ||
      f.SetActivationDescriptor(p.activation_, call.function == COMNECK_RELU ? kRelu : kIdentity, kNoNan, 0.0) != kSuccess || !choose(&p)) {
    return nullptr;
  }
  return made;
}

bool Cudnn::choose(CudnnConvolution *made) const {
  const Functions &f = functions_;
  CudnnConvolution &p = *made;
  constexpr int kWanted = 8;
  Found answers[kWanted];
  int found = 0;
  const bool transposed = p.call_.geometry.kind == COMNECK_TRANSPOSED;
  const std::lock_guard<std::mutex> turn(turn_);
  const int status =
      transposed ? f.GetConvolutionBackwardDataAlgorithm_v7(handle_, p.filter_, p.source_, p.convolution_, p.destination_, kWanted, &found, answers)
                 : f.GetConvolutionForwardAlgorithm_v7(handle_, p.source_, p.filter_, p.convolution_, p.destination_, kWanted, &found, answers);
  for (int i = 0; status == kSuccess && i < found; i++) {
    const Found &answer = answers[i];
    // Without a function the bias comes with this algorithm only.
    const bool does = transposed || p.call_.function != COMNECK_NONE || answer.algorithm == kImplicitPrecompGemm;
    if (!does || answer.status != kSuccess || answer.determinism != kDeterministic) continue;
    size_t workspace = 0;
    const bool sized =
        f.SetConvolutionMathType(p.convolution_, answer.math_type) == kSuccess &&
        (transposed ? f.GetConvolutionBackwardDataWorkspaceSize(handle_, p.filter_, p.source_, p.convolution_, p.destination_, answer.algorithm, &workspace)
                    : f.GetConvolutionForwardWorkspaceSize(handle_, p.source_, p.filter_, p.convolution_, p.destination_, answer.algorithm, &workspace)) ==
            kSuccess;
    if (!sized || static_cast<int64_t>(workspace) > kMostWorkspace) continue;
    p.algorithm_ = answer.algorithm;
    p.workspace_bytes_ = static_cast<int64_t>(workspace);
    return true;
  }
  return false;
}

CudnnConvolution::~CudnnConvolution() {
  const Functions &f = library_.functions_;
  for (const Tensor tensor : {source_, destination_, bias_}) {
    if (tensor != nullptr) (void)f.DestroyTensorDescriptor(tensor);
  }
  if (filter_ != nullptr) (void)f.DestroyFilterDescriptor(filter_);
  if (convolution_ != nullptr) (void)f.DestroyConvolutionDescriptor(convolution_);
  if (activation_ != nullptr) (void)f.DestroyActivationDescriptor(activation_);
}

int CudnnConvolution::image(const void *source, void *destination, void *workspace) const {
  const Functions &f = library_.functions_;
  const float one = 1.0f, zero = 0.0f;
  const auto room = static_cast<size_t>(workspace_bytes_);
  if (call_.geometry.kind != COMNECK_TRANSPOSED) {
    return f.ConvolutionBiasActivationForward(library_.handle_, &one, source_, source, filter_, call_.weights, convolution_, algorithm_, workspace,
                                              room, &zero, destination_, destination, bias_, call_.bias, activation_, destination_, destination);
  }
  const int status = f.ConvolutionBackwardData(library_.handle_, &one, filter_, call_.weights, source_, source, convolution_, algorithm_,
                                               workspace, room, &zero, destination_, destination);
  return status != kSuccess ? status : f.AddTensor(library_.handle_, &one, bias_, call_.bias, &one, destination_, destination);
}

cudaError_t CudnnConvolution::queue(const void *source, void *destination, void *workspace, cudaStream_t stream) const {
  const std::lock_guard<std::mutex> turn(library_.turn_);
  if (library_.functions_.SetStream(library_.handle_, stream) != kSuccess) return cudaErrorLaunchFailure;
  bool done = true;
  for (int32_t i = 0; done && i < call_.images; i++) {
    const char *from = static_cast<const char *>(source) + i * source_image_;
    char *to = static_cast<char *>(destination) + i * destination_image_;
    done = image(from, to, workspace) == kSuccess;
  }
  (void)library_.functions_.SetStream(library_.handle_, nullptr);  // the plan's may be gone when the handle is used again
  return done ? cudaSuccess : cudaErrorLaunchFailure;
}

}  // namespace comneck::cuda
