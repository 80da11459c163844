// Compiled once for each instruction set, as plugins/cpu/inference/kernels.cpp is.
#include "kernels.h"

#include "deform_conv.h"

namespace dinn360::cpu::DINN360_CPU_SET::training {

const dinn360::training::Kernels kernels = {
    {shared_bytes<false>, own_bytes<false>, [](DeformConvTraining const&) { return 2; }, forward_units, run_forward},
    {shared_bytes<true>, own_bytes<true>, [](DeformConvTraining const&) { return 4; }, backward_units, run_backward},
};

}  // namespace dinn360::cpu::DINN360_CPU_SET::training
