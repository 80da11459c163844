// Between memory.cpp, which checks every access, and counting.cpp, which makes requests of them.
#pragma once

#include "machine.h"

namespace dinn360::simt {

enum class Space { kGlobalLoad, kGlobalStore, kSharedLoad, kSharedStore };

struct Access {
  Site site;
  Space space;
  int bytes;
  uint64_t at;  // global: index of the tensor << 48 | byte; shared: byte
};

void begin_counting(std::vector<Tensor> const& tensors, EmulatorReport* report);
void note(Access const& access);                 // of the thread that runs
void note_lane(int lane, Access const& access);  // of a lane of the warp that has stopped

}  // namespace dinn360::simt
