// Prints how far each instruction set's convolution is from the portable build's, relative to 1 + |y|. Tests only.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <vector>

#include "../cpu/fused/kernels.h"

namespace dinn360::fused {
namespace {

constexpr int32_t kInputs = 7, kHeight = 9, kWidth = 37;

std::vector<float> noise(size_t size) {
  static uint32_t state = 1;
  std::vector<float> values(size);
  for (float& value : values) {
    state = state * 1664525u + 1013904223u;
    value = static_cast<float>(state >> 8) / 8388608.f - 1.f;
  }
  return values;
}

std::vector<float> convolved(Kernels const& kernels, ConvParams params, size_t size) {
  std::vector<float> y(size), packed(kernels.packed_floats(params)), own(kernels.own_floats(params));
  params.y[0] = y.data();
  kernels.pack(params, packed.data());
  for (int64_t unit = 0; unit < kernels.conv_units(params); ++unit) {
    kernels.convolve(params, packed.data(), own.data(), unit);
  }
  return y;
}

double difference(Kernels const& kernels, int32_t kernel, int32_t outputs, Activation activation, Coupling coupling) {
  int32_t const results = coupling == Coupling::kNone ? outputs : outputs / 2;
  size_t const plane = kHeight * kWidth;
  auto const x = noise(kInputs * plane), residual = noise(results * plane), bias = noise(outputs);
  auto const weight = noise(outputs * kInputs * kernel * kernel);
  ConvParams params{};
  params.sources[0] = {x.data(), kInputs, 0, kInputs};
  params.source_count = params.batch = params.output_count = params.wrap = 1;
  params.residual = {residual.data(), results, 0, results};
  params.weight = weight.data();
  params.bias = bias.data();
  params.channels = kInputs;
  params.height = kHeight;
  params.width = kWidth;
  params.out_channels = outputs;
  params.kernel = kernel;
  params.input_slope = params.slope = 0.2f;
  params.limit = 0.7f;
  params.bound = 1.f;
  params.activation = activation;
  params.coupling = coupling;
  auto const expected = convolved(cpu::portable::fused::kernels, params, results * plane);
  auto const found = convolved(kernels, params, results * plane);
  double worst = 0;
  for (size_t i = 0; i < found.size(); ++i) {
    double const apart = std::fabs(found[i] - expected[i]) / (1 + std::fabs(expected[i]));
    worst = std::isfinite(apart) ? std::max(worst, apart) : std::numeric_limits<double>::infinity();
  }
  return worst;
}

void compare(const char* name, Kernels const& kernels) {
  if (cpu::find_instruction_set(name) < 0) return;
  double worst = 0;
  for (int32_t kernel : {1, 3}) {
    for (int32_t outputs : {2, 6, 10, 26}) {
      for (int32_t activation = 0; activation < 5; ++activation) {
        for (int32_t coupling = 0; coupling < 4; ++coupling) {
          worst = std::max(worst, difference(kernels, kernel, outputs, static_cast<Activation>(activation),
                                             static_cast<Coupling>(coupling)));
        }
      }
    }
  }
  std::printf("%s %g\n", name, worst);
}

}  // namespace
}  // namespace dinn360::fused

int main() {
  using namespace dinn360;
#define COMPARE(set, ...) fused::compare(#set, cpu::set::fused::kernels);
  DINN360_INSTRUCTION_SETS(COMPARE, )
}
