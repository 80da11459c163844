// Compiled once for each instruction set, as plugins/cpu/inference/kernels.cpp is.
#include "kernels.h"

#include "conv.h"
#include "pixelwise.h"

namespace dinn360::cpu::DINN360_CPU_SET::fused {

const dinn360::fused::Kernels kernels = {
    packed_floats,
    [](ConvParams const& p) { return ConvPlan(p).own_floats(p); },
    [](ConvParams const& p) { return ConvPlan(p).units(p); },
    pack,
    convolve,
    norm_units,
    normalise,
    haar_units,
    haar,
};

}  // namespace dinn360::cpu::DINN360_CPU_SET::fused
