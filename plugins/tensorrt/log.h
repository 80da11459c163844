// Where the plugins' messages go.
#pragma once

#include <NvInferRuntime.h>

#include <string>
#include <utility>

namespace dinn360::tensorrt {

// A share in the error recorder of an execution context; empty where the application gave it none. The recorder counts
// who holds it, so a plugin may outlive the application's own interest in it.
class Recorder {
 public:
  Recorder() = default;
  explicit Recorder(nvinfer1::IErrorRecorder* recorder) noexcept : recorder_(recorder) { hold(); }
  Recorder(Recorder const& other) noexcept : recorder_(other.recorder_) { hold(); }
  Recorder& operator=(Recorder other) noexcept {
    std::swap(recorder_, other.recorder_);
    return *this;
  }
  ~Recorder() {
    if (recorder_ != nullptr) recorder_->decRefCount();
  }
  nvinfer1::IErrorRecorder* get() const noexcept { return recorder_; }

 private:
  void hold() const noexcept {
    if (recorder_ != nullptr) recorder_->incRefCount();
  }

  nvinfer1::IErrorRecorder* recorder_ = nullptr;
};

// One line, to the recorder as a failure of `code`; without a recorder to stderr.
//
// Not to TensorRT's logger: ILoggerFinder, which leads to it, became a versioned interface in 11.0 and its slots moved.
// A library of 10.x headers would call another function there. IErrorRecorder has its slots since 10.0.
void report(Recorder const& recorder, nvinfer1::ErrorCode code, char const* message) noexcept;

// Runs `work` behind TensorRT's boundary, which no exception may cross: what is thrown becomes a reported line that
// names `who`, and the result `failure`.
template <class Result, class Work>
Result guarded(char const* who, Result failure, Work&& work, Recorder const& recorder = Recorder(),
               nvinfer1::ErrorCode code = nvinfer1::ErrorCode::kINVALID_ARGUMENT) noexcept {
  try {
    return work();
  } catch (std::exception const& error) {
    try {
      report(recorder, code, (std::string("dinn360 ") + who + ": " + error.what()).c_str());
    } catch (...) {
      report(recorder, code, who);  // no memory for the whole line
    }
  }
  return failure;
}

}  // namespace dinn360::tensorrt
