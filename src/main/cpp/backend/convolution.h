// The step behind every convolution, transposed convolution and linear layer.
#ifndef COMNECK_BACKEND_CONVOLUTION_H
#define COMNECK_BACKEND_CONVOLUTION_H

#include "backend/plan.h"

namespace comneck {

// See comneck_plan_convolution.
int32_t add_convolution(comneck_plan &plan, const comneck_layer &layer, const comneck_view *sources,
                        int32_t source_count, const comneck_view *residual, int32_t function,
                        const comneck_view &destination);

}  // namespace comneck

#endif
