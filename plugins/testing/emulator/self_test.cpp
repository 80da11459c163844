// Runs a kernel of the self-test by its name.
#include "self_test.h"

#include <cstring>
#include <vector>

namespace dinn360::self_test {
namespace {

Entry const* find(char const* name) {
  for (std::span<Entry const> const entries : {faults(), patterns()}) {
    for (Entry const& entry : entries) {
      if (std::strcmp(entry.name, name) == 0) return &entry;
    }
  }
  return nullptr;
}

void run(Entry const& entry, Test const& test) {
  int const blocks = entry.blocks > 0 ? entry.blocks : (test.count + entry.threads - 1) / entry.threads;
  Kernel kernel = entry.kernel;
  if (entry.clean && !test.broken) {
    kernel = entry.clean;
    cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(entry.dynamic_bytes));
  }
  simt::launch(entry.name, kernel, blocks, entry.threads, entry.dynamic_bytes, test);
}

}  // namespace
}  // namespace dinn360::self_test

// Runs the kernel of that name on in (in_count), out (out_count) and a scratch of 1024 floats, and checks that out is
// wholly written if `whole`. Returns null, or a message if there is no such kernel.
extern "C" __attribute__((visibility("default"))) char const* dinn360_emulator_self_test(
    char const* name, int broken, float const* in, int in_count, float* out, int out_count, int whole,
    dinn360::EmulatorReport* report) {
  using namespace dinn360;
  self_test::Entry const* const entry = self_test::find(name);
  if (!entry) return "no such kernel";
  std::vector<float> scratch(1024);
  simt::begin_session(
      {
          {"in", const_cast<float*>(in), sizeof(float) * in_count, false},
          {"out", out, sizeof(float) * out_count, true},
          {"scratch", scratch.data(), sizeof(float) * scratch.size(), true},
      },
      report);
  self_test::run(*entry, {{in}, {out}, {scratch.data()}, out_count, broken != 0});
  simt::end_session(whole ? "out" : nullptr);
  return nullptr;
}
