// Stands in for TensorRT in tests: loads a plugin library as its registry does and calls a plugin's functions as its
// builder and its runtime do, on host memory. C functions for ctypes; driver.py is their other side.
#include <NvInferRuntime.h>
#include <dlfcn.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <deque>
#include <limits>
#include <string>
#include <vector>

using namespace nvinfer1;

namespace {

// A tensor of a call. Bit i of `open` leaves dimension i to the profile: its plugin sees -1 where it may not know it.
struct Tensor {
  int64_t dims[Dims::MAX_DIMS];
  int32_t rank, type, format, open;
  void* data;

  PluginTensorDesc desc(bool exact) const {
    PluginTensorDesc found{{}, static_cast<DataType>(type), static_cast<TensorFormat>(format), -1.0F};
    found.dims.nbDims = rank;
    for (int32_t i = 0; i < rank; ++i) {
      found.dims.d[i] = !exact && (open >> i & 1) != 0 ? -1 : dims[i];
    }
    return found;
  }

  DynamicPluginTensorDesc range() const {
    Dims const largest = desc(true).dims;
    Dims smallest = largest;
    for (int32_t i = 0; i < rank; ++i) {
      smallest.d[i] = (open >> i & 1) != 0 ? 1 : largest.d[i];
    }
    return {desc(false), smallest, largest, largest};
  }
};
static_assert(sizeof(Tensor) == 88, "as in driver.py");

template <class Make>
auto each(Tensor const* tensors, int32_t count, Make&& make) {
  std::vector<decltype(make(*tensors))> made;
  std::transform(tensors, tensors + count, std::back_inserter(made), make);
  return made;
}

auto exact(Tensor const* tensors, int32_t count) {
  return each(tensors, count, [](Tensor const& tensor) { return tensor.desc(true); });
}

auto ranges(Tensor const* tensors, int32_t count) {
  return each(tensors, count, [](Tensor const& tensor) { return tensor.range(); });
}

auto pointers(Tensor const* tensors, int32_t count) {
  return each(tensors, count, [](Tensor const& tensor) { return tensor.data; });
}

// What the plugins said since it was last taken.
class Lines {
 public:
  void add(std::string const& text) { lines_ += text; }
  char const* take() {
    taken_ = std::move(lines_);
    lines_.clear();
    return taken_.c_str();
  }

 private:
  std::string lines_, taken_;
};

Lines printed, recorded;

// An application's error recorder, and the context that has it.
class Recorder final : public IErrorRecorder {
 public:
  int32_t getNbErrors() const noexcept override { return 0; }
  ErrorCode getErrorCode(int32_t) const noexcept override { return ErrorCode::kSUCCESS; }
  ErrorDesc getErrorDesc(int32_t) const noexcept override { return ""; }
  bool hasOverflowed() const noexcept override { return false; }
  void clear() noexcept override {}
  bool reportError(ErrorCode code, ErrorDesc what) noexcept override {
    recorded.add("error " + std::to_string(static_cast<int32_t>(code)) + ": " + what + "\n");
    return true;
  }
  RefCount incRefCount() noexcept override { return ++holders; }
  RefCount decRefCount() noexcept override { return --holders; }
  RefCount holders = 0;
};

Recorder the_recorder;

class Context final : public IPluginResourceContext {
 public:
  IGpuAllocator* getGpuAllocator() const noexcept override { return nullptr; }
  IErrorRecorder* getErrorRecorder() const noexcept override { return &the_recorder; }
};

Context the_context;

// Runs `call` and keeps what it prints to stderr.
template <class Call>
auto listening(Call&& call) {
  int const kept = dup(2), heard = memfd_create("stderr", 0);
  dup2(heard, 2);
  auto const result = call();
  dup2(kept, 2);
  close(kept);
  std::string text(static_cast<size_t>(lseek(heard, 0, SEEK_END)), ' ');
  if (pread(heard, text.data(), text.size(), 0) == static_cast<ssize_t>(text.size())) printed.add(text);
  close(heard);
  return result;
}

// Stands for an ILoggerFinder of any version: whichever slot of it is called ends the process.
struct UntouchableFinder {
  UntouchableFinder() { std::fill(std::begin(slots), std::end(slots), &std::abort); }
  void (**table)() = slots;
  void (*slots[16])();
};

UntouchableFinder the_finder;

// A size that knows its value and whether the plugin may.
class Expression final : public IDimensionExpr, public apiv::VDimensionExpr {
 public:
  Expression(int64_t value, bool constant) : value(value), constant(constant) { mImpl = this; }
  bool isConstant() const override { return constant; }
  int64_t getConstantValue() const override { return constant ? value : std::numeric_limits<int64_t>::min(); }
  bool isSizeTensor() const override { return false; }
  int64_t const value;
  bool const constant;
};

class Expressions final : public IExprBuilder, public apiv::VExprBuilder {
 public:
  Expressions() { mImpl = this; }
  IDimensionExpr const* constant(int64_t value) override { return size(value, true); }
  IDimensionExpr const* declareSizeTensor(int32_t, IDimensionExpr const&, IDimensionExpr const&) override {
    return nullptr;
  }
  IDimensionExpr const* operation(DimensionOperation what, IDimensionExpr const& first,
                                  IDimensionExpr const& second) override {
    auto const& a = static_cast<Expression const&>(first);
    auto const& b = static_cast<Expression const&>(second);
    bool const known = a.constant && b.constant;
    switch (what) {
      case DimensionOperation::kSUM:
        return size(a.value + b.value, known);
      case DimensionOperation::kSUB:
        return size(a.value - b.value, known);
      case DimensionOperation::kPROD:
        return size(a.value * b.value, known);
      case DimensionOperation::kFLOOR_DIV:
        return size(a.value / b.value - (a.value % b.value < 0 ? 1 : 0), known);
      default:
        return nullptr;
    }
  }
  Expression const* size(int64_t value, bool known) { return &made_.emplace_back(value, known); }

