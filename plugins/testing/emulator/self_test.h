// The kernels of tests/test_emulator.py: what each is given, and the tables of them by name.
#pragma once

#include <cstddef>
#include <span>

#include "../../cuda/simt.cuh"
#include "machine.h"

namespace dinn360::self_test {

using simt::Global;
using simt::Shared;

struct Test {
  Global<float const> in;
  Global<float> out;
  Global<float> scratch;
  int count;    // elements of `in` and `out`
  bool broken;  // with the fault?
};

using Kernel = void (*)(Test);

struct Entry {
  char const* name;
  Kernel kernel;
  int blocks, threads;  // no blocks: as many as `out` needs
  std::size_t dynamic_bytes;
  Kernel clean = nullptr;  // instead of `kernel` where it is not to be broken; may have that much dynamic shared memory
};

#define DINN360_TEST(name, ...) {#name, name, __VA_ARGS__}

std::span<Entry const> faults();    // self_test_faults.cu
std::span<Entry const> patterns();  // self_test_patterns.cu

}  // namespace dinn360::self_test
