// Compiled once for each instruction set, as plugins/cpu/inference/kernels.cpp is.
#include "kernels.h"

#include "blocks.h"
#include "direct.h"
#include "pixelwise.h"
#include "winograd.h"

namespace dinn360::cpu::DINN360_CPU_SET::fused {

const dinn360::fused::Kernels kernels = {
    winograd::pays,
    {direct::packed_floats, direct::own_floats, direct::units, direct::pack, direct::convolve},
    {winograd::packed_floats, winograd::own_floats, winograd::units, winograd::pack, winograd::convolve},
    norm_units,
    normalise,
    haar_units,
    haar,
    {squeeze_floats, squeeze_units, squeeze},
    {unsqueeze_floats, unsqueeze_units, unsqueeze},
};

}  // namespace dinn360::cpu::DINN360_CPU_SET::fused
