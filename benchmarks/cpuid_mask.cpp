// A library to preload (Linux, x86-64): CPUID tells the process, its threads and the programs that it starts of an AVX2
// CPU, so that every library in it chooses the code that it has for one. The instruction is made to fault (arch_prctl
// ARCH_SET_CPUID; Intel since Ivy Bridge, AMD since Zen 4) and answered by a handler, without the bits of what came after
// AVX2 and FMA. Where faulting is missing the process ends with one line.
//
// What chose before any constructor ran, the C library's copies of memory, keeps its choice. XGETBV does not fault: who
// asks it alone and not CPUID is not told.
#include <asm/prctl.h>
#include <cpuid.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstring>

namespace {

struct Registers {
  unsigned a, b, c, d;
};

constexpr unsigned bits() { return 0; }
template <class... Rest>
constexpr unsigned bits(unsigned first, Rest... rest) {
  return 1U << first | bits(rest...);
}

// What is taken out of leaf 7, in the order of Intel's manual (volume 2A, CPUID, "Structured Extended Feature Flags").
constexpr unsigned kLeaf7B = bits(16U, 17U, 21U, 26U, 27U, 28U, 30U, 31U);  // AVX-512 F DQ IFMA PF ER CD BW VL
constexpr unsigned kLeaf7C = bits(1U, 6U, 11U, 12U, 14U);                   // AVX-512 VBMI VBMI2 VNNI BITALG VPOPCNTDQ
constexpr unsigned kLeaf7D = bits(2U, 3U, 8U, 22U, 23U, 24U, 25U);  // AVX-512 4VNNIW 4FMAPS VP2INTERSECT FP16, AMX
constexpr unsigned kLeaf71A = bits(4U, 5U, 21U, 23U);               // AVX-VNNI, AVX-512 BF16, AMX-FP16, AVX-IFMA
constexpr unsigned kLeaf71D = bits(4U, 5U, 8U, 10U, 19U);           // AVX-VNNI-INT8 and -16, AVX-NE-CONVERT, AMX, AVX10
constexpr unsigned kStates = bits(5U, 6U, 7U, 17U, 18U);            // XCR0: masks, upper halves, ZMM16-31, tiles

Registers masked(Registers found, unsigned leaf, unsigned part) {
  constexpr unsigned kFeatures = 7, kStateSizes = 0xD, kTiles = 0x1D, kTileProducts = 0x1E, kAvx10 = 0x24;
  if (leaf == kFeatures && part == 0) {
    return {found.a, found.b & ~kLeaf7B, found.c & ~kLeaf7C, found.d & ~kLeaf7D};
  }
  if (leaf == kFeatures && part == 1) return {found.a & ~kLeaf71A, found.b, found.c, found.d & ~kLeaf71D};
  if (leaf == kStateSizes && part == 0) return {found.a & ~kStates, found.b, found.c, found.d};
  if (leaf == kStateSizes && part < 32 && (kStates & 1U << part) != 0) return {};
  if (leaf == kTiles || leaf == kTileProducts || leaf == kAvx10) return {};
  return found;
}

bool let_cpuid_fault(bool faults) { return syscall(SYS_arch_prctl, ARCH_SET_CPUID, faults ? 0UL : 1UL) == 0; }

struct sigaction previous;

void answer(int signal, siginfo_t* info, void* context) {
  constexpr unsigned char kCpuid[] = {0x0F, 0xA2};
  int const error = errno;
  greg_t* const registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  // SI_KERNEL: a general protection fault, which has no address. The code that it stands in can be read.
  if (info->si_code != SI_KERNEL || std::memcmp(reinterpret_cast<void const*>(registers[REG_RIP]), kCpuid, 2) != 0) {
    sigaction(signal, &previous, nullptr);  // the instruction is repeated and its fault goes where it would have gone
    if (info->si_code <= 0) raise(signal);  // one that a process sent is not
    return;
  }
  auto const leaf = static_cast<unsigned>(registers[REG_RAX]), part = static_cast<unsigned>(registers[REG_RCX]);
  Registers found{};
  let_cpuid_fault(false);
  __cpuid_count(leaf, part, found.a, found.b, found.c, found.d);
  let_cpuid_fault(true);
  found = masked(found, leaf, part);
  registers[REG_RAX] = found.a;
  registers[REG_RBX] = found.b;
  registers[REG_RCX] = found.c;
  registers[REG_RDX] = found.d;
  registers[REG_RIP] += sizeof kCpuid;
  errno = error;
}

__attribute__((constructor)) void begin() {
  struct sigaction action{};
  action.sa_sigaction = answer;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigfillset(&action.sa_mask);  // no other handler runs while CPUID does not fault
  if (sigaction(SIGSEGV, &action, &previous) == 0 && let_cpuid_fault(true)) return;
  constexpr char kWhy[] = "this CPU or its system cannot hide instruction sets: CPUID does not fault (arch_prctl)\n";
  if (write(STDERR_FILENO, kWhy, sizeof kWhy - 1) < 0) _exit(2);
  _exit(1);
}

}  // namespace
