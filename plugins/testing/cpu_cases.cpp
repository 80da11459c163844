// Runs calls of the operators out of a file: for CPUs that only an emulator runs here (tests/cpu_cases.py).
//
//   dinn360_cpu_cases INPUT OUTPUT INSTRUCTION_SET
//
// INPUT, for each call: int32 operator (0: deform_conv, 1: dst_attention), its parameter structure, whose pointers are
// filled in here, and for each pointer an int64 size in bytes (0: null) and that many bytes. OUTPUT: each y.
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <memory>
#include <vector>

#include "../cpu/inference/kernels.h"
#include "../cpu/inference/operators.h"

namespace {

using namespace dinn360;
using namespace dinn360::cpu;

void run_in_turn(void*, int64_t count, void (*task)(void* data, int64_t index), void* data) {
  for (int64_t index = 0; index < count; ++index) task(data, index);
}

template <class T>
bool read(std::istream& in, T* to, size_t count) {
  return static_cast<bool>(in.read(reinterpret_cast<char*>(to), static_cast<std::streamsize>(count * sizeof(T))));
}

// Why the call could not be run, or nullptr. `pointers`: how many stand at the start of the structure, y the last.
template <class Params>
const char* run_case(std::istream& in, std::ostream& out, size_t pointers, Kernels const* kernels,
                     const char* (*operation)(Params const&, Pool const&, void*, Kernels const*)) {
  Params params;
  if (!read(in, &params, 1)) return "the file ends within a call";
  std::vector<std::unique_ptr<char[]>> tensors(pointers);  // each in a piece of its own: sanitizers see its bounds
  int64_t size = 0;
  for (size_t i = 0; i < pointers; ++i) {
    if (!read(in, &size, 1)) return "the file ends within a call";
    if (size > 0) tensors[i].reset(new char[size]);
    if (!read(in, tensors[i].get(), static_cast<size_t>(size))) return "the file ends within a tensor";
    char* const address = tensors[i].get();
    std::memcpy(reinterpret_cast<char*>(&params) + i * sizeof(void*), &address, sizeof(void*));
  }
  if (const char* const why = check(params)) return why;
  if (const char* const why = operation(params, Pool{nullptr, run_in_turn, 2}, nullptr, kernels)) return why;
  return out.write(tensors.back().get(), size) ? nullptr : "the output cannot be written";
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 4) return std::fprintf(stderr, "expected INPUT OUTPUT INSTRUCTION_SET\n"), 2;
  std::ifstream in(arguments[1], std::ios::binary);
  std::ofstream out(arguments[2], std::ios::binary);
  Kernels const* const kernels = inference::find_kernels(arguments[3]);
  if (kernels == nullptr) return std::fprintf(stderr, "%s: this CPU does not have it\n", arguments[3]), 2;
  for (int32_t which; read(in, &which, 1);) {
    const char* const why = which == 0 ? run_case<DeformConvParams>(in, out, 6, kernels, deform_conv)
                                       : run_case<DstAttentionParams>(in, out, 7, kernels, dst_attention);
    if (why != nullptr) return std::fprintf(stderr, "%s\n", why), 1;
  }
  return 0;
}
