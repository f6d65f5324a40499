/* int16.c - 16-bit integers with a scale for every 32 values of a row: what a CPU without bf16 of its own multiplies fastest. See tile16.h.
 *
 * Each value is rounded to a multiple of its block's scale = largest / limit. Limits are such that the sum of 32 products fits into 32 bits:
 * Q8_0's integers are taken as they are and x has 32767, else w has 8191 and x 8190. The sum of a block is exact, and is then scaled and added
 * in F32, blocks in their order. Blocks whose largest value is below 1e-30 become zeros; one with a NaN or an infinity makes every
 * sum that it enters NaN. Relative RMS error of a product of normal values: 2e-5 for Q8_0, 1e-4 for all other weights.
 * A group holds pairs of neighbours along k: [k/2][rows][2], its scales [k/32][rows]; a panel [k/2][cols][2] and [k/32][cols].
 * Not here: which rows and columns (linear16.c). */
#include <assert.h>
#include <string.h>

#include "kernels/cpu/blocks.h"
#include "kernels/cpu/half.h"
#include "kernels/cpu/tile16.h"

enum { LIMIT_X_FINE = 32767, LIMIT_X = 8190, LIMIT_W = 8191 };
_Static_assert((int)TILE16_STEP == (int)BLOCK, "a scale for every block of Q8_0");
_Static_assert(32LL * 128 * LIMIT_X_FINE <= INT32_MAX && 32LL * LIMIT_X * LIMIT_W <= INT32_MAX, "a block's sum fits");

size_t tile16_room_bytes(int64_t k)
{
    return (size_t)k * (TILE16_LANES * sizeof(int16_t) + sizeof(float));
}

#if defined(__x86_64__)
#include <immintrin.h>

/* 32 values to integers of at most limit; returns the scale. */
CLONES static float round_block(int16_t *restrict q, const float *restrict x, int limit)
{
    const float magic = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer */
    uint32_t    most = 0, bits;
    float       top, by;

    for (int i = 0; i < BLOCK; i++) {
        bits = f32_bits(x[i]) & 0x7fffffffu; /* as integers, so that a NaN is the largest of all */
        most = bits > most ? bits : most;
    }
    top = bits_f32(most);
    if (!(top >= 1e-30f && most < 0x7f800000u)) {
        memset(q, 0, BLOCK * sizeof *q);
        return most < 0x7f800000u ? 0.0f : NAN;
    }
    by = (float)limit / top;
    for (int i = 0; i < BLOCK; i++) {
        uint32_t u = f32_bits(x[i] * by + magic) - f32_bits(magic);

        q[i] = (int16_t)u;
    }
    return top / (float)limit;
}

static void put_x(const struct tile16 *v, uint16_t *x, float *dx, int row, const float *from, int64_t n, int64_t k, enum dtype w_type)
{
    int     limit = w_type == DTYPE_Q8_0 ? LIMIT_X_FINE : LIMIT_X;
    int16_t q[BLOCK];
    float   last[BLOCK];

    for (int64_t at = 0; at < k; at += BLOCK) {
        const float *block = from + at;
        float        d = 0.0f;

        if (!from || at >= n) {
            memset(q, 0, sizeof q);
        } else {
            if (n - at < BLOCK) {
                memset(last, 0, sizeof last);
                memcpy(last, block, (size_t)(n - at) * sizeof *last);
                block = last;
            }
            d = round_block(q, block, limit);
        }
        for (int p = 0; p < BLOCK / 2; p++) memcpy(x + ((at / 2 + p) * v->rows + row) * 2, q + 2 * p, 2 * sizeof *q);
        dx[at / BLOCK * v->rows + row] = d;
    }
}

/* The integers of Q8_0 as they are. */
CLONES static void take_q8_0(int16_t *restrict q, float *restrict d, int64_t stride, const struct q8_0 *restrict from, int64_t n_blocks)
{
    for (int64_t b = 0; b < n_blocks; b++) {
        for (int i = 0; i < BLOCK; i++) q[b * BLOCK + i] = from[b].q[i];
        d[b * stride] = half_at(from[b].d);
    }
}

