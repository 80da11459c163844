// Where a bilinear sample lies: whole pixels plus the fraction of the offset, so that the precision of a coordinate does
// not depend on the width.
#pragma once

#include "simd.h"

namespace dinn360::cpu::DINN360_CPU_SET {

// `column` modulo `width`.
inline IntVec wrapped(IntVec column, int32_t width) {
  column += column < 0 ? IntVec{} + width : IntVec{};
  column -= column >= width ? IntVec{} + width : IntVec{};
  if (any((column < 0) | (column >= width))) {
    for (int i = 0; i < kLanes; ++i) column[i] = column[i] % width + (column[i] % width < 0 ? width : 0);
  }
  return column;
}

inline IntVec clamped(IntVec value, int32_t low, int32_t high) {
  value = value < low ? IntVec{} + low : value;
  return value > high ? IntVec{} + high : value;
}

// The pixel above and left of each sample, and how far below and right of it the sample lies: 0 <= lower, right < 1.
// Both are 0 for what is not finite.
struct Position {
  IntVec finite, row, column;
  Vec lower, right;
};

// Of samples `down` and `across` from the pixels at `row` and `column`; further than 2^30 counts as 2^30.
inline Position position_of(Vec down, Vec across, IntVec row, IntVec column) {
  constexpr float kFar = 0x1p30f;  // floor and pixel still fit an int32 together
  IntVec const finite = (down - down == 0.f) & (across - across == 0.f);
  down = finite ? larger(broadcast(-kFar), -larger(broadcast(-kFar), -down)) : Vec{};
  across = finite ? larger(broadcast(-kFar), -larger(broadcast(-kFar), -across)) : Vec{};
  IntVec const down_floor = floor_to_int(down), across_floor = floor_to_int(across);
  return {finite, row + down_floor, column + across_floor, down - __builtin_convertvector(down_floor, Vec),
          across - __builtin_convertvector(across_floor, Vec)};
}

}  // namespace dinn360::cpu::DINN360_CPU_SET
