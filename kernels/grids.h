// Positions of half grids: ELIC's checkerboard (COMNECK_ANCHORS: row + column even), in raster order.
#ifndef COMNECK_KERNELS_GRIDS_H
#define COMNECK_KERNELS_GRIDS_H

#include "comneck.h"
#include "device.h"

namespace comneck::cuda {

struct Place {
  int32_t y;
  int32_t x;
};

// Row and column on the full grid of position p.
__host__ __device__ inline Place place_of(int32_t grid, int32_t width, int32_t p) {
  if (grid == COMNECK_FULL) return {p / width, p % width};
  // Two neighbouring rows of a half grid hold `width` positions together.
  const int32_t pair = p / width;
  const int32_t within = p % width;
  const int32_t even = grid == COMNECK_ANCHORS ? (width + 1) / 2 : width / 2;  // positions of the first of the two rows
  const int32_t shift = grid == COMNECK_ANCHORS ? 0 : 1;                       // column of the first of them
  if (within < even) return {2 * pair, 2 * within + shift};
  return {2 * pair + 1, 2 * (within - even) + 1 - shift};
}

}  // namespace comneck::cuda

#endif
