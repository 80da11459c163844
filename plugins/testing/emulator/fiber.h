// Stacks that take turns: one for each emulated thread. On x86-64 Linux a switch is a few instructions (ucontext's
// saves the signal mask by a system call); elsewhere it is ucontext's.
#pragma once

#include <cstddef>

namespace dinn360::simt {

inline constexpr size_t kStackBytes = 128 * 1024;

// Makes `count` stacks ready, each to call entry() when first resumed. entry must never return.
void prepare_fibers(int count, void (*entry)());
// From the scheduler: runs fiber `index` until it calls leave_fiber.
void enter_fiber(int index);
// From a fiber: back to the scheduler.
void leave_fiber(int index);

}  // namespace dinn360::simt
