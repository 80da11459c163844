#include "log.h"

#include <atomic>
#include <cstdio>

namespace dinn360::tensorrt {
namespace {

// TensorRT hands it over by a C function, once for the whole library: there is no object to keep it in.
std::atomic<nvinfer1::ILoggerFinder*> logger_finder{nullptr};

}  // namespace

void set_logger_finder(nvinfer1::ILoggerFinder* finder) noexcept { logger_finder = finder; }

void log_error(char const* message) noexcept {
  nvinfer1::ILoggerFinder* const finder = logger_finder;  // may know no logger: that of TensorRT-RTX 1.7 knows none
  if (nvinfer1::ILogger* const logger = finder != nullptr ? finder->findLogger() : nullptr) {
    logger->log(nvinfer1::ILogger::Severity::kERROR, message);
  } else {
    std::fprintf(stderr, "%s\n", message);
  }
}

}  // namespace dinn360::tensorrt
