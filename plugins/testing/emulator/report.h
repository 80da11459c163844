// What a run on the emulator leaves behind: the first error and the counts. Plain data, mirrored in
// library.py. A request is one instruction of one warp; a sector is 32 bytes, as on NVIDIA GPUs.
#pragma once

#include <cstdint>

namespace dinn360 {

struct EmulatorTensor {
  char name[16];
  uint64_t bytes;           // its size
  uint64_t load_sectors;    // sectors of its load requests: what a machine without caches would move
  uint64_t store_sectors;   // sectors of its store requests
  uint64_t block_sectors;   // distinct sectors loaded, per block: a perfect L1 that lives as long as the block
  uint64_t launch_sectors;  // distinct sectors loaded, per launch: a perfect L2
  uint64_t stored_sectors;  // distinct sectors stored to, per launch
};

struct EmulatorReport {
  uint64_t launches, blocks, threads;
  uint64_t load_requests, load_sectors, load_bytes;     // global memory; bytes: what the lanes asked for
  uint64_t store_requests, store_sectors, store_bytes;  // global memory
  uint64_t shared_requests, shared_wavefronts;
  uint64_t shared_conflicts;  // wavefronts beyond one for each 128 bytes of a request's width
  uint64_t barriers, shuffles, matrix_products;
  EmulatorTensor tensors[8];
  char error[512];  // empty: none found
};
static_assert(sizeof(EmulatorTensor) == 64 && sizeof(EmulatorReport) == 1144, "as in library.py");

}  // namespace dinn360
