/* int16.h - products of 16-bit integers with a scale for every 32 values of a row: what a CPU without bf16 of its own multiplies fastest.
 *
 *   const struct int16 *v = int16_best(true);                                  NULL: this CPU has no such code
 *   int16_put_x(v, x, dx, row, from, n, k, int16_limit_x(type));               v->rows rows make a group
 *   int16_put_w(v, w, dw, from, row_bytes, type, n_cols, n, k, room);          up to v->cols rows of the weight make a panel
 *   v->tile(y, x, dx, w, dw, k);                                               y [rows][cols] += group x panel^T
 *
 * k is a multiple of 32 (INT16_BLOCK). A group holds pairs of neighbours along k: [k/2][rows][2], its scales [k/32][rows]; a panel
 * [k/2][cols][2] and [k/32][cols]. Each value is rounded to a multiple of its block's scale = largest / limit. Limits are such that the sum of 32
 * products fits into 32 bits: it is exact, and is then scaled and added in F32. Blocks whose largest value is below 1e-30 become zeros;
 * one with a NaN or an infinity makes every sum that it enters NaN.
 * Relative RMS error of a product of normal values: 2e-5 for Q8_0 (its integers are taken as they are), 1e-4 for all other weights. */
#ifndef KERNELS_CPU_INT16_H
#define KERNELS_CPU_INT16_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/tensor.h"

enum { INT16_BLOCK = 32, INT16_ROWS_MOST = 12, INT16_COLS_MOST = 32 };

struct int16 {
    const char *name;
    int         rows, cols; /* of a tile */
    void (*tile)(float *y, const int16_t *x, const float *dx, const int16_t *w, const float *dw, int64_t k);
};

/* vnni: also with AVX-512 VNNI where the CPU has it, not with AVX2 alone. */
const struct int16 *int16_best(bool vnni);

/* The limit for x beside weights of this type. */
int  int16_limit_x(enum dtype w_type);
/* Row `row` of a group from `n` F32 values (NULL: zeros), filled up with zeros to k. */
void int16_put_x(const struct int16 *v, int16_t *x, float *dx, int row, const float *from, int64_t n, int64_t k, int limit);
/* A panel from n_cols rows of a weight, n values of each (whole blocks), filled up with zeros to cols and k.
 * from: the first value; row_bytes: distance of rows; room: int16_room_bytes(k), 64-byte aligned. */
void int16_put_w(const struct int16 *v, int16_t *w, float *dw, const char *from, size_t row_bytes, enum dtype type, int64_t n_cols, int64_t n,
                 int64_t k, void *room);
size_t int16_room_bytes(int64_t k);

#endif
