/* quant_make.c - F32 to blocks.
 * The way of every kind but Q8_0: try some roundings of a group, fit scale (and minimum) to each by weighted least squares, keep the fit
 * that errs least; write the scales as the block can hold them; round the values once more against what a reader will multiply with.
 * Q8_0 is plain rounding, byte for byte what the reference makes: at 8 bits a search gains nothing.
 * Not here: reading (quant.c). */
#include <assert.h>

#include "kernels/cpu/blocks.h"
#include "kernels/quant.h"

enum { TRIES = 10 }; /* on each side of the plain scale, a tenth of a level apart */

INLINE float round_even(float x) /* |x| < 2^22 */
{
    return x + 12582912.0f - 12582912.0f;
}

INLINE float clamp(float x, float low, float high)
{
    x = x > low ? x : low;
    return x < high ? x : high;
}

INLINE float inverse(float x)
{
    return x != 0.0f ? 1.0f / x : 0.0f;
}

/* w = rms + |x| */
INLINE void weigh(float *restrict w, const float *restrict x, int n)
{
    float sum = 0;

#pragma omp simd reduction(+ : sum)
    for (int i = 0; i < n; i++) sum += x[i] * x[i];
    sum = sqrtf(sum / (float)n);
    for (int i = 0; i < n; i++) w[i] = sum + fabsf(x[i]);
}

/* The scale d (of either sign) for which x ~ d q, q in low..high, errs least. */
INLINE float fit_scale(const float *restrict x, const float *restrict w, int n, float low, float high)
{
    float far = 0, best = -1, scale = 0;

    for (int i = 0; i < n; i++) far = fabsf(x[i]) > fabsf(far) ? x[i] : far;
    if (far == 0.0f) return 0;
    for (int t = -TRIES; t <= TRIES; t++) {
        float inv = (low + 0.1f * (float)t) / far, xq = 0, qq = 0;

#pragma omp simd reduction(+ : xq, qq)
        for (int i = 0; i < n; i++) {
            float q = round_even(clamp(inv * x[i], low, high));

            xq += w[i] * x[i] * q;
            qq += w[i] * q * q;
        }
        if (qq > 0 && xq * xq > best * qq) { /* the error is sum w x^2 - xq^2 / qq */
            best = xq * xq / qq;
            scale = xq / qq;
        }
    }
    return scale;
}

struct line { float scale, min; }; /* x ~ scale q - min, both >= 0 */

INLINE struct line fit_line(const float *restrict x, const float *restrict w, int n, float high)
{
    float       low = 0, top = x[0], sw = 0, sx = 0;
    double      best = INFINITY;
    struct line fit = {0, 0};

    for (int i = 0; i < n; i++) {
        low = x[i] < low ? x[i] : low;
        top = x[i] > top ? x[i] : top;
    }
    fit.min = -low;
    if (top <= low) return fit;
#pragma omp simd reduction(+ : sw, sx)
    for (int i = 0; i < n; i++) {
        sw += w[i];
        sx += w[i] * x[i];
    }
    for (int t = -TRIES; t <= TRIES; t++) {
        float inv = (high + 0.1f * (float)t) / (top - low), sq = 0, sqq = 0, sxq = 0;

#pragma omp simd reduction(+ : sq, sqq, sxq)
        for (int i = 0; i < n; i++) {
            float q = round_even(clamp(inv * (x[i] - low), 0, high)), wq = w[i] * q;

            sq += wq;
            sqq += wq * q;
            sxq += wq * x[i];
        }
        double det = (double)sw * sqq - (double)sq * sq, scale, min; /* x ~ scale q + min, min <= 0 */

        if (!(sqq > 0)) continue;
        scale = det > 0 ? ((double)sw * sxq - (double)sx * sq) / det : sxq / sqq;
        min = det > 0 ? ((double)sqq * sx - (double)sq * sxq) / det : 0;
        if (min > 0) {
            min = 0;
            scale = (double)sxq / sqq;
        }
        double error = scale * scale * sqq + min * min * sw + 2 * (scale * min * sq - scale * sxq - min * sx); /* + sum w x^2 */
        if (error < best && scale > 0) {
            best = error;
            fit = (struct line){(float)scale, (float)-min};
        }
    }
    return fit;
}

CLONES static void make_q8_0(struct q8_0 *restrict b, const float *restrict x, int64_t n)
{
    for (int64_t i = 0; i < n; i++, x += BLOCK) {
        float far = 0;

        for (int k = 0; k < BLOCK; k++) far = fabsf(x[k]) > far ? fabsf(x[k]) : far;
        float d = far / 127.0f, inv = inverse(d);
        half_put(b[i].d, d);
        for (int k = 0; k < BLOCK; k++) b[i].q[k] = (int8_t)(x[k] * inv + copysignf(0.5f, x[k])); /* halves go away from zero */
    }
}

