// A pool of threads that live as long as one phase, for callers that have none of their own.
#pragma once

#include <cstdint>
#include <thread>
#include <vector>

#include "pool.h"

namespace dinn360::cpu {

inline Pool pool_of_threads(int32_t threads) {
  return {nullptr,
          [](void*, int64_t count, void (*task)(void* data, int64_t index), void* data) {
            std::vector<std::thread> others;
            for (int64_t index = 1; index < count; ++index) others.emplace_back(task, data, index);
            if (count > 0) task(data, 0);
            for (std::thread& other : others) other.join();
          },
          threads};
}

}  // namespace dinn360::cpu
