/* tile16.h - products of 16-bit values, a tile of y at a time: what linear16.c walks over, and who computes it.
 *
 *   const struct tile16 *v = ...;                                  int16_best() or amx_tiles(); NULL: this CPU has no such code
 *   v->put_x(v, x, dx, row, from, n, k, w_type);                   v->rows rows make a group
 *   v->put_w(v, w, dw, from, row_bytes, type, n_cols, n, k, room); up to v->cols rows of the weight make a panel
 *   v->begin(); v->tile(y, x, dx, w, dw, k); v->end();             y [rows][cols] += group x panel^T;  begin and end on the same thread
 *
 * k is a multiple of TILE16_STEP. A group has rows * k values of 16 bits and rows * k / TILE16_STEP scales (dx), a panel the same with cols.
 * Their order is their maker's, but steps of k follow one another: a group's values from step s on begin at rows * TILE16_STEP * s. */
#ifndef KERNELS_CPU_TILE16_H
#define KERNELS_CPU_TILE16_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/tensor.h"

enum { TILE16_STEP = 32, TILE16_COLS_MOST = 32, TILE16_LANES = 8 };

struct tile16;

/* Row `row` of a group from n F32 values (NULL: zeros), filled up with zeros to k. w_type: of the weight it will meet. */
typedef void tile16_put_x_f(const struct tile16 *v, uint16_t *x, float *dx, int row, const float *from, int64_t n, int64_t k, enum dtype w_type);
/* A panel from n_cols rows of a weight, n values of each (whole blocks), filled up with zeros to cols and k.
 * from: the first value; row_bytes: distance of rows; room: tile16_room_bytes(k), 64-byte aligned. */
typedef void tile16_put_w_f(const struct tile16 *v, uint16_t *w, float *dw, const char *from, size_t row_bytes, enum dtype type,
                            int64_t n_cols, int64_t n, int64_t k, void *room);
typedef void tile16_f(float *y, const uint16_t *x, const float *dx, const uint16_t *w, const float *dw, int64_t k);
typedef void tile16_state_f(void);

struct tile16 {
    const char     *name;
    int             rows, cols; /* of a tile */
    int             depth;      /* of k that suits its caches; a multiple of 256 (whole blocks of every kind) */
    tile16_put_x_f *put_x;
    tile16_put_w_f *put_w;
    tile16_f       *tile;
    tile16_state_f *begin, *end; /* of a thread's tiles, or NULL */
};

/* 16-bit integers with a scale for every 32 values (int16.c); vnni: also with AVX-512 VNNI where the CPU has it, not with AVX2 alone. */
const struct tile16 *int16_best(bool vnni);
/* bf16 with AMX (amx.c). */
const struct tile16 *amx_tiles(void);

size_t tile16_room_bytes(int64_t k);
/* TILE16_LANES rows of k values -> pairs along k side by side, in rows of `stride` bytes. AVX2. */
void   tile16_interleave(void *to, size_t stride, const uint16_t *rows, int64_t k);

#endif
