// The operators for ctypes, on threads of their own. Used by tests and benchmarks (cpu_operators.py).
#include "../cpu/inference/kernels.h"
#include "../cpu/inference/operators.h"
#include "../cpu/threads.h"

#define DINN360_EXPORT extern "C" __attribute__((visibility("default")))

namespace {

using namespace dinn360;
using namespace dinn360::cpu;

template <class Params>
const char* call(const char* (*operation)(Params const&, Pool const&, void*, Kernels const*), Params const& params,
                 int32_t threads, const char* instruction_set, void* workspace) {
  if (const char* const why = check(params)) return why;
  Kernels const* const kernels = inference::find_kernels(instruction_set);
  if (kernels == nullptr) return "this CPU has no such instruction set";
  return operation(params, pool_of_threads(threads), workspace, kernels);
}

template <class Params>
size_t size(Params const& params, int32_t threads, const char* instruction_set) {
  return workspace_size(params, pool_of_threads(threads), inference::find_kernels(instruction_set));
}

}  // namespace

// instruction_set: its name, or null for the best. Both return why the call cannot run, or null.
DINN360_EXPORT const char* dinn360_cpu_deform_conv(DeformConvParams const* params, int32_t threads,
                                                   const char* instruction_set, void* workspace) {
  return call(deform_conv, *params, threads, instruction_set, workspace);
}
DINN360_EXPORT const char* dinn360_cpu_dst_attention(DstAttentionParams const* params, int32_t threads,
                                                     const char* instruction_set, void* workspace) {
  return call(dst_attention, *params, threads, instruction_set, workspace);
}

// Bytes of workspace of a call that can run.
DINN360_EXPORT size_t dinn360_cpu_deform_conv_workspace(DeformConvParams const* params, int32_t threads,
                                                        const char* instruction_set) {
  return size(*params, threads, instruction_set);
}
DINN360_EXPORT size_t dinn360_cpu_dst_attention_workspace(DstAttentionParams const* params, int32_t threads,
                                                          const char* instruction_set) {
  return size(*params, threads, instruction_set);
}

// The name of the best instruction set, or null when this CPU has none of that name.
DINN360_EXPORT const char* dinn360_cpu_instruction_set(const char* name) {
  int const place = find_instruction_set(name);
  return place < 0 ? nullptr : instruction_set_name(place);
}
