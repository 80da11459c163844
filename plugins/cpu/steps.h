// What an operator is to the threads that compute it: phases, each made of units.
#pragma once

#include <cstddef>
#include <cstdint>

namespace dinn360::cpu {

// Memory of a call: what all workers share, and a worker's own.
struct Memory {
  char* shared;
  char* own;
};

// An operator as phases, one after the other, each made of units that may run at once and in any order.
// The same unit gives the same bits whoever runs it.
template <class Params>
struct Steps {
  size_t (*shared_bytes)(Params const&);
  size_t (*own_bytes)(Params const&);
  int32_t (*phases)(Params const&);
  int64_t (*units)(Params const&, int32_t phase);
  void (*run)(Params const&, Memory, int32_t phase, int64_t unit);
};

}  // namespace dinn360::cpu
