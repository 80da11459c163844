// Prints how far each instruction set's convolutions, direct and Winograd's, are from the portable build's direct one,
// and its blocks of pixels (squeeze, then unsqueeze) from the portable build's, relative to 1 + |y|. Tests only.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <vector>

#include "../cpu/fused/kernels.h"

namespace dinn360::fused {
namespace {

struct Size {
  int32_t channels, height, width, wrap;
};
constexpr Size kSmall = {7, 9, 37, 1};  // of no whole vector or tile

std::vector<float> noise(size_t size) {
  static uint32_t state = 1;
  std::vector<float> values(size);
  for (float& value : values) {
    state = state * 1664525u + 1013904223u;
    value = static_cast<float>(state >> 8) / 8388608.f - 1.f;
  }
  return values;
}

// The memory that a kernel may not rely on is full of what is not a number.
std::vector<float> convolved(ConvKernels const& kernels, ConvParams params, size_t size) {
  std::vector<float> y(size), packed(kernels.packed_floats(params));
  std::vector<float> own(kernels.own_floats(params), std::numeric_limits<float>::quiet_NaN());
  params.y[0] = y.data();
  kernels.pack(params, packed.data());
  for (int64_t unit = 0; unit < kernels.units(params); ++unit) {
    kernels.convolve(params, packed.data(), own.data(), unit);
  }
  return y;
}

double apart(std::vector<float> const& found, std::vector<float> const& expected) {
  double worst = 0;
  for (size_t i = 0; i < found.size(); ++i) {
    double const apart = std::fabs(found[i] - expected[i]) / (1 + std::fabs(expected[i]));
    worst = std::isfinite(apart) ? std::max(worst, apart) : std::numeric_limits<double>::infinity();
  }
  return worst;
}

double difference(ConvKernels const& kernels, Size size, int32_t kernel, int32_t outputs, Activation activation,
                  Coupling coupling) {
  int32_t const results = coupling == Coupling::kNone ? outputs : outputs / 2;
  size_t const plane = size_t(size.height) * size.width;
  auto const x = noise(size.channels * plane), residual = noise(results * plane), bias = noise(outputs);
  auto const weight = noise(outputs * size.channels * kernel * kernel);
  ConvParams params{};
  params.batch = params.output_count = 1;
  for (int32_t first = 0; first < size.channels; first += 13) {
    int32_t const count = std::min(13, size.channels - first);
    params.sources[params.source_count++] = {x.data(), size.channels, first, count};
  }
  params.wrap = size.wrap;
  params.residual = {residual.data(), results, 0, results};
  params.weight = weight.data();
  params.bias = bias.data();
  params.channels = size.channels;
  params.height = size.height;
  params.width = size.width;
  params.out_channels = outputs;
  params.kernel = kernel;
  params.input_slope = size.height % 2 == 0 ? 1.f : 0.2f;
  params.slope = 0.2f;
  params.limit = 0.7f;
  params.bound = 1.f;
  params.activation = activation;
  params.coupling = coupling;
  auto const expected = convolved(cpu::portable::fused::kernels.direct, params, results * plane);
  auto const found = convolved(kernels, params, results * plane);
  return apart(found, expected);
}

template <class Params>
void run_all(BlockKernels<Params> const& kernels, Params const& params) {
  std::vector<float> own(kernels.own_floats(params), std::numeric_limits<float>::quiet_NaN());
  for (int64_t unit = 0; unit < kernels.units(params); ++unit) kernels.run(params, own.data(), unit);
}

// The blocks of an image that is extended around the circle, and the image that comes back of them.
std::vector<float> through_blocks(Kernels const& kernels, int32_t factor) {
  constexpr int32_t kHeight = 19, kWidth = 45, kChannels = 2;
  int32_t const margin = 6, rows = kHeight / factor + 1, columns = 2 * margin + kWidth / factor + 1;
  int32_t const count = kChannels * factor * factor;
  std::vector<float> image(kChannels * kHeight * kWidth);
  for (size_t i = 0; i < image.size(); ++i) image[i] = std::sin(static_cast<float>(i));
  std::vector<int32_t> places(count);
  for (int32_t i = 0; i < count; ++i) places[i] = count - 1 - i;
  size_t const total = size_t(count) * rows * columns;
  std::vector<float> y(total + image.size());
  SqueezeParams there{};
  there.x = image.data();
  there.y[0] = y.data();
  there.counts[0] = count;
  there.output_count = there.batch = 1;
  there.places = places.data();
  there.channels = kChannels;
  there.height = kHeight;
  there.width = kWidth;
  there.factor = factor;
  there.margin = margin * factor;
  there.rows = rows;
  there.columns = columns;
  run_all(kernels.squeeze, there);
  UnsqueezeParams back{};
  back.sources[0] = {y.data(), count, 0, count};
  back.source_count = back.batch = 1;
  back.places = places.data();
  back.y = y.data() + total;
  back.channels = kChannels;
  back.height = kHeight;
  back.width = kWidth;
  back.factor = factor;
  back.margin = margin;
  back.rows = rows;
  back.columns = columns;
  back.clamp = true;
  run_all(kernels.unsqueeze, back);
  return y;
}

void compare(const char* name, Kernels const& kernels) {
  if (cpu::find_instruction_set(name) < 0) return;
  double direct = 0, winograd = 0;
  for (int32_t kernel : {1, 3}) {
    for (int32_t outputs : {2, 6, 10, 26}) {
      for (int32_t activation = 0; activation < 6; ++activation) {
        for (int32_t coupling = 0; coupling < 4; ++coupling) {
          auto const apart = [&](ConvKernels const& way) {
            return difference(way, kSmall, kernel, outputs, static_cast<Activation>(activation),
                              static_cast<Coupling>(coupling));
          };
          direct = std::max(direct, apart(kernels.direct));
          if (kernel == 3) winograd = std::max(winograd, apart(kernels.winograd));
        }
      }
    }
  }
  // From one pixel to several strips and bands, with and without wrap.
  for (Size const size : {Size{3, 1, 1, 1}, {3, 4, 2, 0}, {20, 21, 203, 0}, {20, 18, 203, 1}, {5, 5, 641, 1}}) {
    winograd = std::max(winograd, difference(kernels.winograd, size, 3, 11, Activation::kNone, Coupling::kNone));
  }
  double blocks = 0;
  for (int32_t factor : {1, 2, 4, 8}) {
    blocks =
        std::max(blocks, apart(through_blocks(kernels, factor), through_blocks(cpu::portable::fused::kernels, factor)));
  }
  std::printf("%s-direct %g\n%s-winograd %g\n%s-blocks %g\n", name, direct, name, winograd, name, blocks);
}

}  // namespace
}  // namespace dinn360::fused

int main() {
  using namespace dinn360;
#define COMPARE(set, ...) fused::compare(#set, cpu::set::fused::kernels);
  DINN360_INSTRUCTION_SETS(COMPARE, )
}
