// Views as libraries check them when a step is added.
#ifndef COMNECK_BACKEND_VIEW_H
#define COMNECK_BACKEND_VIEW_H

#include <cstdint>

#include "comneck.h"

namespace comneck {

// Bytes of an element; 0 for an unknown type.
int64_t element_bytes_of(int32_t type);

// Positions of a height x width grid.
int64_t positions_of(int32_t grid, int32_t height, int32_t width);

inline int64_t positions_of(const comneck_view &view) { return positions_of(view.grid, view.height, view.width); }

// "F32 [2, 16x16 anchors, 32 of 64]" for messages.
struct ViewText {
  explicit ViewText(const comneck_view &view);
  char text[96];
};

// The same images, grid, height, width and channels.
bool same_shape(const comneck_view &a, const comneck_view &b);

// Whether two views share an element.
bool overlap(const comneck_view &a, const comneck_view &b);

// COMNECK_OK when a step may read a and write b, element by element or row by row: one shape, and the same elements or none in common. Where they
// share some, threads would read what others write.
int32_t check_same(const comneck_view &a, const comneck_view &b);
// The same for steps that move tokens: full grids of one batch, no element in common.
int32_t check_tokens(const comneck_view &a, const comneck_view &b);

// COMNECK_OK when the view is sound in itself; *reach becomes at least where it ends. name is for the message.
int32_t check_view(const comneck_view *view, const char *name, int64_t *reach);
// The same, and of one of two types.
int32_t check_view(const comneck_view *view, const char *name, int32_t type, int32_t other_type, int64_t *reach);

// Of comneck_plan_resample, whose views are sound in themselves: that no tap lies outside and no sum overflows.
int32_t check_resample(const comneck_view &pixels, int32_t rows, const int32_t *taps, int64_t taps_bytes, const comneck_view &destination);

}  // namespace comneck

#endif
