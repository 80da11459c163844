// An output in large pages. A tensor of a panorama is 27 MB, its channels half a megabyte apart, and a convolution goes
// through all of them row by row: in pages of 4 KiB it often waits for the page tables.
#pragma once

#include "api.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace dinn360::ort {

// Asks Linux for large pages where memory that nobody has touched yet is whole ones. It may refuse: then they stay small.
inline void prefer_large_pages([[maybe_unused]] void* data, [[maybe_unused]] size_t bytes) {
#if defined(__linux__)
  constexpr auto kPage = uintptr_t{2097152};  // bytes
  uintptr_t const start = reinterpret_cast<uintptr_t>(data);
  uintptr_t const first = (start + kPage - 1) / kPage * kPage, end = (start + bytes) / kPage * kPage;
  if (end > first) static_cast<void>(madvise(reinterpret_cast<void*>(first), end - first, MADV_HUGEPAGE));
#endif
}

// Output `index` (B,C,H,W) of floats.
inline OrtStatus* large_output(Context const& context, size_t index, int64_t const (&shape)[4], float** y) {
  void* data = nullptr;
  DINN360_TRY(context.output(index, shape, 4, &data));
  prefer_large_pages(data, static_cast<size_t>(shape[0] * shape[1] * shape[2] * shape[3]) * sizeof(float));
  *y = static_cast<float*>(data);
  return nullptr;
}

}  // namespace dinn360::ort
