// What each instruction set's build of the training operators offers.
#pragma once

#include "../kernels.h"
#include "params.h"

namespace dinn360::training {

struct Kernels {
  cpu::Steps<DeformConvTraining> forward, backward;
};

// Those of the instruction set that cpu::find_kernels finds by this name (null: the best); null when there is none.
Kernels const* find_kernels(const char* name);

}  // namespace dinn360::training

namespace dinn360::cpu {
namespace portable::training {
extern const dinn360::training::Kernels kernels;
}
namespace avx2::training {
extern const dinn360::training::Kernels kernels;
}
namespace avx512::training {
extern const dinn360::training::Kernels kernels;
}
namespace neon::training {
extern const dinn360::training::Kernels kernels;
}
}  // namespace dinn360::cpu
