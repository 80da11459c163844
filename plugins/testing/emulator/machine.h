// The emulated machine's state, shared by scheduler.cpp, memory.cpp and the libraries' C interfaces.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "report.h"
#include "simt_emulated.h"

namespace dinn360::simt {

enum class Run { kReady, kWaiting, kExited };

// What a thread waits for, and what it brings.
struct Wait {
  Collective kind = Collective::kNone;
  uint32_t mask = 0;
  Site site;
  uint64_t value = 0;
  int argument = 0, width = 32;
  void const* origin = nullptr;
  void const* address = nullptr;
  float* d = nullptr;
  uint32_t* r = nullptr;
  uint32_t const* a = nullptr;
  uint32_t const* b = nullptr;
};

struct Thread {
  void* stack_pointer = nullptr;
  Run run = Run::kExited;
  uint3 index{};
  Wait wait;
};

// When lanes of a warp were last ordered by __syncwarp, on the warp's own clock.
struct WarpClock {
  uint32_t now = 1, all = 0;
  std::vector<uint32_t> pair;  // [32][32], only once a part of the warp synchronised

  void synchronise(uint32_t mask, uint32_t full);
  bool ordered(int lane, int other, uint32_t since) const;
};

struct Machine {
  Launch launch{};
  std::vector<Thread> threads;  // of the block that runs
  std::vector<WarpClock> clocks;
  int current = 0;         // the thread that runs
  bool on_thread = false;  // else the scheduler or the host does
  int size = 0;            // threads of a block
  uint32_t block_number = 0, launch_number = 0;
  uint32_t epoch = 0;        // grows with every block barrier and every block, never repeats
  uint32_t first_epoch = 0;  // of the block that runs
  EmulatorReport* report = nullptr;

  int warp() const { return current / 32; }
  int lane() const { return current % 32; }
};
extern Machine machine;

std::string where(Site const& site);
std::string thread_name(int thread);
// Ends the launch with "kernel, block, thread, place: what". Called on a thread, or with `thread` by the scheduler.
[[noreturn]] void fail(Site const& site, std::string const& what);
void fail_at(std::string const& place, std::string const& what);  // on a thread or, around launches, on the host
void fail_from_scheduler(int thread, Site const& site, std::string const& what);

struct alignas(32) Sector {
  unsigned char bytes[32];
};

// memory.cpp
struct Tensor {
  char const* name;
  void* begin;
  size_t bytes;
  bool output;  // may be stored to; what is read of it must have been written
};
void begin_session(std::vector<Tensor> const& tensors, EmulatorReport* report);
// Checks that every byte of the tensor called `name` was written. Ends the session.
void end_session(char const* name);
void begin_block();
void count_requests();                                    // those of the warp that has just stopped
void load_matrix_rows(int first);                         // ldmatrix, for the warp whose first thread this is
std::string refuse_dynamic_shared(Launch const& launch);  // why this launch asks for too much, or empty

}  // namespace dinn360::simt
