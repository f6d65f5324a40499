/* half.h - 16-bit floats <-> F32, in rows. Widening is exact; narrowing rounds to nearest even; NaN stays NaN.
 * The to_ functions widen block kinds and 8-bit floats, too (whole blocks; a tensor's scale is not applied here). */
#ifndef KERNELS_CPU_HALF_H
#define KERNELS_CPU_HALF_H

#include <stdint.h>

#include "kernels/tensor.h"

void to_f32(float *to, const void *from, enum dtype type, int64_t n);             /* any weight type */
void from_f32(void *to, enum dtype type, const float *from, int64_t n);
void round_bf16(float *to, const float *from, int64_t n);                         /* to the nearest bf16, kept as F32; to may be from */
void to_f32_bf16(float *to, const void *from, enum dtype type, int64_t n);        /* to_f32, then round_bf16 */
void to_bf16(uint16_t *to, const void *from, enum dtype type, int64_t n);         /* any weight type */

#endif
