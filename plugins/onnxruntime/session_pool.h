// The threads and the memory of the session that runs a node.
#pragma once

#include <algorithm>
#include <thread>

#include "../cpu/pool.h"
#include "api.h"

namespace dinn360::ort {

// The session's threads as the operators' pool. A failure inside it is kept until the operator has returned.
struct SessionPool {
  Context const& context;
  OrtStatus* status = nullptr;

  static void run(void* self, int64_t count, void (*task)(void* data, int64_t index), void* data) {
    SessionPool* const pool = static_cast<SessionPool*>(self);
    if (pool->status == nullptr) pool->status = pool->context.parallel(count, task, data);
  }

  // ONNX Runtime does not say how many threads a session has; there are never more than the machine has.
  cpu::Pool pool() {
    int32_t const threads = static_cast<int32_t>(std::max(1u, std::thread::hardware_concurrency()));
    return {this, &SessionPool::run, threads};
  }
};

// Memory out of the session's arena while this object lives.
class Workspace {
 public:
  explicit Workspace(Context const& context) : api_(context.api()), context_(context) {}
  Workspace(Workspace const&) = delete;
  Workspace& operator=(Workspace const&) = delete;

  ~Workspace() {
    if (data != nullptr) ignore(api_->AllocatorFree(allocator_, data));
    if (allocator_ != nullptr) api_->ReleaseAllocator(allocator_);
  }

  OrtStatus* reserve(size_t bytes) {
    OrtMemoryInfo* cpu = nullptr;
    DINN360_TRY(api_->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &cpu));
    OrtStatus* const status = api_->KernelContext_GetAllocator(context_.native(), cpu, &allocator_);
    api_->ReleaseMemoryInfo(cpu);
    DINN360_TRY(status);
    return api_->AllocatorAlloc(allocator_, bytes, &data);
  }

  void* data = nullptr;

 private:
  void ignore(OrtStatus* status) {
    if (status != nullptr) api_->ReleaseStatus(status);
  }

  OrtApi const* api_;
  Context const& context_;
  OrtAllocator* allocator_ = nullptr;
};

}  // namespace dinn360::ort
