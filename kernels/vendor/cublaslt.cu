#include "vendor/cublaslt.h"

#include "backend/bits.h"
#include "vendor/library.h"

namespace comneck::cuda {

using namespace cublaslt;

namespace {

constexpr uint32_t kAlignment = 16;  // of activations, whatever their place, so that the choice does not depend on it

int type_of(int32_t type) { return type == COMNECK_F32 ? kR32F : type == COMNECK_BF16 ? kR16BF : kR16F; }

int64_t bytes_of(int32_t type) { return type == COMNECK_F32 ? 4 : 2; }

bool is_aligned(const Side &side) {
  return reinterpret_cast<uintptr_t>(side.data) % kAlignment == 0 && side.stride * bytes_of(side.type) % kAlignment == 0;
}

}  // namespace

std::unique_ptr<CublasLt> CublasLt::open(const char *path, std::string *text) {
  void *library = open_library(path, {"libcublasLt.so.13", "libcublasLt.so.12"}, text);
  if (library == nullptr) return nullptr;
  std::unique_ptr<CublasLt> made(new CublasLt);
  Functions &f = made->functions_;
#define COMNECK_FIND(name)                                                                              \
  f.name = reinterpret_cast<decltype(f.name)>(find_function(library, "cublasLt" #name, text)); \
  if (f.name == nullptr) return nullptr;
  COMNECK_CUBLASLT_FUNCTIONS(COMNECK_FIND)
#undef COMNECK_FIND
  const size_t version = f.GetVersion();  // 130101: 13.1.1
  const std::string name =
      std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100) + "." + std::to_string(version % 100);
  if (version / 10000 != 12 && version / 10000 != 13) {
    *text = "version " + name + " is not one of 12 and 13, which are known";
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

CublasLt::~CublasLt() {
  if (handle_ != nullptr) (void)functions_.Destroy(handle_);
}

std::shared_ptr<const CublasLtProduct> CublasLt::prepare(const GemmCall &call, int64_t images, const void *bias) const {
  const Functions &f = functions_;
  const bool residual = call.residual.stride != 0;
  if ((call.function != COMNECK_NONE && call.function != COMNECK_RELU) || call.patches.run != 0 || call.source.type != call.type ||
      call.rows == 0 || call.rows % images != 0 || !is_aligned(call.source) || !is_aligned(call.destination) ||
      (residual && (!is_aligned(call.residual) || call.residual.type != call.destination.type))) {
    return nullptr;
  }
  std::shared_ptr<CublasLtProduct> made(new CublasLtProduct(*this));
  CublasLtProduct &p = *made;
  const uint32_t epilogue = call.function == COMNECK_RELU ? kEpilogueReluBias : kEpilogueBias;
  const auto describe = [&](int attribute, const auto &value) { return f.MatmulDescSetAttribute(p.desc_, attribute, &value, sizeof value) == kSuccess; };
  if (f.MatmulDescCreate(&p.desc_, kCompute32F, kR32F) != kSuccess || !describe(kDescTransA, kOpT) || !describe(kDescEpilogue, epilogue) ||
      !describe(kDescBiasPointer, bias)) {
    return nullptr;
  }
  const Side &added = residual ? call.residual : call.destination;
  const auto inputs = static_cast<uint64_t>(call.inputs), outputs = static_cast<uint64_t>(call.outputs);
  const auto lay_out = [&](int64_t rows) {
    p.release_rows();
    const auto count = static_cast<uint64_t>(rows);
    return f.MatrixLayoutCreate(&p.source_, type_of(call.type), inputs, count, call.source.stride) == kSuccess &&
           f.MatrixLayoutCreate(&p.residual_, type_of(added.type), outputs, count, added.stride) == kSuccess &&
           f.MatrixLayoutCreate(&p.destination_, type_of(call.destination.type), outputs, count, call.destination.stride) == kSuccess;
  };
  const int64_t rows = call.rows / images;
  Heuristic chosen{};
  if (f.MatrixLayoutCreate(&p.weights_, type_of(call.type), inputs, outputs, gemm_depth(call.inputs)) != kSuccess || !lay_out(rows) ||
      !choose(p, &chosen)) {
    return nullptr;
  }
  p.algorithm_ = chosen.algorithm;
  p.workspace_bytes_ = static_cast<int64_t>(chosen.workspace_bytes);
  p.rows_ = rows;
  p.calls_ = images;
  if (images == 1) return made;
  if (!lay_out(call.rows)) return nullptr;
  Heuristic whole{};
  if (f.MatmulAlgoCheck(handle_, p.desc_, p.weights_, p.source_, p.residual_, p.destination_, &p.algorithm_, &whole) == kSuccess &&
      static_cast<int64_t>(whole.workspace_bytes) <= kMostWorkspace) {
    p.workspace_bytes_ = static_cast<int64_t>(whole.workspace_bytes);
    p.rows_ = call.rows;
    p.calls_ = 1;
    return made;
  }
  return lay_out(rows) ? made : nullptr;
}

bool CublasLt::choose(const CublasLtProduct &p, Heuristic *chosen) const {
  const Functions &f = functions_;
  Preference preference = nullptr;
  if (f.MatmulPreferenceCreate(&preference) != kSuccess) return false;
  const auto prefer = [&](int attribute, const auto &value) {
    return f.MatmulPreferenceSetAttribute(preference, attribute, &value, sizeof value) == kSuccess;
  };
  constexpr uint32_t kWeightsAlignment = 256;
  const uint64_t workspace = kMostWorkspace;
  constexpr int kWanted = 8;
  Heuristic answers[kWanted];
  int found = 0;
  const bool answered =
      prefer(kPreferenceWorkspaceBytes, workspace) && prefer(kPreferenceReductionMask, kReductionNone) &&
      prefer(kPreferenceAlignmentA, kWeightsAlignment) && prefer(kPreferenceAlignmentB, kAlignment) &&
      prefer(kPreferenceAlignmentC, kAlignment) && prefer(kPreferenceAlignmentD, kAlignment) &&
      f.MatmulAlgoGetHeuristic(handle_, p.desc_, p.weights_, p.source_, p.residual_, p.destination_, preference, kWanted, answers, &found) ==
          kSuccess;
  (void)f.MatmulPreferenceDestroy(preference);
  for (int i = 0; answered && i < found; i++) {
    int32_t splits = 0;
    uint32_t reduction = 0;
    size_t written = 0;
    *chosen = answers[i];
    if (chosen->state == kSuccess && static_cast<int64_t>(chosen->workspace_bytes) <= kMostWorkspace &&
        f.MatmulAlgoConfigGetAttribute(&chosen->algorithm, kConfigSplitK, &splits, sizeof splits, &written) == kSuccess && splits <= 1 &&
        f.MatmulAlgoConfigGetAttribute(&chosen->algorithm, kConfigReduction, &reduction, sizeof reduction, &written) == kSuccess &&
        reduction == kReductionNone) {
      return true;
    }
  }
  return false;
}

void CublasLtProduct::release_rows() {
  for (MatrixLayout *layout : {&source_, &residual_, &destination_}) {
    if (*layout != nullptr) (void)library_.functions_.MatrixLayoutDestroy(*layout);
    *layout = nullptr;
  }
}

CublasLtProduct::~CublasLtProduct() {
  release_rows();
  if (weights_ != nullptr) (void)library_.functions_.MatrixLayoutDestroy(weights_);
  if (desc_ != nullptr) (void)library_.functions_.MatmulDescDestroy(desc_);
}

cudaError_t CublasLtProduct::queue(const GemmCall &call, void *workspace, cudaStream_t stream) const {
  const float one = 1.0f, zero = 0.0f;
  const Side &added = call.residual.data != nullptr ? call.residual : call.destination;
  const float &beta = call.residual.data != nullptr ? one : zero;
  const auto at = [&](const Side &side, int64_t image) {
    return static_cast<const char *>(side.data) + image * rows_ * side.stride * bytes_of(side.type);
  };
  for (int64_t i = 0; i < calls_; i++) {
    void *to = const_cast<char *>(at(call.destination, i));
    const int status = library_.functions_.Matmul(library_.handle_, desc_, &one, call.weights, weights_, at(call.source, i), source_, &beta,
                                                  at(added, i), residual_, to, destination_, &algorithm_, workspace,
                                                  static_cast<size_t>(workspace_bytes_), stream);
    if (status != kSuccess) return cudaErrorLaunchFailure;
  }
  return cudaSuccess;
}

}  // namespace comneck::cuda
