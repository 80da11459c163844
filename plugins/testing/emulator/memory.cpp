// What global and shared memory know about themselves: bounds, who wrote and read each byte since which barrier.
#include "memory.h"

#include <cstdio>

namespace dinn360::simt {
namespace {

constexpr size_t kStaticLimit = 48 * 1024;
constexpr size_t kSharedLimit = 99 * 1024;  // of a block on sm_86 and sm_89, the smallest of our targets

struct Range {
  Tensor tensor;
  std::vector<uint64_t> written;  // one for each byte of an output: by which thread of which launch, 0: never
};

struct Array {
  void const* key;
  char const* name;
  size_t begin, bytes;
};

// `thread` and `other` are not ordered by a __syncwarp of their warp after `since`.
bool unsynchronised(int thread, int other, uint32_t since) {
  return thread / 32 != other / 32 || !machine.clocks[thread / 32].ordered(thread % 32, other % 32, since);
}

// A byte of shared memory. Epochs are block barriers, times the warp's own clock.
struct Cell {
  uint32_t write_epoch = 0, write_time = 0, read_epoch = 0, read_time = 0;
  uint16_t writer = 0, reader = 0;
  bool other_lanes = false, other_warps = false;  // read by more lanes of the reader's warp; by more warps

  bool written_by_another(int thread) const {
    return write_epoch == machine.epoch && writer != thread && unsynchronised(thread, writer, write_time);
  }
};

std::vector<Range> ranges;
std::vector<Array> arrays;
size_t shared_bytes = 0;
alignas(1024) unsigned char shared_memory[kSharedLimit];
std::vector<Cell> cells(kSharedLimit);
std::vector<std::pair<void const*, int>> allowed;  // kernels and their largest dynamic shared memory

std::string bytes_text(int bytes) { return std::to_string(bytes) + (bytes == 1 ? " byte" : " bytes"); }

// Who writes: launch, block, epoch and thread in one word, never 0.
uint64_t writer_word() {
  return uint64_t{machine.launch_number & 0xffu} << 56 | uint64_t{machine.block_number & 0xfffffffu} << 28 |
         uint64_t{(machine.epoch - machine.first_epoch) & 0x1ffffu} << 11 | uint64_t{1} << 10 |
         static_cast<uint64_t>(machine.current);
}

// Another thread of the same launch wrote this byte, and no barrier stands between.
bool unordered(uint64_t written) {
  uint64_t const mine = writer_word();
  if (written == 0 || written >> 56 != mine >> 56 || written == mine) return false;
  if ((written ^ mine) >> 28 != 0) return true;   // another block
  if ((written ^ mine) >> 11 != 0) return false;  // a barrier of this block since
  int const other = static_cast<int>(written & 0x3ff);
  return other != machine.current && other / 32 != machine.warp();  // within a warp __syncwarp may have ordered them
}

// The range that `origin` points into, after all checks of an access; null where no session is open.
Range* find(void const* origin, void const* address, int bytes, bool store, Site const& site) {
  if (ranges.empty()) return nullptr;
  auto const verb = [&] { return std::string(store ? "store" : "load") + " of " + bytes_text(bytes); };
  auto const start = reinterpret_cast<uintptr_t>(origin), at = reinterpret_cast<uintptr_t>(address);
  for (Range& range : ranges) {
    auto const begin = reinterpret_cast<uintptr_t>(range.tensor.begin);
    if (start < begin || start >= begin + range.tensor.bytes) continue;
    auto const position = static_cast<int64_t>(at - begin);
    if (position < 0 || position + bytes > static_cast<int64_t>(range.tensor.bytes)) {
      fail(site, "out of bounds: " + verb() + " at byte " + std::to_string(position) + " of " + range.tensor.name +
                     ", which has " + std::to_string(range.tensor.bytes));
    }
    if (position % bytes != 0) {
      fail(site, "misaligned: " + verb() + " at byte " + std::to_string(position) + " of " + range.tensor.name);
    }
    if (store && !range.tensor.output) fail(site, verb() + " into " + range.tensor.name + ", which is an input");
    return &range;
  }
  fail(site, "out of bounds: " + verb() + " through " + (origin ? "a pointer into no tensor" : "a null pointer"));
}

uint64_t place(Range const& range, void const* address) {
  auto const index = static_cast<uint64_t>(&range - ranges.data());
  auto const* const begin = static_cast<char const*>(range.tensor.begin);
  return index << 48 | static_cast<uint64_t>(static_cast<char const*>(address) - begin);
}

// Position of an access in shared memory, or the error in `error`.
size_t locate(void const* origin, void const* address, int bytes, bool store, std::string& error) {
  auto const verb = std::string(store ? "store" : "load") + " of " + bytes_text(bytes);
  auto const start = static_cast<unsigned char const*>(origin) - shared_memory;
  auto const at = static_cast<unsigned char const*>(address) - shared_memory;
  for (Array const& array : arrays) {
    auto const begin = static_cast<int64_t>(array.begin), size = static_cast<int64_t>(array.bytes);
    if (start < begin || start >= begin + size) continue;
    if (at < begin || at + bytes > begin + size) {
      error = "out of bounds: " + verb + " at byte " + std::to_string(at - begin) + " of shared array " + array.name +
              ", which has " + std::to_string(size);
    } else if ((at - begin) % bytes != 0) {
      error = "misaligned: " + verb + " at byte " + std::to_string(at - begin) + " of shared array " + array.name;
    }
    return static_cast<size_t>(at);
  }
  error = "out of bounds: " + verb + " through a pointer into no shared array";
  return 0;
}

std::string array_place(size_t at) {
  for (Array const& array : arrays) {
    if (at >= array.begin && at < array.begin + array.bytes) {
      return "byte " + std::to_string(at - array.begin) + " of shared array " + array.name;
    }
  }
  return "shared memory";
}

std::string read_cells(int thread, size_t at, int bytes) {
  uint32_t const now = machine.clocks[thread / 32].now;
  for (size_t byte = at; byte < at + static_cast<size_t>(bytes); ++byte) {
    Cell& cell = cells[byte];
    if (cell.write_epoch < machine.first_epoch) {
      return "uninitialised: read of " + array_place(byte) + ", which this block has not written before";
    }
    if (cell.written_by_another(thread)) {
      return "race: read of " + array_place(byte) + ", written by thread " + thread_name(cell.writer) +
             " with no barrier between";
    }
    if (cell.read_epoch != machine.epoch) {
      cell.other_lanes = cell.other_warps = false;
    } else if (cell.reader != thread) {
      (cell.reader / 32 == thread / 32 ? cell.other_lanes : cell.other_warps) = true;
    }
    cell.read_epoch = machine.epoch;
    cell.read_time = now;
    cell.reader = static_cast<uint16_t>(thread);
  }
  return {};
}

std::string write_cells(int thread, size_t at, int bytes) {
  WarpClock const& clock = machine.clocks[thread / 32];
  for (size_t byte = at; byte < at + static_cast<size_t>(bytes); ++byte) {
    Cell& cell = cells[byte];
    auto const race = [&](char const* what, int other) {
      return "race: write of " + array_place(byte) + ", " + what + " by thread " + thread_name(other) +
             " with no barrier between";
    };
    if (cell.written_by_another(thread)) return race("written", cell.writer);
    if (cell.read_epoch == machine.epoch) {
      bool const others = cell.other_lanes && clock.all <= cell.read_time;
      bool const reader = cell.reader != thread && unsynchronised(thread, cell.reader, cell.read_time);
      if (cell.other_warps || others || reader) return race("read", cell.reader);
    }
    cell.write_epoch = machine.epoch;
    cell.write_time = clock.now;
    cell.writer = static_cast<uint16_t>(thread);
  }
  return {};
}

}  // namespace

void begin_session(std::vector<Tensor> const& tensors, EmulatorReport* report) {
  *report = EmulatorReport{};
  machine.report = report;
  ranges.clear();
  for (Tensor const& tensor : tensors) {
    if (tensor.begin == nullptr || tensor.bytes == 0) continue;
    ranges.push_back({tensor, {}});
    if (tensor.output) ranges.back().written.assign(tensor.bytes, 0);
  }
  begin_counting(tensors, report);
}

void end_session(char const* name) {
  for (Range const& range : ranges) {
    if (name == nullptr || std::string(range.tensor.name) != name || machine.report->error[0] != '\0') continue;
    size_t missing = 0, first = 0;
    for (size_t byte = range.written.size(); byte-- > 0;) {
      if (range.written[byte] == 0) ++missing, first = byte;
    }
    if (missing != 0) {
      std::snprintf(machine.report->error, sizeof(machine.report->error),
                    "not written: %zu of %zu bytes of %s, the first at byte %zu", missing, range.written.size(),
                    range.tensor.name, first);
    }
  }
  ranges.clear();
  machine.report = nullptr;
}

void begin_block() {
  arrays.clear();
  shared_bytes = 0;
}

void allow_dynamic_shared(void const* kernel, int bytes) { allowed.emplace_back(kernel, bytes); }

std::string refuse_dynamic_shared(Launch const& launch) {
  if (launch.dynamic_bytes <= kStaticLimit) return {};
  if (launch.dynamic_bytes > kSharedLimit) {
    return std::to_string(launch.dynamic_bytes) + " bytes of shared memory, more than the " +
           std::to_string(kSharedLimit) + " of a block on sm_86";
  }
  for (auto const& [kernel, bytes] : allowed) {
    if (kernel == launch.kernel && static_cast<size_t>(bytes) >= launch.dynamic_bytes) return {};
  }
  return std::to_string(launch.dynamic_bytes) +
         " bytes of dynamic shared memory without cudaFuncSetAttribute(cudaFuncAttributeMaxDynamicSharedMemorySize)";
}

void* shared_array(void const* key, char const* name, size_t bytes) {
  for (Array const& array : arrays) {
    if (array.key == key) return shared_memory + array.begin;
  }
  size_t const begin = (shared_bytes + 15) / 16 * 16;
  size_t statics = bytes;
  for (Array const& array : arrays) statics += array.key == &shared_memory ? 0 : array.bytes;
  if (key != &shared_memory && statics > kStaticLimit) {
    fail(Site::current(), "static shared memory beyond 48 KiB at array " + std::string(name));
  }
  if (begin + bytes > kSharedLimit) {
    fail(Site::current(),
         "more shared memory than the " + std::to_string(kSharedLimit) + " bytes of a block on sm_86 at array " + name);
  }
  arrays.push_back({key, name, begin, bytes});
  shared_bytes = begin + bytes;
  return shared_memory + begin;
}

void* dynamic_shared_array(char const* name, size_t bytes) {
  if (bytes > machine.launch.dynamic_bytes) {
    fail(Site::current(), "shared array " + std::string(name) + " wants " + std::to_string(bytes) +
                              " bytes, the launch gives " + std::to_string(machine.launch.dynamic_bytes));
  }
  return shared_array(&shared_memory, name, machine.launch.dynamic_bytes);
}

void global_load(void const* origin, void const* address, int bytes, void* value, Site site) {
  if (Range* const range = find(origin, address, bytes, false, site)) {
    uint64_t const at = place(*range, address);
    if (range->tensor.output) {
      size_t const first = at & ((uint64_t{1} << 48) - 1);
      for (size_t byte = first; byte < first + static_cast<size_t>(bytes); ++byte) {
        if (range->written[byte] == 0) {
          fail(site, "uninitialised: load of byte " + std::to_string(byte) + " of " + range->tensor.name +
                         ", which nothing has written");
        }
        if (unordered(range->written[byte])) {
          fail(site, "race: load of byte " + std::to_string(byte) + " of " + range->tensor.name +
                         ", written by another thread of this launch");
        }
      }
    }
    note({site, Space::kGlobalLoad, bytes, at});
  }
  std::memcpy(value, address, bytes);
}

void global_store(void const* origin, void const* address, int bytes, void const* value, Site site) {
  if (Range* const range = find(origin, address, bytes, true, site)) {
    uint64_t const at = place(*range, address);
    size_t const first = at & ((uint64_t{1} << 48) - 1);
    for (size_t byte = first; byte < first + static_cast<size_t>(bytes); ++byte) {
      if (unordered(range->written[byte])) {
        fail(site, "race: store to byte " + std::to_string(byte) + " of " + range->tensor.name +
                       ", written by another thread of this launch");
      }
      range->written[byte] = writer_word();
    }
    note({site, Space::kGlobalStore, bytes, at});
  }
  std::memcpy(const_cast<void*>(address), value, bytes);
}

void shared_load(void const* origin, void const* address, int bytes, void* value, Site site) {
  std::string error;
  size_t const at = locate(origin, address, bytes, false, error);
  if (error.empty()) error = read_cells(machine.current, at, bytes);
  if (!error.empty()) fail(site, error);
  note({site, Space::kSharedLoad, bytes, at});
  std::memcpy(value, address, bytes);
}

void shared_store(void const* origin, void const* address, int bytes, void const* value, Site site) {
  std::string error;
  size_t const at = locate(origin, address, bytes, true, error);
  if (error.empty()) error = write_cells(machine.current, at, bytes);
  if (!error.empty()) fail(site, error);
  note({site, Space::kSharedStore, bytes, at});
  std::memcpy(const_cast<void*>(address), value, bytes);
}

// Lane l gives the row l%8 of matrix l/8; each lane receives, and so reads, four bytes of each matrix.
void load_matrix_rows(int first) {
  Thread* const lanes = machine.threads.data() + first;
  size_t rows[32];
  for (int lane = 0; lane < 32; ++lane) {
    std::string error;
    rows[lane] = locate(lanes[lane].wait.origin, lanes[lane].wait.address, 16, false, error);
    if (!error.empty()) return fail_from_scheduler(first + lane, lanes[lane].wait.site, error);
    note_lane(lane, {lanes[lane].wait.site, Space::kSharedLoad, 16, rows[lane]});
  }
  bool const transposed = lanes[0].wait.kind == Collective::kLdmatrixTransposed;
  for (int lane = 0; lane < 32; ++lane) {
    for (int matrix = 0; matrix < 4; ++matrix) {
      for (int part = 0; part < 2; ++part) {
        int const row = transposed ? lane % 4 * 2 + part : lane / 4;
        int const column = transposed ? lane / 4 : lane % 4 * 2 + part;
        size_t const at = rows[matrix * 8 + row] + static_cast<size_t>(column) * 2;
        std::string const error = read_cells(first + lane, at, 2);
        if (!error.empty()) return fail_from_scheduler(first + lane, lanes[lane].wait.site, error);
        std::memcpy(reinterpret_cast<char*>(&lanes[lane].wait.r[matrix]) + part * 2, shared_memory + at, 2);
      }
    }
  }
}

}  // namespace dinn360::simt
