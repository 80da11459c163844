// The training operators for ctypes, on threads of their own (library.py).
#include <limits>

#include "../phases.h"
#include "../threads.h"
#include "kernels.h"

#define DINN360_EXPORT extern "C" __attribute__((visibility("default")))

namespace {

using namespace dinn360;
using training::DeformConvTraining;

const char* check(DeformConvTraining const& p) {
  if (!p.x || !p.offset || !p.weight || !p.bias) return "x, offset, weight and bias must not be null";
  for (int32_t size : {p.batch, p.channels, p.height, p.width, p.out_channels, p.kernel, p.offset_groups}) {
    if (size <= 0) return "sizes must be positive";
  }
  if (p.kernel % 2 == 0) return "weight: expected an odd kernel";
  if (p.channels % p.offset_groups != 0) return "offset: channels must be a multiple of its groups";
  if (!(p.max_offset >= 0.f)) return "max_offset: expected a number from 0 on";
  constexpr int64_t kAround = 16;  // places of a band's copy are int32
  if ((p.height + kAround) * (p.width + kAround) > std::numeric_limits<int32_t>::max()) {
    return "an image has too many pixels";
  }
  return nullptr;
}

const char* run(cpu::Steps<DeformConvTraining> training::Kernels::* steps, DeformConvTraining const& params,
                int32_t threads, const char* instruction_set) {
  if (const char* const why = check(params)) return why;
  training::Kernels const* const kernels = cpu::training::find_kernels(instruction_set);
  if (kernels == nullptr) return "this CPU has no such instruction set";
  return cpu::run_phases(kernels->*steps, params, cpu::pool_of_threads(threads), nullptr);
}

}  // namespace

// instruction_set: its name (plugins/cpu/dispatch.h), or null for the best. Both return why the call cannot run, or null.
DINN360_EXPORT const char* dinn360_training_forward(DeformConvTraining const* params, int32_t threads,
                                                    const char* instruction_set) {
  if (params->y == nullptr) return "y must not be null";
  return run(&training::Kernels::forward, *params, threads, instruction_set);
}
DINN360_EXPORT const char* dinn360_training_backward(DeformConvTraining const* params, int32_t threads,
                                                     const char* instruction_set) {
  DeformConvTraining const& p = *params;
  if (!p.grad_y || !p.grad_x || !p.grad_offset || !p.grad_weight || !p.grad_bias) return "gradients must not be null";
  if ((p.mask == nullptr) != (p.grad_mask == nullptr)) return "mask and its gradient must be given together";
  return run(&training::Kernels::backward, p, threads, instruction_set);
}
