#include "vision/attention.h"

const comneck::VisionKernels &comneck::vision_portable() { return kVisionKernels<PortableLanes>; }

void comneck::normalize_table(const float *mean, const float *deviation, int64_t channels, float *table) {
  for (int64_t c = 0; c < channels; c++) {
    for (int x = 0; x < 256; x++) {
      table[c * 256 + x] = (static_cast<float>(x) / 255.0f - mean[c]) / deviation[c];
    }
  }
}
