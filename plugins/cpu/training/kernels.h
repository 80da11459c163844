// What each instruction set's build of the training operators offers.
#pragma once

#include "../dispatch.h"
#include "../steps.h"
#include "params.h"

namespace dinn360::training {

struct Kernels {
  cpu::Steps<DeformConvTraining> forward, backward;
};

}  // namespace dinn360::training

namespace dinn360::cpu {
DINN360_DISPATCH(training, dinn360::training::Kernels)
}
