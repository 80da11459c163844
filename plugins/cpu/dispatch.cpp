#include "dispatch.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace dinn360::cpu {

namespace {

bool has_portable() { return true; }

#if defined(__x86_64__)
// Conversion of 16-bit floats. __builtin_cpu_supports has no name for it in clang 14.
bool has_f16c() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}
bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c(); }
bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw");
}
#elif defined(__aarch64__)
bool has_neon() { return true; }
#endif

struct Candidate {
  const char* name;
  bool (*runs)();
};

#define DINN360_CANDIDATE(set, ...) {#set, has_##set},
constexpr Candidate kCandidates[] = {DINN360_INSTRUCTION_SETS(DINN360_CANDIDATE, )};
constexpr int kCount = sizeof kCandidates / sizeof kCandidates[0];

int find(const char* name) {
  for (int place = 0; place < kCount; ++place) {
    bool const wanted = name == nullptr || std::strcmp(name, kCandidates[place].name) == 0;
    if (wanted && kCandidates[place].runs()) return place;
  }
  return -1;
}

}  // namespace

int find_instruction_set(const char* name) {
  const char* const asked = name == nullptr ? std::getenv("DINN360_INSTRUCTION_SET") : nullptr;
  if (asked == nullptr) return find(name);
  int const place = find(asked);
  if (place >= 0) return place;
  std::fprintf(stderr, "DINN360_INSTRUCTION_SET: expected an instruction set of this CPU, found %s; the best is used\n",
               asked);
  return find(nullptr);
}

const char* instruction_set_name(int place) { return kCandidates[place].name; }

}  // namespace dinn360::cpu