 private:
  std::deque<Expression> made_;
};

IPluginV3OneBuild* build(IPluginV3* plugin) {
  return static_cast<IPluginV3OneBuild*>(plugin->getCapabilityInterface(PluginCapabilityType::kBUILD));
}

IPluginV3OneRuntime* runtime(IPluginV3* plugin) {
  return static_cast<IPluginV3OneRuntime*>(plugin->getCapabilityInterface(PluginCapabilityType::kRUNTIME));
}

IPluginCreatorV3One* creator(IPluginCreatorInterface* const* creators, int32_t index) {
  return static_cast<IPluginCreatorV3One*>(creators[index]);
}

}  // namespace

#define DRIVER extern "C" __attribute__((visibility("default")))

// Loads `path`. The library's creators and their number; null, and the loader's words among what was printed.
DRIVER IPluginCreatorInterface* const* driver_open(char const* path, int32_t* count) {
  void* const library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  auto const set_finder = library != nullptr ? dlsym(library, "setLoggerFinder") : nullptr;
  auto const creators = library != nullptr ? dlsym(library, "getCreators") : nullptr;
  if (set_finder == nullptr || creators == nullptr) {
    printed.add(dlerror());
    return nullptr;
  }
  reinterpret_cast<void (*)(void*)>(set_finder)(&the_finder);
  return reinterpret_cast<IPluginCreatorInterface* const* (*)(int32_t&)>(creators)(*count);
}

// What the plugins wrote to stderr and to the error recorder since the last call; who holds the recorder.
DRIVER char const* driver_printed() { return printed.take(); }
DRIVER char const* driver_recorded() { return recorded.take(); }
DRIVER int32_t driver_holders() { return the_recorder.holders; }

DRIVER char const* driver_name(IPluginCreatorInterface* const* creators, int32_t index) {
  return creator(creators, index)->getPluginName();
}
DRIVER char const* driver_version(IPluginCreatorInterface* const* creators, int32_t index) {
  return creator(creators, index)->getPluginVersion();
}
DRIVER char const* driver_namespace(IPluginCreatorInterface* const* creators, int32_t index) {
  return creator(creators, index)->getPluginNamespace();
}
DRIVER PluginFieldCollection const* driver_field_names(IPluginCreatorInterface* const* creators, int32_t index) {
  return creator(creators, index)->getFieldNames();
}

