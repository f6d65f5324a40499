/* half.h - 16-bit floats <-> F32, in rows. Widening is exact; narrowing rounds to nearest even; NaN stays NaN. */
#ifndef KERNELS_CPU_HALF_H
#define KERNELS_CPU_HALF_H

#include <stdint.h>

#include "kernels/tensor.h"

void to_f32(float *to, const void *from, enum dtype type, int64_t n);             /* F32, BF16 or F16 */
void from_f32(void *to, enum dtype type, const float *from, int64_t n);
void round_bf16(float *to, const float *from, int64_t n);                         /* to the nearest bf16, kept as F32; to may be from */
void to_f32_bf16(float *to, const void *from, enum dtype type, int64_t n);        /* to_f32, then round_bf16 */
void to_bf16(uint16_t *to, const void *from, enum dtype type, int64_t n);         /* any of the three */

#endif
