#include <cstring>

#include "kernels.h"

namespace dinn360::training {

Kernels const* find_kernels(const char* name) {
  cpu::Kernels const* const found = cpu::find_kernels(name);
  if (found == nullptr) return nullptr;
#if defined(__x86_64__)
  if (std::strcmp(found->name, "avx512") == 0) return &cpu::avx512::training::kernels;
  if (std::strcmp(found->name, "avx2") == 0) return &cpu::avx2::training::kernels;
#elif defined(__aarch64__)
  if (std::strcmp(found->name, "neon") == 0) return &cpu::neon::training::kernels;
#endif
  return &cpu::portable::training::kernels;
}

}  // namespace dinn360::training
