// What each instruction set's build of the operators offers to operators.cpp.
#pragma once

#include <cstddef>
#include <cstdint>

#include "../params.h"

namespace dinn360::cpu {

// Memory of a call: what all workers share, and a worker's own.
struct Memory {
  char* shared;
  char* own;
};

// An operator as phases, one after the other, each made of units that may run at once and in any order.
// The same unit gives the same bits whoever runs it.
template <class Params>
struct Steps {
  size_t (*shared_bytes)(Params const&);
  size_t (*own_bytes)(Params const&);
  int32_t (*phases)(Params const&);
  int64_t (*units)(Params const&, int32_t phase);
  void (*run)(Params const&, Memory, int32_t phase, int64_t unit);
};

struct Kernels {
  const char* name;
  Steps<DeformConvParams> deform_conv;
  Steps<DstAttentionParams> dst_attention;
};

namespace portable {
extern const Kernels kernels;
}
namespace avx2 {
extern const Kernels kernels;
}
namespace avx512 {
extern const Kernels kernels;
}
namespace neon {
extern const Kernels kernels;
}

// The best that this CPU has, or the one of that name ("portable", "avx2", "avx512", "neon"), which is how tests and
// benchmarks choose; nullptr when there is none.
const Kernels* best_kernels();
const Kernels* find_kernels(const char* name);

}  // namespace dinn360::cpu
