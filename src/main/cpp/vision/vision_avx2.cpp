#include "vision/attention.h"

const comneck::VisionKernels &comneck::vision_avx2() { return kVisionKernels<Avx2Lanes>; }
