// Prints what a binary of these headers knows of TensorRT's interfaces: sizes of the structures that cross the boundary,
// and the slot of each virtual function that the plugins implement or call (Itanium C++ ABI: Linux).
#include <NvInferRuntime.h>

#include <cstdio>
#include <cstring>

using namespace nvinfer1;

namespace {

template <class Function>
long slot(Function function) {
  long words[sizeof function / sizeof(long)];
  std::memcpy(words, &function, sizeof function);
  return (words[0] - 1) / static_cast<long>(sizeof(void*));  // 1 + offset in the table for a virtual function
}

}  // namespace

#define SIZE(type) std::printf(#type " %zu\n", sizeof(type))
#define SLOT(type, function) std::printf(#type "::" #function " %ld\n", slot(&type::function))

int main() {
  SIZE(PluginField), SIZE(PluginFieldCollection), SIZE(Dims), SIZE(DimsExprs);
  SIZE(PluginTensorDesc), SIZE(DynamicPluginTensorDesc), SIZE(InterfaceInfo);
  SLOT(IPluginCreatorV3One, getInterfaceInfo), SLOT(IPluginCreatorV3One, createPlugin);
  SLOT(IPluginCreatorV3One, getFieldNames), SLOT(IPluginCreatorV3One, getPluginName);
  SLOT(IPluginCreatorV3One, getPluginVersion), SLOT(IPluginCreatorV3One, getPluginNamespace);
  SLOT(IPluginV3, getInterfaceInfo), SLOT(IPluginV3, getCapabilityInterface), SLOT(IPluginV3, clone);
  SLOT(IPluginV3OneCore, getPluginName), SLOT(IPluginV3OneCore, getPluginVersion);
  SLOT(IPluginV3OneCore, getPluginNamespace);
  SLOT(IPluginV3OneBuild, configurePlugin), SLOT(IPluginV3OneBuild, getOutputDataTypes);
  SLOT(IPluginV3OneBuild, getOutputShapes), SLOT(IPluginV3OneBuild, supportsFormatCombination);
  SLOT(IPluginV3OneBuild, getNbOutputs), SLOT(IPluginV3OneBuild, getWorkspaceSize);
  SLOT(IPluginV3OneBuild, getValidTactics), SLOT(IPluginV3OneBuild, getNbTactics);
  SLOT(IPluginV3OneBuild, getTimingCacheID), SLOT(IPluginV3OneBuild, getFormatCombinationLimit);
  SLOT(IPluginV3OneBuild, getMetadataString);
  SLOT(IPluginV3OneRuntime, setTactic), SLOT(IPluginV3OneRuntime, onShapeChange), SLOT(IPluginV3OneRuntime, enqueue);
  SLOT(IPluginV3OneRuntime, attachToContext), SLOT(IPluginV3OneRuntime, getFieldsToSerialize);
  SLOT(IPluginResourceContext, getErrorRecorder), SLOT(IErrorRecorder, reportError);
  SLOT(IErrorRecorder, incRefCount), SLOT(IErrorRecorder, decRefCount);
  SLOT(apiv::VExprBuilder, constant), SLOT(apiv::VExprBuilder, operation);
  SLOT(apiv::VDimensionExpr, isConstant), SLOT(apiv::VDimensionExpr, getConstantValue);
}
