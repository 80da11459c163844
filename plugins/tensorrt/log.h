// Where the plugins' messages go.
#pragma once

#include <NvInferRuntime.h>

#include <string>

namespace dinn360::tensorrt {

// What the library that loads us offers; null takes it back.
void set_logger_finder(nvinfer1::ILoggerFinder* finder) noexcept;

// One line, as an error of TensorRT's logger; to stderr where the host offers no logger.
void log_error(char const* message) noexcept;

// Runs `work` behind TensorRT's boundary, which no exception may cross: what is thrown becomes a logged line that names
// `who`, and the result `failure`.
template <class Result, class Work>
Result guarded(char const* who, Result failure, Work&& work) noexcept {
  try {
    return work();
  } catch (std::exception const& error) {
    try {
      log_error((std::string("dinn360 ") + who + ": " + error.what()).c_str());
    } catch (...) {
      log_error(who);  // no memory for the whole line
    }
  }
  return failure;
}

}  // namespace dinn360::tensorrt
