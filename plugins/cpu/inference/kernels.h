// What each instruction set's build of the operators offers to operators.cpp.
#pragma once

#include "../../params.h"
#include "../dispatch.h"
#include "../steps.h"

namespace dinn360::cpu {

struct Kernels {
  Steps<DeformConvParams> deform_conv;
  Steps<DstAttentionParams> dst_attention;
};

DINN360_DISPATCH(inference, Kernels)

}  // namespace dinn360::cpu
