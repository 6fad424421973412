// What callers in other languages rely on.
#include <cstddef>
#include <iterator>

#include "backend/status.h"
#include "comneck.h"

using comneck::fail;

static_assert(sizeof(comneck_view) == 48 && alignof(comneck_view) == 8);
static_assert(sizeof(comneck_convolution) == 32 && alignof(comneck_convolution) == 4);

int32_t comneck_layout(int32_t *values, int64_t count) {
  const size_t layout[] = {
      sizeof(comneck_view),
      offsetof(comneck_view, offset_bytes),
      offsetof(comneck_view, bytes),
      offsetof(comneck_view, type),
      offsetof(comneck_view, grid),
      offsetof(comneck_view, images),
      offsetof(comneck_view, height),
      offsetof(comneck_view, width),
      offsetof(comneck_view, channels),
      offsetof(comneck_view, channel_offset),
      offsetof(comneck_view, channel_stride),
      sizeof(comneck_convolution),
      offsetof(comneck_convolution, input_channels),
      offsetof(comneck_convolution, output_channels),
      offsetof(comneck_convolution, kernel_height),
      offsetof(comneck_convolution, kernel_width),
      offsetof(comneck_convolution, stride),
      offsetof(comneck_convolution, padding),
      offsetof(comneck_convolution, kind),
      offsetof(comneck_convolution, precision),
  };
  constexpr auto expected = static_cast<int64_t>(std::size(layout));
  if (values == nullptr || count != expected) {
    return fail(COMNECK_MISUSE, "%lld values of a layout of %lld", static_cast<long long>(count),
                static_cast<long long>(expected));
  }
  for (size_t i = 0; i < std::size(layout); ++i) values[i] = static_cast<int32_t>(layout[i]);
  return COMNECK_OK;
}
