// Blocks one after another; within a block warp by warp, lane by lane, each lane until its next collective.
#include <cstdio>
#include <cstdlib>

#include "fiber.h"
#include "machine.h"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace dinn360::simt {

Machine machine;

namespace {

constexpr uint32_t kAllLanes = 0xffffffffu;

void (*body)(void*);
void* body_data;
bool failed;

char const* name(Collective kind) {
  switch (kind) {
    case Collective::kBlock:
      return "__syncthreads";
    case Collective::kWarp:
      return "__syncwarp";
    case Collective::kShuffle:
      return "__shfl_sync";
    case Collective::kShuffleXor:
      return "__shfl_xor_sync";
    case Collective::kShuffleUp:
      return "__shfl_up_sync";
    case Collective::kShuffleDown:
      return "__shfl_down_sync";
    case Collective::kBallot:
      return "__ballot_sync";
    case Collective::kMma:
      return "mma_m16n8k16";
    case Collective::kLdmatrix:
      return "ldmatrix_x4";
    case Collective::kLdmatrixTransposed:
      return "ldmatrix_x4_transposed";
    case Collective::kNone:
      break;
  }
  return "nothing";
}

bool aligned(Collective kind) {  // all lanes must execute the very same instruction
  return kind == Collective::kMma || kind == Collective::kLdmatrix || kind == Collective::kLdmatrixTransposed;
}

bool same(Site const& a, Site const& b) {
  return a.line() == b.line() && a.column() == b.column() && std::strcmp(a.file_name(), b.file_name()) == 0;
}

void record(std::string const& message) {
  if (machine.report == nullptr) {
    std::fprintf(stderr, "emulator: %s\n", message.c_str());
    std::abort();  // a launch outside a session: nobody would learn of it
  }
  if (machine.report->error[0] == '\0') {
    std::snprintf(machine.report->error, sizeof(machine.report->error), "%s", message.c_str());
  }
}

std::string in_kernel(int thread) {
  return std::string(machine.launch.name) + ", block (" + std::to_string(blockIdx.x) + "," +
         std::to_string(blockIdx.y) + "," + std::to_string(blockIdx.z) + "), thread " + thread_name(thread) + ", ";
}

void thread_main() {
  body(body_data);
  machine.threads[machine.current].run = Run::kExited;
  leave_fiber(machine.current);
  std::abort();  // an exited thread is never resumed
}

void resume(int thread) {
  machine.current = thread;
  threadIdx = machine.threads[thread].index;
  machine.on_thread = true;
  enter_fiber(thread);
  machine.on_thread = false;
}

uint64_t wait_for(Wait const& wait) {
  Thread& thread = machine.threads[machine.current];
  thread.wait = wait;
  thread.run = Run::kWaiting;
  leave_fiber(machine.current);
  return thread.wait.value;
}

int lanes_of(int first) { return min(32, machine.size - first); }

std::string state(Thread const& thread) {
  if (thread.run == Run::kExited) return "has exited";
  return std::string("waits at ") + name(thread.wait.kind) + " (" + where(thread.wait.site) + ")";
}

void shuffle_lanes(Thread* lanes, uint32_t mask) {
  uint64_t values[32];
  for (int lane = 0; lane < 32; ++lane) values[lane] = mask >> lane & 1 ? lanes[lane].wait.value : 0;
  for (int lane = 0; lane < 32; ++lane) {
    if (!(mask >> lane & 1)) continue;
    Wait& wait = lanes[lane].wait;
    int const first = lane / wait.width * wait.width;
    int source = lane;
    switch (wait.kind) {
      case Collective::kShuffle:
        source = first + (wait.argument & (wait.width - 1));
        break;
      case Collective::kShuffleXor:
        source = lane ^ wait.argument;
        break;
      case Collective::kShuffleUp:
        source = lane - wait.argument;
        break;
      default:
        source = lane + wait.argument;
        break;
    }
    bool const later = wait.kind == Collective::kShuffleXor && source >= first + wait.width;
    bool const outside = source < first || source >= first + wait.width;
    if (wait.kind != Collective::kShuffleXor ? outside : later) source = lane;
    if (source < 0 || source > 31 || !(mask >> source & 1)) {
      return fail_from_scheduler(static_cast<int>(lanes - machine.threads.data()) + lane, wait.site,
                                 std::string(name(wait.kind)) + " with missing lanes: reads lane " +
                                     std::to_string(source) + ", which is not in its mask");
    }
    wait.value = values[source];
  }
}

// d += a b with the fragments of mma.m16n8k16.row.col: exact products, added in fp32 in the order of k.
void multiply_lanes(Thread* lanes) {
  auto const half_of = [](uint32_t pair, int part) {
    return __half2float(__ushort_as_half(static_cast<uint16_t>(pair >> (16 * part))));
  };
  float a[16][16], b[16][8];
  for (int lane = 0; lane < 32; ++lane) {
    Wait const& wait = lanes[lane].wait;
    int const group = lane / 4, pair = lane % 4 * 2;
    for (int part = 0; part < 2; ++part) {
      for (int i = 0; i < 4; ++i) a[group + i % 2 * 8][pair + i / 2 * 8 + part] = half_of(wait.a[i], part);
      for (int i = 0; i < 2; ++i) b[pair + i * 8 + part][group] = half_of(wait.b[i], part);
    }
  }
  for (int lane = 0; lane < 32; ++lane) {
    for (int i = 0; i < 4; ++i) {
      int const row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
      float sum = lanes[lane].wait.d[i];
      for (int k = 0; k < 16; ++k) sum += a[row][k] * b[k][column];
      lanes[lane].wait.d[i] = sum;
    }
  }
}

// Lets a complete group of lanes go on; true if there was one.
bool complete_one(int first) {
  Thread* const lanes = machine.threads.data() + first;
  int const count = lanes_of(first);
  for (int lane = 0; lane < count; ++lane) {
    Wait const wait = lanes[lane].wait;
    if (lanes[lane].run != Run::kWaiting || wait.kind == Collective::kBlock) continue;
    if (!(wait.mask >> lane & 1)) {
      fail_from_scheduler(first + lane, wait.site,
                          std::string(name(wait.kind)) + " with a mask that leaves out the caller");
      return false;
    }
    bool complete = true;
    for (int other = 0; other < 32 && complete; ++other) {
      if (!(wait.mask >> other & 1)) continue;
      complete = other < count && lanes[other].run == Run::kWaiting && lanes[other].wait.kind == wait.kind &&
                 lanes[other].wait.mask == wait.mask &&
                 (!aligned(wait.kind) || same(lanes[other].wait.site, wait.site));
    }
    if (!complete) continue;
    EmulatorReport scratch{};
    EmulatorReport& report = machine.report ? *machine.report : scratch;
    if (wait.kind == Collective::kWarp) {
      machine.clocks[first / 32].synchronise(wait.mask, count == 32 ? kAllLanes : (1u << count) - 1);
    } else if (wait.kind == Collective::kMma) {
      multiply_lanes(lanes);
      ++report.matrix_products;
    } else if (wait.kind == Collective::kLdmatrix || wait.kind == Collective::kLdmatrixTransposed) {
      load_matrix_rows(first);
    } else if (wait.kind == Collective::kBallot) {
      uint64_t votes = 0;
      for (int other = 0; other < count; ++other) votes |= (wait.mask >> other & 1 & lanes[other].wait.value) << other;
      for (int other = 0; other < count; ++other) {
        if (wait.mask >> other & 1) lanes[other].wait.value = votes;
      }
      ++report.shuffles;
    } else {
      shuffle_lanes(lanes, wait.mask);
      ++report.shuffles;
    }
    for (int other = 0; other < count; ++other) {
      if (wait.mask >> other & 1) lanes[other].run = Run::kReady;
    }
    return true;
  }
  return false;
}

// No group of the warp is complete: names a lane that waits in vain and one it waits for.
void explain_warp(int first) {
  Thread* const lanes = machine.threads.data() + first;
  int const count = lanes_of(first);
  for (int lane = 0; lane < count; ++lane) {
    Wait const& wait = lanes[lane].wait;
    if (lanes[lane].run != Run::kWaiting || wait.kind == Collective::kBlock) continue;
    for (int other = 0; other < 32; ++other) {
      if (!(wait.mask >> other & 1)) continue;
      std::string missing;
      if (other >= count) {
        missing = "does not exist";
      } else if (lanes[other].run == Run::kExited || lanes[other].wait.kind != wait.kind) {
        missing = state(lanes[other]);
      } else if (lanes[other].wait.mask != wait.mask) {
        missing = "gives another mask";
      } else if (aligned(wait.kind) && !same(lanes[other].wait.site, wait.site)) {
        missing = state(lanes[other]);
      } else {
        continue;
      }
      return fail_from_scheduler(
          first + lane, wait.site,
          std::string(name(wait.kind)) + " with missing lanes: lane " + std::to_string(other) + " " + missing);
    }
  }
}

bool waits_for_warp(int first) {
  for (int lane = 0; lane < lanes_of(first); ++lane) {
    Thread const& thread = machine.threads[first + lane];
    if (thread.run == Run::kWaiting && thread.wait.kind != Collective::kBlock) return true;
  }
  return false;
}

// Runs a warp until each of its lanes has exited or waits for the block.
void run_warp(int first) {
  while (!failed) {
    for (int lane = 0; lane < lanes_of(first) && !failed; ++lane) {
      if (machine.threads[first + lane].run == Run::kReady) resume(first + lane);
    }
    if (failed) return;
    count_requests();
    if (!waits_for_warp(first)) return;
    bool any = false;
    while (!failed && complete_one(first)) any = true;
    if (!failed && !any) explain_warp(first);
  }
}

// All warps have stopped: true if they go on after a barrier that every thread has reached.
bool pass_barrier() {
  int waiting = -1, other = -1;
  for (int i = 0; i < machine.size; ++i) {
    if (machine.threads[i].run == Run::kWaiting) waiting = i;
  }
  if (waiting < 0) return false;
  Wait const& wait = machine.threads[waiting].wait;
  for (int i = 0; i < machine.size; ++i) {
    Thread const& thread = machine.threads[i];
    if (thread.run == Run::kExited || !same(thread.wait.site, wait.site)) other = i;
  }
  if (other >= 0) {
    fail_from_scheduler(waiting, wait.site,
                        "divergent barrier: __syncthreads is not reached by thread " + thread_name(other) + ", which " +
                            state(machine.threads[other]));
    return false;
  }
  for (auto& thread : machine.threads) thread.run = Run::kReady;
  ++machine.epoch;
  if (machine.report) ++machine.report->barriers;
  return true;
}

void run_block() {
  prepare_fibers(machine.size, thread_main);
  machine.threads.assign(machine.size, Thread{});
  machine.clocks.assign((machine.size + 31) / 32, WarpClock{});
  machine.first_epoch = ++machine.epoch;
  begin_block();
  for (int i = 0; i < machine.size; ++i) {
    auto const x = static_cast<uint32_t>(i);
    machine.threads[i].index = {x % blockDim.x, x / blockDim.x % blockDim.y, x / (blockDim.x * blockDim.y)};
    machine.threads[i].run = Run::kReady;
  }
  do {
    for (int first = 0; first < machine.size && !failed; first += 32) run_warp(first);
  } while (!failed && pass_barrier());
}

}  // namespace

