// Prints how far each instruction set's results are from the portable build's, relative to the largest. Tests only.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <vector>

#include "../cpu/phases.h"
#include "../cpu/training/kernels.h"

namespace dinn360::training {
namespace {

constexpr int32_t kHeight = 71, kWidth = 9, kBatch = 2, kKernel = 3;
constexpr float kReach = 2.75f;

std::vector<float> noise(size_t size, float reach = 1.f) {
  static uint32_t state = 1;
  std::vector<float> values(size);
  for (float& value : values) {
    state = state * 1664525u + 1013904223u;
    value = reach * (static_cast<float>(state >> 8) / 8388608.f - 1.f);
  }
  return values;
}

// y and the gradients of x, offset, weight, bias and mask.
using Results = std::vector<std::vector<float>>;

Results results(Kernels const& kernels, DeformConvTraining p, std::vector<size_t> const& sizes) {
  Results all;
  for (size_t size : sizes) all.emplace_back(size);
  p.y = all[0].data();
  p.grad_x = all[1].data();
  p.grad_offset = all[2].data();
  p.grad_weight = all[3].data();
  p.grad_bias = all[4].data();
  p.grad_mask = all[5].data();
  cpu::Pool const alone{nullptr,
                        [](void*, int64_t count, void (*task)(void*, int64_t), void* data) {
                          for (int64_t i = 0; i < count; ++i) task(data, i);
                        },
                        1};
  cpu::run_phases(kernels.forward, p, alone, nullptr);
  cpu::run_phases(kernels.backward, p, alone, nullptr);
  return all;
}

double difference(Kernels const& kernels, int32_t channels, int32_t outputs, int32_t groups, int32_t wrap) {
  size_t const pixels = size_t{kBatch} * kHeight * kWidth, fields = size_t{kKernel} * kKernel * groups;
  size_t const weights = size_t{kKernel} * kKernel * channels * outputs;
  auto const x = noise(pixels * channels), offset = noise(pixels * 2 * fields, kReach), mask = noise(pixels * fields);
  auto const weight = noise(weights), bias = noise(outputs), grad_y = noise(pixels * outputs);
  DeformConvTraining p{};
  p.x = x.data();
  p.offset = offset.data();
  p.mask = mask.data();
  p.weight = weight.data();
  p.bias = bias.data();
  p.grad_y = grad_y.data();
  p.batch = kBatch;
  p.channels = channels;
  p.height = kHeight;
  p.width = kWidth;
  p.out_channels = outputs;
  p.kernel = kKernel;
  p.offset_groups = groups;
  p.wrap = wrap;
  p.max_offset = kReach;
  std::vector<size_t> const sizes{pixels * outputs, x.size(), offset.size(), weights, bias.size(), mask.size()};
  Results const expected = results(cpu::portable::training::kernels, p, sizes), found = results(kernels, p, sizes);
  double worst = 0;
  for (size_t i = 0; i < found.size(); ++i) {
    double largest = 0, apart = 0;
    for (size_t j = 0; j < found[i].size(); ++j) {
      double const step = std::fabs(found[i][j] - expected[i][j]);
      apart = std::isfinite(step) ? std::max(apart, step) : std::numeric_limits<double>::infinity();
      largest = std::max(largest, std::fabs(static_cast<double>(expected[i][j])));
    }
    worst = std::max(worst, apart / largest);
  }
  return worst;
}

void compare(const char* name) {
  Kernels const* const kernels = cpu::training::find_kernels(name);
  if (kernels == nullptr) return;
  double worst = 0;
  for (int32_t wrap : {0, 1}) {
    worst = std::max({worst, difference(*kernels, 16, 16, 1, wrap), difference(*kernels, 6, 11, 2, wrap)});
  }
  std::printf("%s %g\n", name, worst);
}

}  // namespace
}  // namespace dinn360::training

int main() {
#define COMPARE(set, ...) dinn360::training::compare(#set);
  DINN360_INSTRUCTION_SETS(COMPARE, )
}
