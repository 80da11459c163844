// libdinn360_trt.so: the two functions that IPluginRegistry::loadLibrary looks for.
#include "creator.h"

namespace {

using namespace dinn360::tensorrt;

Creator<DeformConv2d> deform_conv_2d;
Creator<DstAttention> dst_attention;
nvinfer1::IPluginCreatorInterface* const creators[] = {&deform_conv_2d, &dst_attention};

}  // namespace

#define DINN360_EXPORT extern "C" __attribute__((visibility("default")))

// TensorRT's guide asks every library for it. What it is given is not used, and not even named by its type: log.h says
// why.
DINN360_EXPORT void setLoggerFinder(void*) noexcept {}

// All creators of the library; they live as long as it is loaded.
DINN360_EXPORT nvinfer1::IPluginCreatorInterface* const* getCreators(int32_t& count) noexcept {
  count = static_cast<int32_t>(std::size(creators));
  return creators;
}