void WarpClock::synchronise(uint32_t mask, uint32_t full) {
  ++now;
  if ((mask & full) == full) {
    all = now;
    return;
  }
  pair.resize(32 * 32);
  for (int a = 0; a < 32; ++a) {
    for (int b = 0; b < 32; ++b) {
      if (mask >> a & mask >> b & 1) pair[a * 32 + b] = now;
    }
  }
}

bool WarpClock::ordered(int lane, int other, uint32_t since) const {
  return all > since || (!pair.empty() && pair[lane * 32 + other] > since);
}

std::string where(Site const& site) {
  std::string const file = site.file_name();
  return file.substr(file.find_last_of('/') + 1) + ":" + std::to_string(site.line());
}

std::string thread_name(int thread) {
  uint3 const index = machine.threads[thread].index;
  return "(" + std::to_string(index.x) + "," + std::to_string(index.y) + "," + std::to_string(index.z) + ")";
}

void fail_from_scheduler(int thread, Site const& site, std::string const& what) {
  failed = true;
  record(in_kernel(thread) + where(site) + ": " + what);
}

void fail_at(std::string const& place, std::string const& what) {
  failed = true;
  record((machine.on_thread ? in_kernel(machine.current) : "host code, ") + place + ": " + what);
  if (machine.on_thread) leave_fiber(machine.current);
}