/* The same for TILE16_LANES rows, straight into a panel of `cols`: bytes change places, eight pairs of two at a time, and are then widened. */
__attribute__((target("avx2"))) static void put_q8_0(int16_t *w, float *dw, int cols, const char *from, size_t row_bytes, int64_t n_blocks)
{
    for (int64_t b = 0; b < n_blocks; b++, from += sizeof(struct q8_0), dw += cols) {
        __m256i r[8], s[8];

        for (int i = 0; i < 8; i++) {
            const struct q8_0 *block = (const struct q8_0 *)(from + (size_t)i * row_bytes);

            r[i] = _mm256_loadu_si256((const __m256i *)block->q);
            dw[i] = half_at(block->d);
        }
        for (int i = 0; i < 8; i += 2) { /* s: rows i and i + 1, pairs 0..3 and 8..11; 4..7 and 12..15 */
            s[i] = _mm256_unpacklo_epi16(r[i], r[i + 1]);
            s[i + 1] = _mm256_unpackhi_epi16(r[i], r[i + 1]);
        }
        for (int i = 0; i < 8; i += 4) { /* r: rows i..i + 3; two pairs in each half */
            r[i] = _mm256_unpacklo_epi32(s[i], s[i + 2]);
            r[i + 1] = _mm256_unpackhi_epi32(s[i], s[i + 2]);
            r[i + 2] = _mm256_unpacklo_epi32(s[i + 1], s[i + 3]);
            r[i + 3] = _mm256_unpackhi_epi32(s[i + 1], s[i + 3]);
        }
        for (int i = 0; i < 4; i++) { /* s: all rows; pair p below, p + 8 above */
            s[2 * i] = _mm256_unpacklo_epi64(r[i], r[i + 4]);
            s[2 * i + 1] = _mm256_unpackhi_epi64(r[i], r[i + 4]);
        }
        for (int p = 0; p < 8; p++, w += 2 * cols) {
            _mm256_store_si256((__m256i *)w, _mm256_cvtepi8_epi16(_mm256_castsi256_si128(s[p])));
            _mm256_store_si256((__m256i *)(w + 16 * cols), _mm256_cvtepi8_epi16(_mm256_extracti128_si256(s[p], 1)));
        }
        w += 16 * cols;
    }
}

/* One row of a weight, or zeros beyond its last one (n is 0) -> k integers and their scales, stride apart. */
static void take_row(int16_t *q, float *d, int64_t stride, const char *from, enum dtype type, int64_t n, int64_t k, float *wide)
{
    int64_t whole = (n + BLOCK - 1) / BLOCK;

    if (n == 0) {
        whole = 0;
    } else if (type == DTYPE_Q8_0) {
        take_q8_0(q, d, stride, (const struct q8_0 *)from, whole);
    } else {
        to_f32(wide, from, type, n);
        memset(wide + n, 0, (size_t)(whole * BLOCK - n) * sizeof *wide);
        for (int64_t b = 0; b < whole; b++) d[b * stride] = round_block(q + b * BLOCK, wide + b * BLOCK, LIMIT_W);
    }
    for (int64_t b = whole; b < k / BLOCK; b++) {
        memset(q + b * BLOCK, 0, BLOCK * sizeof *q);
        d[b * stride] = 0.0f;
    }
}

/* 8 x 8 pairs at a time. */
__attribute__((target("avx2"))) void tile16_interleave(void *panel, size_t stride, const uint16_t *q, int64_t k)
{
    char *to = panel;

    for (int64_t at = 0; at < k; at += 16, to += 8 * stride) {
        __m256i r[8], s[8];

        for (int i = 0; i < 8; i++) r[i] = _mm256_load_si256((const __m256i *)(q + i * k + at));
        for (int i = 0; i < 8; i += 2) {
            s[i] = _mm256_unpacklo_epi32(r[i], r[i + 1]);
            s[i + 1] = _mm256_unpackhi_epi32(r[i], r[i + 1]);
        }
        for (int i = 0; i < 8; i += 4) {
            r[i] = _mm256_unpacklo_epi64(s[i], s[i + 2]);
            r[i + 1] = _mm256_unpackhi_epi64(s[i], s[i + 2]);
            r[i + 2] = _mm256_unpacklo_epi64(s[i + 1], s[i + 3]);
            r[i + 3] = _mm256_unpackhi_epi64(s[i + 1], s[i + 3]);
        }
        for (int i = 0; i < 4; i++) {
            _mm256_store_si256((__m256i *)(to + (size_t)i * stride), _mm256_permute2x128_si256(r[i], r[i + 4], 0x20));
            _mm256_store_si256((__m256i *)(to + (size_t)(i + 4) * stride), _mm256_permute2x128_si256(r[i], r[i + 4], 0x31));
        }
    }
}

/* The tiles. An empty asm keeps a product beside its sum: gcc would gather the products first and run out of registers. */
enum { AVX2_ROWS = 6, AVX2_COLS = 16, VNNI_ROWS = 12, VNNI_COLS = 32 };

#define AVX2 __attribute__((target("avx2,fma")))

/* sum += v, in its own register: left to itself gcc adds into another one and copies back, as many moves as products. */
AVX2 INLINE void add_in_place(__m256i *sum, __m256i v)
{
    __asm__("vpaddd %1, %0, %0" : "+x"(*sum) : "x"(v));
}

/* A pair of x's row r in all lanes. */
AVX2 INLINE __m256i pair_of(const uint16_t *x, int r)
{
    int32_t pair;

    memcpy(&pair, x + 2 * r, sizeof pair);
    return _mm256_set1_epi32(pair);
}

