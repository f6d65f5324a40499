/* quant.h - block kinds and 8-bit floats <-> F32, in rows of whole blocks.
 *
 *   quant_to_f32(x, bytes, DTYPE_Q4_K, 256);          exactly what ggml's own reader gives, bit for bit
 *   quant_from_f32(bytes, DTYPE_Q4_K, x, 256);        scales and minima by a weighted least-squares search
 *
 * Values weigh rms + |x|: errors on large weights cost more, small ones are not given up. Blocks need no alignment.
 * A block of zeros stays zeros. The caller sees to it that x is finite (a NaN would spread over its block) and within F16's range for
 * the kinds that keep an F16 scale; F8 saturates at its largest number.
 * Not here: which tensor gets which kind (tools/quantize.c), products (linear.c). */
#ifndef KERNELS_QUANT_H
#define KERNELS_QUANT_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/tensor.h"

/* F8_E4M3 and later: everything that is not F32, BF16, F16, I32 or U8. */
bool quant_is(enum dtype type);
/* n values, a multiple of dtype_block(type). */
void quant_to_f32(float *to, const void *from, enum dtype type, int64_t n);
/* Q8_0 Q4_0 Q2_K Q3_K Q4_K Q5_K Q6_K F8_E4M3 F8_E5M2 can be made; the others are read only. */
bool quant_can_make(enum dtype type);
void quant_from_f32(void *to, enum dtype type, const float *from, int64_t n);

#endif
