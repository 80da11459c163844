// The instruction sets that kernels are built for, and the choice of one at run time: for every family of kernels
// (inference, fused, training) the same.
#pragma once

namespace dinn360::cpu {

// X(set, ...) for each set that this architecture has a build for, the best first. NEON belongs to every 64-bit ARM CPU.
#if defined(__x86_64__)
#define DINN360_INSTRUCTION_SETS(X, ...) X(avx512, __VA_ARGS__) X(avx2, __VA_ARGS__) X(portable, __VA_ARGS__)
#elif defined(__aarch64__)
#define DINN360_INSTRUCTION_SETS(X, ...) X(neon, __VA_ARGS__) X(portable, __VA_ARGS__)
#else
#define DINN360_INSTRUCTION_SETS(X, ...) X(portable, __VA_ARGS__)
#endif

// The place in DINN360_INSTRUCTION_SETS of the set of that name; -1 when this CPU has none. Null: the one that the
// environment names in DINN360_INSTRUCTION_SET (to measure on one machine what another would take), else the best.
int find_instruction_set(const char* name);
const char* instruction_set_name(int place);

#define DINN360_DECLARE_KERNELS(set, family, Type) \
  namespace set::family {                          \
  extern const Type kernels;                       \
  }
#define DINN360_ADDRESS_OF_KERNELS(set, family) &set::family::kernels,

// In namespace dinn360::cpu: declares the tables <set>::family::kernels, which the family's kernels.cpp defines in each
// of its builds, and family::find_kernels, which chooses among them as find_instruction_set does (null: none).
#define DINN360_DISPATCH(family, Type)                                                                  \
  DINN360_INSTRUCTION_SETS(DINN360_DECLARE_KERNELS, family, Type)                                       \
  namespace family {                                                                                    \
  inline Type const* find_kernels(const char* name) {                                                   \
    static Type const* const builds[] = {DINN360_INSTRUCTION_SETS(DINN360_ADDRESS_OF_KERNELS, family)}; \
    int const place = find_instruction_set(name);                                                       \
    return place < 0 ? nullptr : builds[place];                                                         \
  }                                                                                                     \
  }

}  // namespace dinn360::cpu
