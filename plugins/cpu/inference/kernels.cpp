// Compiled once for each instruction set, with its flags and its DINN360_CPU_SET: see CMakeLists.txt.
#include "kernels.h"

#include "deform_conv.h"
#include "dst_attention.h"

namespace dinn360::cpu::DINN360_CPU_SET::inference {

const Kernels kernels = {
    {deform::shared_bytes, deform::own_bytes, deform::phases, deform::units, deform::run},
    {dst::shared_bytes, dst::own_bytes, dst::phases, dst::units, dst::run},
};

}  // namespace dinn360::cpu::DINN360_CPU_SET::inference
