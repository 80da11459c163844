#include <cstring>

#include "../kernels.h"
#include "kernels.h"

namespace dinn360::fused {

Kernels const& kernels() {
  static Kernels const& chosen = []() -> Kernels const& {
    const char* const name = cpu::best_kernels()->name;
#if defined(__x86_64__)
    if (std::strcmp(name, "avx512") == 0) return cpu::avx512::fused::kernels;
    if (std::strcmp(name, "avx2") == 0) return cpu::avx2::fused::kernels;
#elif defined(__aarch64__)
    if (std::strcmp(name, "neon") == 0) return cpu::neon::fused::kernels;
#endif
    return cpu::portable::fused::kernels;
  }();
  return chosen;
}

}  // namespace dinn360::fused