AVX2 static void tile_avx2(float *y, const uint16_t *x, const float *dx, const uint16_t *w, const float *dw, int64_t k)
{
    for (; k > 0; k -= BLOCK, dx += AVX2_ROWS, dw += AVX2_COLS) {
        __m256i sum[AVX2_ROWS][2], w0 = _mm256_load_si256((const __m256i *)w), w1 = _mm256_load_si256((const __m256i *)(w + 16));

        for (int r = 0; r < AVX2_ROWS; r++) {
            __m256i v = pair_of(x, r);

            sum[r][0] = _mm256_madd_epi16(v, w0);
            sum[r][1] = _mm256_madd_epi16(v, w1);
        }
        x += 2 * AVX2_ROWS, w += 2 * AVX2_COLS;
        for (int p = 1; p < BLOCK / 2; p++, x += 2 * AVX2_ROWS, w += 2 * AVX2_COLS) {
            w0 = _mm256_load_si256((const __m256i *)w);
            w1 = _mm256_load_si256((const __m256i *)(w + 16));
            for (int r = 0; r < AVX2_ROWS; r++) {
                __m256i v = pair_of(x, r);

                add_in_place(&sum[r][0], _mm256_madd_epi16(v, w0));
                add_in_place(&sum[r][1], _mm256_madd_epi16(v, w1));
            }
        }
        for (int r = 0; r < AVX2_ROWS; r++) {
            __m256 s = _mm256_set1_ps(dx[r]);

            for (int c = 0; c < 2; c++) {
                float *at = y + r * AVX2_COLS + 8 * c;
                __m256 d = _mm256_mul_ps(_mm256_load_ps(dw + 8 * c), s);

                _mm256_store_ps(at, _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum[r][c]), d, _mm256_load_ps(at)));
            }
        }
        __asm__ volatile("" : : : "memory"); /* y is read and written here: gcc would keep a second copy of it on the stack */
    }
}

__attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni"))) static void tile_vnni(float *y, const uint16_t *x, const float *dx, const uint16_t *w,
                                                                                     const float *dw, int64_t k)
{
    for (; k > 0; k -= BLOCK, dx += VNNI_ROWS, dw += VNNI_COLS) {
        __m512i sum[VNNI_ROWS][2];
        __m512  d[2] = {_mm512_load_ps(dw), _mm512_load_ps(dw + 16)};

        for (int r = 0; r < VNNI_ROWS; r++) sum[r][0] = sum[r][1] = _mm512_setzero_si512();
        for (int p = 0; p < BLOCK / 2; p++, x += 2 * VNNI_ROWS, w += 2 * VNNI_COLS) {
            __m512i w0 = _mm512_load_si512(w), w1 = _mm512_load_si512(w + 32);

            for (int r = 0; r < VNNI_ROWS; r++) {
                int32_t pair;
                __m512i v;

                memcpy(&pair, x + 2 * r, sizeof pair);
                v = _mm512_set1_epi32(pair);
                sum[r][0] = _mm512_dpwssd_epi32(sum[r][0], v, w0);
                sum[r][1] = _mm512_dpwssd_epi32(sum[r][1], v, w1);
                __asm__ volatile("" : "+v"(sum[r][0]), "+v"(sum[r][1]));
            }
        }
        for (int r = 0; r < VNNI_ROWS; r++) {
            __m512 s = _mm512_set1_ps(dx[r]);

            for (int c = 0; c < 2; c++) {
                float *at = y + r * VNNI_COLS + 16 * c;

                _mm512_store_ps(at, _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[r][c]), _mm512_mul_ps(d[c], s), _mm512_load_ps(at)));
            }
        }
        __asm__ volatile("" : : : "memory"); /* as above */
    }
}

static void put_w(const struct tile16 *v, uint16_t *w, float *dw, const char *from, size_t row_bytes, enum dtype type, int64_t n_cols, int64_t n,
                  int64_t k, void *room)
{
    int16_t *q = room;
    float   *wide = (float *)(q + TILE16_LANES * k);

    for (int64_t at = 0; at < v->cols; at += TILE16_LANES) {
        if (type == DTYPE_Q8_0 && at + TILE16_LANES <= n_cols && n == k) {
            put_q8_0((int16_t *)w + at * 2, dw + at, v->cols, from + (size_t)at * row_bytes, row_bytes, k / BLOCK);
            continue;
        }
        for (int64_t i = at; i < at + TILE16_LANES; i++) {
            bool there = i < n_cols;

            take_row(q + (i - at) * k, dw + i, v->cols, there ? from + (size_t)i * row_bytes : NULL, type, there ? n : 0, k, wide);
        }
        tile16_interleave(w + at * 2, (size_t)v->cols * 2 * sizeof *w, (const uint16_t *)q, k);
    }
}

const struct tile16 *int16_best(bool may_vnni)
{
    static const struct tile16 avx2 = {"avx2", AVX2_ROWS, AVX2_COLS, 256, put_x, put_w, tile_avx2, NULL, NULL},
                               vnni = {"avx512 vnni", VNNI_ROWS, VNNI_COLS, 256, put_x, put_w, tile_vnni, NULL, NULL};

    if (may_vnni && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl")) return &vnni;
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? &avx2 : NULL;
}
#else
const struct tile16 *int16_best(bool may_vnni)
{
    (void)may_vnni;
    return NULL;
}
#endif
