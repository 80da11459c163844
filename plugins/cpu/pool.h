// The threads that a host lends to a call.
#pragma once

#include <cstdint>

namespace dinn360::cpu {

// The host's threads. `run` calls task(data, index) once for each index in [0, count), in any order, and returns when
// all are done. `threads` is how many may run at once.
struct Pool {
  void* self;
  void (*run)(void* self, int64_t count, void (*task)(void* data, int64_t index), void* data);
  int32_t threads;
};

}  // namespace dinn360::cpu