CLONES static void make_q4_0(struct q4_0 *restrict b, const float *restrict x, int64_t n)
{
    for (int64_t i = 0; i < n; i++, x += BLOCK) {
        float   w[BLOCK], inv;
        uint8_t q[BLOCK];

        weigh(w, x, BLOCK);
        inv = inverse(half_put(b[i].d, fit_scale(x, w, BLOCK, -8, 7)));
        for (int k = 0; k < BLOCK; k++) q[k] = (uint8_t)(round_even(clamp(inv * x[k], -8, 7)) + 8);
        for (int k = 0; k < 16; k++) b[i].q[k] = (uint8_t)(q[k] | q[k + 16] << 4);
    }
}

/* A super-block x of 16 groups of 16 with one signed scale each: the scales as integers in low..high of *d, the values as q - q_low. */
INLINE void make_signed(const float *restrict x, float q_low, float q_high, float low, float high, uint8_t d[2], int s[16], uint8_t q[SUPER])
{
    float w[SUPER], scale[16], far = 0, unit;

    weigh(w, x, SUPER);
    for (int g = 0; g < 16; g++) {
        scale[g] = fit_scale(x + g * 16, w + g * 16, 16, q_low, q_high);
        far = fabsf(scale[g]) > fabsf(far) ? scale[g] : far;
    }
    unit = half_put(d, far / low);
    for (int g = 0; g < 16; g++) {
        float r = round_even(clamp(scale[g] * inverse(unit), low, high)), inv = inverse(unit * r);

        s[g] = (int)r;
        for (int k = g * 16; k < g * 16 + 16; k++) q[k] = (uint8_t)(round_even(clamp(inv * x[k], q_low, q_high)) - q_low);
    }
}

/* A super-block of n groups with a scale and a minimum each, integers in 0..high of *d and *m; values 0..q_high. */
INLINE void make_lines(const float *restrict x, int n, float q_high, float high, uint8_t d[2], uint8_t m[2], int s[16], int t[16], uint8_t q[SUPER])
{
    const int   size = SUPER / n;
    float       w[SUPER], top_scale = 0, top_min = 0, unit, unit_min;
    struct line fit[16];

    weigh(w, x, SUPER);
    for (int g = 0; g < n; g++) {
        fit[g] = fit_line(x + g * size, w + g * size, size, q_high);
        top_scale = fit[g].scale > top_scale ? fit[g].scale : top_scale;
        top_min = fit[g].min > top_min ? fit[g].min : top_min;
    }
    unit = half_put(d, top_scale / high);
    unit_min = half_put(m, top_min / high);
    for (int g = 0; g < n; g++) {
        float rs = round_even(clamp(fit[g].scale * inverse(unit), 0, high)), rt = round_even(clamp(fit[g].min * inverse(unit_min), 0, high));
        float inv = inverse(unit * rs), min = unit_min * rt;

        s[g] = (int)rs;
        t[g] = (int)rt;
        for (int k = g * size; k < (g + 1) * size; k++) q[k] = (uint8_t)round_even(clamp(inv * (x[k] + min), 0, q_high));
    }
}

CLONES static void make_q2_k(struct q2_k *restrict b, const float *restrict x, int64_t n)
{
    for (int64_t i = 0; i < n; i++, x += SUPER) {
        uint8_t q[SUPER];
        int     s[16], t[16];

        make_lines(x, 16, 3, 15, b[i].d, b[i].m, s, t, q);
        for (int g = 0; g < 16; g++) b[i].scale[g] = (uint8_t)(s[g] | t[g] << 4);
        for (int k = 0; k < 64; k++) {
            const uint8_t *at = q + k / 32 * 128 + k % 32;

            b[i].q[k] = (uint8_t)(at[0] | at[32] << 2 | at[64] << 4 | at[96] << 6);
        }
    }
}

CLONES static void make_q3_k(struct q3_k *restrict b, const float *restrict x, int64_t n)
{
    for (int64_t i = 0; i < n; i++, x += SUPER) {
        uint8_t q[SUPER];
        int     s[16];

        make_signed(x, -4, 3, -32, 31, b[i].d, s, q);
        memset(b[i].scale, 0, sizeof b[i].scale);
        for (int g = 0; g < 16; g++) {
            int bits = s[g] + 32;

            b[i].scale[g % 8] |= (uint8_t)((bits & 15) << (g / 8 * 4));
            b[i].scale[8 + g % 4] |= (uint8_t)(bits >> 4 << (g / 4 * 2));
        }
        for (int k = 0; k < 64; k++) {
            const uint8_t *at = q + k / 32 * 128 + k % 32;

            b[i].q[k] = (uint8_t)((at[0] & 3) | (at[32] & 3) << 2 | (at[64] & 3) << 4 | (at[96] & 3) << 6);
        }
        memset(b[i].high, 0, sizeof b[i].high);
        for (int k = 0; k < SUPER; k++) b[i].high[k % 32] |= (uint8_t)(q[k] >> 2 << (k / 32));
    }
}

/* The inverse of scale_min(). */
INLINE void put_scale_mins(uint8_t at[12], const int s[8], const int t[8])
{
    for (int g = 0; g < 4; g++) {
        at[g] = (uint8_t)(s[g] | s[g + 4] >> 4 << 6);
        at[g + 4] = (uint8_t)(t[g] | t[g + 4] >> 4 << 6);
        at[g + 8] = (uint8_t)((s[g + 4] & 15) | (t[g + 4] & 15) << 4);
    }
}

