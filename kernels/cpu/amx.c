/* amx.c - bf16 tiles with AMX (tile16.h): 32 x 32 of y in four of its registers, x and w in the other four.
 *
 * A group is [k/32][32 rows][32], a panel [k/2][32 cols][2]: x's tiles of 16 x 32 and w's of 32 x 16 are then read with fixed strides.
 * x and w are rounded to the nearest bf16 (denormals become zeros), sums are F32 in AMX's own order. No scales.
 * Believes: oneDNN has asked the kernel for AMX when it says that the CPU has it (dnnl_get_effective_cpu_isa(), cpu.c).
 * Not here: which rows and columns (linear16.c). */
#include <string.h>

#include "kernels/cpu/blocks.h"
#include "kernels/cpu/half.h"
#include "kernels/cpu/tile16.h"

#if defined(__x86_64__)
#include <immintrin.h>

enum { SIDE = 32, HALF = 16 }; /* of a tile of ours; of a register */

#define AMX __attribute__((target("amx-tile,amx-bf16")))
#define BF16 __attribute__((target("avx512f,avx512bw,avx512vl,avx512bf16")))

static void put_x(const struct tile16 *v, uint16_t *x, float *dx, int row, const float *from, int64_t n, int64_t k, enum dtype w_type)
{
    (void)v, (void)dx, (void)w_type;
    if (!from) n = 0;
    for (int64_t at = 0; at < k; at += TILE16_STEP) {
        uint16_t *to = x + at * SIDE + row * TILE16_STEP;
        int64_t   m = n - at < TILE16_STEP ? n - at : TILE16_STEP;

        if (m < 0) m = 0;
        if (m > 0) to_bf16(to, from + at, DTYPE_F32, m);
        memset(to + m, 0, (size_t)(TILE16_STEP - m) * sizeof *to);
    }
}

/* Widened, scaled and rounded in one go: this is where the time of small products goes. */
BF16 static void take_q8_0(uint16_t *q, const struct q8_0 *from, int64_t n_blocks)
{
    for (int64_t b = 0; b < n_blocks; b++, q += BLOCK) {
        __m512  d = _mm512_set1_ps(half_at(from[b].d));
        __m128i low = _mm_loadu_si128((const __m128i *)from[b].q), high = _mm_loadu_si128((const __m128i *)(from[b].q + 16));
        __m512  x0 = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(low)), d);
        __m512  x1 = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(high)), d);
        __m512bh both = _mm512_cvtne2ps_pbh(x1, x0);

        memcpy(q, &both, sizeof both);
    }
}

static void put_w(const struct tile16 *v, uint16_t *w, float *dw, const char *from, size_t row_bytes, enum dtype type, int64_t n_cols, int64_t n,
                  int64_t k, void *room)
{
    uint16_t *q = room;

    (void)v, (void)dw;
    for (int64_t at = 0; at < SIDE; at += TILE16_LANES) {
        for (int64_t i = 0; i < TILE16_LANES; i++) {
            uint16_t *to = q + i * k;
            int64_t   m = at + i < n_cols ? n : 0;

            if (m > 0 && type == DTYPE_Q8_0) take_q8_0(to, (const struct q8_0 *)(from + (size_t)(at + i) * row_bytes), m / BLOCK);
            else if (m > 0) to_bf16(to, from + (size_t)(at + i) * row_bytes, type, m);
            memset(to + m, 0, (size_t)(k - m) * sizeof *to);
        }
        tile16_interleave(w + at * 2, SIDE * 2 * sizeof *w, q, k);
    }
}

/* Eight registers of 16 rows of 64 bytes. */
AMX static void begin(void)
{
    struct { uint8_t palette, start_row, zero[14]; uint16_t row_bytes[16]; uint8_t rows[16]; } c = {.palette = 1};

    _Static_assert(sizeof c == 64, "as the processor reads it");
    for (int i = 0; i < 8; i++) {
        c.row_bytes[i] = 64;
        c.rows[i] = HALF;
    }
    _tile_loadconfig(&c);
}

AMX static void end(void)
{
    _tile_release();
}

/* y's quarters in 0..3, x's upper and lower rows in 4 and 5, w's left and right columns in 6 and 7. */
AMX static void tile(float *y, const uint16_t *x, const float *dx, const uint16_t *w, const float *dw, int64_t k)
{
    const size_t line = SIDE * sizeof *y;

    (void)dx, (void)dw;
    _tile_loadd(0, y, line);
    _tile_loadd(1, y + HALF, line);
    _tile_loadd(2, y + HALF * SIDE, line);
    _tile_loadd(3, y + HALF * SIDE + HALF, line);
    for (int64_t at = 0; at < k; at += TILE16_STEP, x += SIDE * TILE16_STEP, w += SIDE * TILE16_STEP) {
        _tile_loadd(4, x, TILE16_STEP * sizeof *x);
        _tile_loadd(6, w, SIDE * 2 * sizeof *w);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(7, w + HALF * 2, SIDE * 2 * sizeof *w);
        _tile_dpbf16ps(1, 4, 7);
        _tile_loadd(5, x + HALF * TILE16_STEP, TILE16_STEP * sizeof *x);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, y, line);
    _tile_stored(1, y + HALF, line);
    _tile_stored(2, y + HALF * SIDE, line);
    _tile_stored(3, y + HALF * SIDE + HALF, line);
}

const struct tile16 *amx_tiles(void)
{
    static const struct tile16 tiles = {"amx bf16", SIDE, SIDE, 512, put_x, put_w, tile, begin, end};

    return &tiles;
}
#else
const struct tile16 *amx_tiles(void)
{
    return NULL;
}
#endif
