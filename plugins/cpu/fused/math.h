// Elementary functions of vectors, to a few units in the last place where networks need them.
#pragma once

#include "../simd.h"

namespace dinn360::cpu::DINN360_CPU_SET::fused {

inline Vec select(IntVec condition, Vec yes, Vec no) {
  IntVec const bits = (condition & load_bits<IntVec>(&yes)) | (~condition & load_bits<IntVec>(&no));
  return load_bits<Vec>(&bits);
}

inline Vec absolute(Vec x) {
  IntVec const bits = load_bits<IntVec>(&x) & 0x7fffffff;
  return load_bits<Vec>(&bits);
}

// e^x for |x| < 87.
inline Vec exponential(Vec x) {
  Vec const power = exp2_of_negative(absolute(x) * -1.44269504f);
  return select(x > 0.f, 1.f / power, power);
}

inline Vec sigmoid(Vec x) {
  Vec const small = exp2_of_negative(absolute(x) * -1.44269504f);
  Vec const one = broadcast(1.f);
  return select(x < 0.f, small, one) / (one + small);
}

// Cephes' atanf.
inline Vec arctangent(Vec x) {
  Vec const size = absolute(x), one = broadcast(1.f);
  IntVec const far = size > 2.414213562f, middle = size > 0.4142135624f;
  Vec const top = select(far, -one, select(middle, size - 1.f, size));
  Vec const bottom = select(far, size, select(middle, size + 1.f, one));
  Vec const reduced = top / bottom, square = reduced * reduced;
  Vec power = broadcast(8.05374449538e-2f);
  power = fma(power, square, broadcast(-1.38776856032e-1f));
  power = fma(power, square, broadcast(1.99777106478e-1f));
  power = fma(power, square, broadcast(-3.33329491539e-1f));
  Vec const base = select(far, broadcast(1.5707963268f), select(middle, broadcast(0.7853981634f), broadcast(0.f)));
  Vec const result = base + fma(power * square, reduced, reduced);
  return select(x < 0.f, -result, result);
}

// Abramowitz and Stegun 7.1.26: 1.5e-7.
inline Vec error_function(Vec x) {
  Vec const size = absolute(x), one = broadcast(1.f);
  Vec const t = one / fma(size, broadcast(0.3275911f), one);
  Vec power = broadcast(1.061405429f);
  power = fma(power, t, broadcast(-1.453152027f));
  power = fma(power, t, broadcast(1.421413741f));
  power = fma(power, t, broadcast(-0.284496736f));
  power = fma(power, t, broadcast(0.254829592f));
  Vec const result = one - power * t * exp2_of_negative(size * size * -1.44269504f);
  return select(x < 0.f, -result, result);
}

inline Vec gelu(Vec x) { return 0.5f * x * (1.f + error_function(x * 0.70710678f)); }

}  // namespace dinn360::cpu::DINN360_CPU_SET::fused
