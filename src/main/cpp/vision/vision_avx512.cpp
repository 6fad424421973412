#include "vision/attention.h"

const comneck::VisionKernels &comneck::vision_avx512() { return kVisionKernels<Avx512Lanes>; }
