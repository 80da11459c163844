// The vocabulary of ../../cuda/simt.cuh on the emulator. Every access and every collective takes the place it stands
// at in the source: for messages, and to group the accesses of a warp's lanes into requests.
#pragma once

#include <source_location>
#include <tuple>
#include <type_traits>

#include "cuda_words.h"

namespace dinn360::simt {

using Site = std::source_location;

// memory.cpp. `origin` is a pointer as the host gave it: the access must stay in the tensor or array it points into.
void global_load(void const* origin, void const* address, int bytes, void* value, Site site);
void global_store(void const* origin, void const* address, int bytes, void const* value, Site site);
void shared_load(void const* origin, void const* address, int bytes, void* value, Site site);
void shared_store(void const* origin, void const* address, int bytes, void const* value, Site site);
void* shared_array(void const* key, char const* name, size_t bytes);
void* dynamic_shared_array(char const* name, size_t bytes);

// scheduler.cpp
enum class Collective {
  kNone,
  kBlock,
  kWarp,
  kShuffle,
  kShuffleXor,
  kShuffleUp,
  kShuffleDown,
  kBallot,
  kMma,
  kLdmatrix,
  kLdmatrixTransposed
};
uint64_t exchange(Collective kind, uint32_t mask, uint64_t value, int argument, int width, Site site);
void multiply(float* d, uint32_t const* a, uint32_t const* b, Site site);
void load_matrices(uint32_t* r, void const* origin, void const* address, bool transposed, Site site);
struct Launch {
  char const* name;
  void const* kernel;
  dim3 grid, block;
  size_t dynamic_bytes;
};
void run_grid(Launch const& launch, void (*thread)(void* data), void* data);

template <class... Parameters, class... Arguments>
void launch(char const* name, void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t dynamic_bytes,
            Arguments const&... arguments) {
  std::tuple<void (*)(Parameters...), std::tuple<std::decay_t<Parameters>...>> call{kernel, {arguments...}};
  run_grid(
      {name, reinterpret_cast<void const*>(kernel), grid, block, dynamic_bytes},
      [](void* data) {
        auto& both = *static_cast<decltype(call)*>(data);
        std::apply(std::get<0>(both), std::get<1>(both));
      },
      &call);
}

template <class T>
struct Global {
  T* pointer;
  T* origin = nullptr;  // what this pointer was stepped from, if it was
  using Value = std::remove_const_t<T>;

  T load(int64_t index, Site site = Site::current()) const {
    Value value;
    global_load(from(), pointer + index, sizeof(T), &value, site);
    return value;
  }
  void store(int64_t index, T value, Site site = Site::current()) const {
    static_assert(!std::is_const_v<T>, "a Global<T const> is read-only");
    global_store(from(), pointer + index, sizeof(T), &value, site);
  }
  uint4 load16(int64_t index, Site site = Site::current()) const {
    uint4 value;
    global_load(from(), pointer + index, 16, &value, site);
    return value;
  }
  void store16(int64_t index, uint4 value, Site site = Site::current()) const {
    global_store(from(), pointer + index, 16, &value, site);
  }
  Global operator+(int64_t step) const { return {pointer + step, from()}; }
  bool is_null() const { return pointer == nullptr; }

 private:
  T* from() const { return origin ? origin : pointer; }
};

template <class T>
struct Shared {
  T* pointer;
  void const* origin = nullptr;

