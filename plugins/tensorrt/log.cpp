#include "log.h"

#include <cstdio>

namespace dinn360::tensorrt {

void report(Recorder const& recorder, nvinfer1::ErrorCode code, char const* message) noexcept {
  if (recorder.get() == nullptr) {
    std::fprintf(stderr, "%s\n", message);
  } else {
    recorder.get()->reportError(code, message);
  }
}

}  // namespace dinn360::tensorrt