void fail(Site const& site, std::string const& what) {
  fail_from_scheduler(machine.current, site, what);
  leave_fiber(machine.current);
  std::abort();  // a failed launch is never resumed
}

uint64_t exchange(Collective kind, uint32_t mask, uint64_t value, int argument, int width, Site site) {
  Wait wait;
  wait.kind = kind;
  wait.mask = mask;
  wait.site = site;
  wait.value = value;
  wait.argument = argument;
  wait.width = width;
  return wait_for(wait);
}

void multiply(float* d, uint32_t const* a, uint32_t const* b, Site site) {
  Wait wait;
  wait.kind = Collective::kMma;
  wait.mask = kAllLanes;
  wait.site = site;
  wait.d = d;
  wait.a = a;
  wait.b = b;
  wait_for(wait);
}

void load_matrices(uint32_t* r, void const* origin, void const* address, bool transposed, Site site) {
  Wait wait;
  wait.kind = transposed ? Collective::kLdmatrixTransposed : Collective::kLdmatrix;
  wait.mask = kAllLanes;
  wait.site = site;
  wait.r = r;
  wait.origin = origin;
  wait.address = address;
  wait_for(wait);
}

void run_grid(Launch const& launch, void (*thread)(void* data), void* data) {
  if (machine.report != nullptr && machine.report->error[0] != '\0') return;  // as after an error on a GPU
  failed = false;
  body = thread;
  body_data = data;
  machine.launch = launch;
  ++machine.launch_number;
  blockDim = launch.block;
  gridDim = launch.grid;
  uint64_t const threads = uint64_t{1} * blockDim.x * blockDim.y * blockDim.z;
  uint64_t const blocks = uint64_t{1} * gridDim.x * gridDim.y * gridDim.z;
  if (threads < 1 || threads > 1024 || blockDim.z > 64 || blocks < 1 || gridDim.x > 0x7fffffffu || gridDim.y > 65535 ||
      gridDim.z > 65535) {
    return record(std::string(launch.name) + ": no GPU launches a grid of " + std::to_string(gridDim.x) + "x" +
                  std::to_string(gridDim.y) + "x" + std::to_string(gridDim.z) + " blocks of " +
                  std::to_string(blockDim.x) + "x" + std::to_string(blockDim.y) + "x" + std::to_string(blockDim.z) +
                  " threads");
  }
  if (std::string const why = refuse_dynamic_shared(launch); !why.empty()) return record(launch.name + (": " + why));
  machine.size = static_cast<int>(threads);
  machine.block_number = 0;
  if (machine.report) {
    ++machine.report->launches;
    machine.report->blocks += blocks;
    machine.report->threads += blocks * threads;
  }
  for (uint32_t z = 0; z < gridDim.z; ++z) {
    for (uint32_t y = 0; y < gridDim.y; ++y) {
      for (uint32_t x = 0; x < gridDim.x; ++x, ++machine.block_number) {
        blockIdx = {x, y, z};
        run_block();
        if (failed) return;
      }
    }
  }
}

}  // namespace dinn360::simt
