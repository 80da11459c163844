// The operators of plugins/cpu on the threads of the session that runs the node.
#include "../cpu/inference/operators.h"
#include "backends.h"
#include "session_pool.h"

namespace dinn360::ort {
namespace {

template <class Params>
OrtStatus* run_on_session(const char* name,
                          const char* (*operate)(Params const&, cpu::Pool const&, void*, cpu::Kernels const*),
                          Params const& params, Context const& context) {
  if (const char* const why = cpu::check(params)) return error(context.api(), "dinn360:%s: %s", name, why);
  SessionPool threads{context};
  cpu::Pool const pool = threads.pool();
  Workspace workspace(context);
  DINN360_TRY(workspace.reserve(cpu::workspace_size(params, pool)));
  const char* const why = operate(params, pool, workspace.data, nullptr);
  DINN360_TRY(threads.status);
  return why == nullptr ? nullptr : error(context.api(), "dinn360:%s: %s", name, why);
}

}  // namespace

OrtStatus* CpuBackend::run(DeformConvParams const& params, Context const& context) {
  return run_on_session("DeformConv2d", &cpu::deform_conv, params, context);
}

OrtStatus* CpuBackend::run(DstAttentionParams const& params, Context const& context) {
  return run_on_session("DSTAttention", &cpu::dst_attention, params, context);
}

}  // namespace dinn360::ort