  T load(int index, Site site = Site::current()) const {
    std::remove_const_t<T> value;
    shared_load(from(), pointer + index, sizeof(T), &value, site);
    return value;
  }
  void store(int index, T value, Site site = Site::current()) const {
    shared_store(from(), pointer + index, sizeof(T), &value, site);
  }
  uint32_t load4(int index, Site site = Site::current()) const {
    uint32_t value;
    shared_load(from(), pointer + index, 4, &value, site);
    return value;
  }
  void store4(int index, uint32_t value, Site site = Site::current()) const {
    shared_store(from(), pointer + index, 4, &value, site);
  }
  uint4 load16(int index, Site site = Site::current()) const {
    uint4 value;
    shared_load(from(), pointer + index, 16, &value, site);
    return value;
  }
  void store16(int index, uint4 value, Site site = Site::current()) const {
    shared_store(from(), pointer + index, 16, &value, site);
  }
  Shared operator+(int step) const { return {pointer + step, from()}; }
  template <class U>
  Shared<U> as() const {
    return {reinterpret_cast<U*>(pointer), from()};
  }
  void const* from() const { return origin ? origin : pointer; }
};

inline void mma_m16n8k16(float (&d)[4], uint32_t const (&a)[4], uint32_t const (&b)[2], Site site = Site::current()) {
  multiply(d, a, b, site);
}
inline void ldmatrix_x4(uint32_t (&r)[4], Shared<__half> from, int index, Site site = Site::current()) {
  load_matrices(r, from.from(), from.pointer + index, false, site);
}
inline void ldmatrix_x4_transposed(uint32_t (&r)[4], Shared<__half> from, int index, Site site = Site::current()) {
  load_matrices(r, from.from(), from.pointer + index, true, site);
}

template <class T>
T shuffle(Collective kind, uint32_t mask, T value, int argument, int width, Site site) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 8);
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  bits = exchange(kind, mask, bits, argument, width, site);
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}

}  // namespace dinn360::simt

#define DINN360_SHARED(T, name, count)                                                    \
  static char const name##_key = 0;                                                       \
  dinn360::simt::Shared<T> name {                                                         \
    static_cast<T*>(dinn360::simt::shared_array(&name##_key, #name, sizeof(T) * (count))) \
  }
#define DINN360_DYNAMIC_SHARED(T, name, count) \
  dinn360::simt::Shared<T> name { static_cast<T*>(dinn360::simt::dynamic_shared_array(#name, sizeof(T) * (count))) }
#define DINN360_LAUNCH(kernel, grid, block, dynamic_bytes, stream, ...) \
  (static_cast<void>(stream),                                           \
   dinn360::simt::launch(#kernel, (kernel), (grid), (block), (dynamic_bytes)__VA_OPT__(, ) __VA_ARGS__))

inline void __syncthreads(dinn360::simt::Site site = dinn360::simt::Site::current()) {
  dinn360::simt::exchange(dinn360::simt::Collective::kBlock, 0xffffffffu, 0, 0, 32, site);
}
inline void __syncwarp(uint32_t mask = 0xffffffffu, dinn360::simt::Site site = dinn360::simt::Site::current()) {
  dinn360::simt::exchange(dinn360::simt::Collective::kWarp, mask, 0, 0, 32, site);
}
template <class T>
T __shfl_sync(uint32_t mask, T value, int lane, int width = 32,
              dinn360::simt::Site site = dinn360::simt::Site::current()) {
  return dinn360::simt::shuffle(dinn360::simt::Collective::kShuffle, mask, value, lane, width, site);
}
template <class T>
T __shfl_xor_sync(uint32_t mask, T value, int lanes, int width = 32,
                  dinn360::simt::Site site = dinn360::simt::Site::current()) {
  return dinn360::simt::shuffle(dinn360::simt::Collective::kShuffleXor, mask, value, lanes, width, site);
}
template <class T>
T __shfl_up_sync(uint32_t mask, T value, int step, int width = 32,
                 dinn360::simt::Site site = dinn360::simt::Site::current()) {
  return dinn360::simt::shuffle(dinn360::simt::Collective::kShuffleUp, mask, value, step, width, site);
}
template <class T>
T __shfl_down_sync(uint32_t mask, T value, int step, int width = 32,
                   dinn360::simt::Site site = dinn360::simt::Site::current()) {
  return dinn360::simt::shuffle(dinn360::simt::Collective::kShuffleDown, mask, value, step, width, site);
}
inline uint32_t __ballot_sync(uint32_t mask, int predicate, dinn360::simt::Site site = dinn360::simt::Site::current()) {
  return static_cast<uint32_t>(
      dinn360::simt::exchange(dinn360::simt::Collective::kBallot, mask, predicate != 0, 0, 32, site));
}
inline int __any_sync(uint32_t mask, int predicate, dinn360::simt::Site site = dinn360::simt::Site::current()) {
  return __ballot_sync(mask, predicate, site) != 0;
}
inline int __all_sync(uint32_t mask, int predicate, dinn360::simt::Site site = dinn360::simt::Site::current()) {
  return __ballot_sync(mask, predicate, site) == mask;
}
