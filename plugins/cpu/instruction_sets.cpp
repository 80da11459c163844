// Which builds of the kernels this CPU can run.
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include <cstring>

#include "kernels.h"

namespace dinn360::cpu {

namespace {

struct Candidate {
  const Kernels* kernels;
  bool (*runs)();
};

#if defined(__x86_64__)
// Conversion of 16-bit floats. __builtin_cpu_supports has no name for it in clang 14.
bool has_f16c() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}
#endif

// The best first. NEON belongs to every 64-bit ARM CPU.
const Candidate kCandidates[] = {
#if defined(__x86_64__)
    {&avx512::kernels,
     [] {
       return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
              __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw");
     }},
    {&avx2::kernels, [] { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c(); }},
#elif defined(__aarch64__)
    {&neon::kernels, [] { return true; }},
#endif
    {&portable::kernels, [] { return true; }},
};

}  // namespace

const Kernels* best_kernels() {
  static const Kernels* const best = find_kernels(nullptr);
  return best;
}

const Kernels* find_kernels(const char* name) {
  for (Candidate const& candidate : kCandidates) {
    bool const wanted = name == nullptr || std::strcmp(name, candidate.kernels->name) == 0;
    if (wanted && candidate.runs()) return candidate.kernels;
  }
  return nullptr;
}

}  // namespace dinn360::cpu
