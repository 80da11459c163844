#include "fiber.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#if !(defined(__x86_64__) && defined(__linux__))
#include <ucontext.h>
#define DINN360_UCONTEXT
#endif

namespace dinn360::simt {
namespace {

constexpr int kMaximum = 1024;
constexpr size_t kGuard = 4096;

// The stacks, one after another, each with a page below it that faults.
unsigned char* stacks() {
  static unsigned char* const memory = [] {
    void* const mapped = mmap(nullptr, kMaximum * kStackBytes, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapped == MAP_FAILED) {
      std::fputs("emulator: no memory for the threads' stacks\n", stderr);
      std::abort();
    }
    auto* const bytes = static_cast<unsigned char*>(mapped);
    for (int i = 0; i < kMaximum; ++i) mprotect(bytes + i * kStackBytes, kGuard, PROT_NONE);
    return bytes;
  }();
  return memory;
}

}  // namespace

#ifdef DINN360_UCONTEXT

namespace {
ucontext_t scheduler;
std::vector<ucontext_t> contexts(kMaximum);
}  // namespace

void prepare_fibers(int count, void (*entry)()) {
  for (int i = 0; i < count; ++i) {
    getcontext(&contexts[i]);
    contexts[i].uc_stack.ss_sp = stacks() + i * kStackBytes + kGuard;
    contexts[i].uc_stack.ss_size = kStackBytes - kGuard;
    contexts[i].uc_link = nullptr;
    makecontext(&contexts[i], entry, 0);
  }
}
void enter_fiber(int index) { swapcontext(&scheduler, &contexts[index]); }
void leave_fiber(int index) { swapcontext(&contexts[index], &scheduler); }

#else

// Saves the registers that a call must preserve on this stack, leaves its pointer in *save, and goes on at `load`.
extern "C" void dinn360_switch(void** save, void* load);
asm(R"(
.text
.globl dinn360_switch
.hidden dinn360_switch
.type dinn360_switch, @function
dinn360_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size dinn360_switch, .-dinn360_switch
)");

namespace {
void* scheduler;
void* pointers[kMaximum];
}  // namespace

void prepare_fibers(int count, void (*entry)()) {
  for (int i = 0; i < count; ++i) {
    auto* top = reinterpret_cast<uint64_t*>(stacks() + (i + 1) * kStackBytes);
    *--top = 0;  // where entry would return to; the stack is aligned as after a call
    *--top = reinterpret_cast<uint64_t>(entry);
    for (int saved = 0; saved < 6; ++saved) *--top = 0;
    pointers[i] = top;
  }
}
void enter_fiber(int index) { dinn360_switch(&scheduler, pointers[index]); }
void leave_fiber(int index) { dinn360_switch(&pointers[index], scheduler); }

#endif

}  // namespace dinn360::simt
