// What C++ leaves undefined and a GPU does in its own way: the kernels are compiled with -fsanitize=…, and the compiler's
// calls end here instead of in libubsan, so that they are reported as every other fault. A conversion of a float to an
// int that cannot hold it saturates on a GPU and does not here: a kernel that means it says __float2int_rz or _rd.
#include "machine.h"

namespace {

// How the compiler's data about a place begins.
struct Place {
  char const* file;
  uint32_t line, column;
};

void undefined(void const* data, char const* what) {
  auto const& place = *static_cast<Place const*>(data);
  auto const* const start = reinterpret_cast<unsigned char const*>(place.file);
  // Without a location the data begins with a type descriptor, whose first two bytes are a small number or 0xffff.
  bool const unknown = start == nullptr || start[0] + start[1] < 2 || start[0] == 0xff || start[1] == 0xff;
  std::string const file = unknown ? "?" : place.file;
  dinn360::simt::fail_at(file.substr(file.find_last_of('/') + 1) + ":" + std::to_string(unknown ? 0 : place.line),
                         what);
}

}  // namespace

extern "C" {
void __ubsan_handle_float_cast_overflow(void* data, void*) {
  undefined(data, "undefined: conversion of a float to an integer type that cannot hold it");
}
void __ubsan_handle_add_overflow(void* data, void*, void*) {
  undefined(data, "undefined: sum beyond its integer type");
}
void __ubsan_handle_sub_overflow(void* data, void*, void*) {
  undefined(data, "undefined: difference beyond its integer type");
}
void __ubsan_handle_mul_overflow(void* data, void*, void*) {
  undefined(data, "undefined: product beyond its integer type");
}
void __ubsan_handle_negate_overflow(void* data, void*) {
  undefined(data, "undefined: negation beyond its integer type");
}
void __ubsan_handle_divrem_overflow(void* data, void*, void*) { undefined(data, "undefined: division by zero"); }
void __ubsan_handle_shift_out_of_bounds(void* data, void*, void*) {
  undefined(data, "undefined: shift by more than its integer type holds");
}
void __ubsan_handle_out_of_bounds(void* data, void*) { undefined(data, "undefined: index beyond a local array"); }
}
