// Runs an operator's phases (steps.h) on a pool of threads.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

#include "pool.h"
#include "steps.h"

namespace dinn360::cpu {

constexpr size_t kAlignment = 64;

inline size_t aligned(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

template <class Params>
size_t workspace_size(Steps<Params> const& steps, Params const& params, Pool const& pool) {
  return kAlignment + aligned(steps.shared_bytes(params)) + pool.threads * aligned(steps.own_bytes(params));
}

// One phase on the pool: each worker takes the next unit that nobody has, in its own part of the workspace.
template <class Params>
struct Phase {
  Steps<Params> const& steps;
  Params const& params;
  char* workspace;
  int32_t number;
  int64_t units;
  std::atomic<int64_t> next{0};

  static void work(void* data, int64_t worker) {
    Phase& phase = *static_cast<Phase*>(data);
    char* const own = phase.workspace + aligned(phase.steps.shared_bytes(phase.params)) +
                      worker * aligned(phase.steps.own_bytes(phase.params));
    Memory const memory{phase.workspace, own};
    for (int64_t unit; (unit = phase.next.fetch_add(1, std::memory_order_relaxed)) < phase.units;) {
      phase.steps.run(phase.params, memory, phase.number, unit);
    }
  }
};

// workspace: workspace_size bytes, or null, and they are allocated for the time of the call. Returns nullptr, or a
// static message when they could not be had.
template <class Params>
const char* run_phases(Steps<Params> const& steps, Params const& params, Pool const& pool, void* workspace) {
  std::unique_ptr<char[]> allocated;
  if (workspace == nullptr) {
    allocated.reset(new (std::nothrow) char[workspace_size(steps, params, pool)]);
    if (allocated == nullptr) return "no memory for the workspace";
    workspace = allocated.get();
  }
  char* const start = reinterpret_cast<char*>(aligned(reinterpret_cast<uintptr_t>(workspace)));
  for (int32_t number = 0; number < steps.phases(params); ++number) {
    Phase<Params> phase{steps, params, start, number, steps.units(params, number)};
    pool.run(pool.self, std::min<int64_t>(pool.threads, phase.units), Phase<Params>::work, &phase);
  }
  return nullptr;
}

}  // namespace dinn360::cpu