CLONES static void make_q4_k(struct q4_k *restrict b, const float *restrict x, int64_t n)
{
    for (int64_t i = 0; i < n; i++, x += SUPER) {
        uint8_t q[SUPER];
        int     s[16], t[16];

        make_lines(x, 8, 15, 63, b[i].d, b[i].m, s, t, q);
        put_scale_mins(b[i].scale, s, t);
        for (int k = 0; k < 128; k++) {
            const uint8_t *at = q + k / 32 * 64 + k % 32;

            b[i].q[k] = (uint8_t)(at[0] | at[32] << 4);
        }
    }
}

CLONES static void make_q5_k(struct q5_k *restrict b, const float *restrict x, int64_t n)
{
    for (int64_t i = 0; i < n; i++, x += SUPER) {
        uint8_t q[SUPER];
        int     s[16], t[16];

        make_lines(x, 8, 31, 63, b[i].d, b[i].m, s, t, q);
        put_scale_mins(b[i].scale, s, t);
        for (int k = 0; k < 128; k++) {
            const uint8_t *at = q + k / 32 * 64 + k % 32;

            b[i].q[k] = (uint8_t)((at[0] & 15) | (at[32] & 15) << 4);
        }
        memset(b[i].high, 0, sizeof b[i].high);
        for (int k = 0; k < SUPER; k++) b[i].high[k % 32] |= (uint8_t)(q[k] >> 4 << (k / 32));
    }
}

CLONES static void make_q6_k(struct q6_k *restrict b, const float *restrict x, int64_t n)
{
    for (int64_t i = 0; i < n; i++, x += SUPER) {
        uint8_t q[SUPER];
        int     s[16];

        make_signed(x, -32, 31, -128, 127, b[i].d, s, q);
        for (int g = 0; g < 16; g++) b[i].scale[g] = (int8_t)s[g];
        for (int k = 0; k < 128; k++) {
            const uint8_t *at = q + k / 64 * 128 + k % 64;

            b[i].low[k] = (uint8_t)((at[0] & 15) | (at[64] & 15) << 4);
        }
        for (int k = 0; k < 64; k++) {
            const uint8_t *at = q + k / 32 * 128 + k % 32;

            b[i].high[k] = (uint8_t)(at[0] >> 4 | at[32] >> 4 << 2 | at[64] >> 4 << 4 | at[96] >> 4 << 6);
        }
    }
}

/* An 8-bit float with `bits` of mantissa; bias: F32's exponent bias less its own; magic: the number whose ulp is its smallest step. */
INLINE uint8_t f8_one(float x, int bits, uint32_t bias, float magic, uint8_t largest)
{
    uint32_t u = f32_bits(x), a = u & 0x7fffffffu, shift = 23u - (uint32_t)bits;
    uint32_t normal = ((a + (1u << (shift - 1)) - 1u + (a >> shift & 1u)) >> shift) - (bias << bits);
    uint32_t small = f32_bits(bits_f32(a) + magic) - f32_bits(magic);
    uint32_t r = a < (bias + 1u) << 23 ? small : normal;

    r = r > largest || a >= 0x7f800000u ? largest : r;
    r = a > 0x7f800000u ? 0x7fu : r;
    return (uint8_t)(r | (u >> 24 & 0x80u));
}

CLONES static void make_f8_e4m3(uint8_t *restrict to, const float *restrict x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) to[i] = f8_one(x[i], 3, 120, 16384.0f, 0x7e);
}

CLONES static void make_f8_e5m2(uint8_t *restrict to, const float *restrict x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) to[i] = f8_one(x[i], 2, 112, 128.0f, 0x7b);
}

bool quant_can_make(enum dtype type)
{
    switch (type) {
    case DTYPE_F8_E4M3: case DTYPE_F8_E5M2: case DTYPE_Q8_0: case DTYPE_Q4_0: case DTYPE_Q2_K: case DTYPE_Q3_K: case DTYPE_Q4_K:
    case DTYPE_Q5_K: case DTYPE_Q6_K: return true;
    default: return false;
    }
}

void quant_from_f32(void *to, enum dtype type, const float *from, int64_t n)
{
    int64_t n_blocks = n / dtype_block(type);

    assert(n % dtype_block(type) == 0);
    switch (type) {
    case DTYPE_F8_E4M3: make_f8_e4m3(to, from, n); break;
    case DTYPE_F8_E5M2: make_f8_e5m2(to, from, n); break;
    case DTYPE_Q8_0: make_q8_0(to, from, n_blocks); break;
    case DTYPE_Q4_0: make_q4_0(to, from, n_blocks); break;
    case DTYPE_Q2_K: make_q2_k(to, from, n_blocks); break;
    case DTYPE_Q3_K: make_q3_k(to, from, n_blocks); break;
    case DTYPE_Q4_K: make_q4_k(to, from, n_blocks); break;
    case DTYPE_Q5_K: make_q5_k(to, from, n_blocks); break;
    case DTYPE_Q6_K: make_q6_k(to, from, n_blocks); break;
    default: assert(!"quant_from_f32: this kind is read only");
    }
}