DRIVER IPluginV3* driver_create(IPluginCreatorInterface* const* creators, int32_t index, PluginField const* fields,
                                int32_t count, int32_t phase) {
  PluginFieldCollection const collection{count, fields};
  return listening(
      [&] { return creator(creators, index)->createPlugin("layer", &collection, static_cast<TensorRTPhase>(phase)); });
}
DRIVER IPluginV3* driver_clone(IPluginV3* plugin) { return plugin->clone(); }
DRIVER IPluginV3* driver_attach(IPluginV3* plugin, bool records) {
  return runtime(plugin)->attachToContext(records ? &the_context : nullptr);
}
DRIVER void driver_destroy(IPluginV3* plugin) { delete plugin; }

DRIVER char const* driver_state(IPluginV3* plugin) { return build(plugin)->getMetadataString(); }
DRIVER char const* driver_timing_id(IPluginV3* plugin) { return build(plugin)->getTimingCacheID(); }
DRIVER PluginFieldCollection const* driver_fields(IPluginV3* plugin) { return runtime(plugin)->getFieldsToSerialize(); }

// The output's data type, or -1.
DRIVER int32_t driver_output_type(IPluginV3* plugin, Tensor const* inputs, int32_t count) {
  auto const types = each(inputs, count, [](Tensor const& tensor) { return static_cast<DataType>(tensor.type); });
  DataType found{};
  int32_t const failed = listening([&] { return build(plugin)->getOutputDataTypes(&found, 1, types.data(), count); });
  return failed == 0 ? static_cast<int32_t>(found) : -1;
}

// Fills rank, dims and open of `output`. 0 for success.
DRIVER int32_t driver_output_shape(IPluginV3* plugin, Tensor const* inputs, int32_t count, Tensor* output) {
  Expressions expressions;
  auto const shapes = each(inputs, count, [&](Tensor const& tensor) {
    DimsExprs shape{};
    shape.nbDims = tensor.rank;
    for (int32_t i = 0; i < tensor.rank; ++i) {
      shape.d[i] = expressions.size(tensor.dims[i], (tensor.open >> i & 1) == 0);
    }
    return shape;
  });
  DimsExprs found{};
  int32_t const failed = listening(
      [&] { return build(plugin)->getOutputShapes(shapes.data(), count, nullptr, 0, &found, 1, expressions); });
  output->rank = found.nbDims;
  output->open = 0;
  for (int32_t i = 0; i < found.nbDims; ++i) {
    auto const& size = static_cast<Expression const&>(*found.d[i]);
    output->dims[i] = size.value;
    output->open |= size.constant ? 0 : 1 << i;
  }
  return failed;
}

// tensors: the inputs, then the output.
DRIVER bool driver_supports(IPluginV3* plugin, int32_t position, Tensor const* tensors, int32_t inputs) {
  auto const descs = ranges(tensors, inputs + 1);
  return build(plugin)->supportsFormatCombination(position, descs.data(), inputs, 1);
}
DRIVER int32_t driver_configure(IPluginV3* plugin, Tensor const* tensors, int32_t inputs) {
  auto const descs = ranges(tensors, inputs + 1);
  return listening([&] { return build(plugin)->configurePlugin(descs.data(), inputs, descs.data() + inputs, 1); });
}
DRIVER size_t driver_workspace(IPluginV3* plugin, Tensor const* tensors, int32_t inputs) {
  auto const descs = ranges(tensors, inputs + 1);
  return build(plugin)->getWorkspaceSize(descs.data(), inputs, descs.data() + inputs, 1);
}

DRIVER int32_t driver_shape_change(IPluginV3* plugin, Tensor const* tensors, int32_t inputs) {
  auto const descs = exact(tensors, inputs + 1);
  return listening([&] { return runtime(plugin)->onShapeChange(descs.data(), inputs, descs.data() + inputs, 1); });
}
DRIVER int32_t driver_enqueue(IPluginV3* plugin, Tensor const* tensors, int32_t inputs, void* workspace) {
  auto const descs = exact(tensors, inputs + 1);
  auto const data = pointers(tensors, inputs + 1);
  return listening([&] {
    return runtime(plugin)->enqueue(descs.data(), descs.data() + inputs, data.data(), data.data() + inputs, workspace,
                                    nullptr);
  });
}
