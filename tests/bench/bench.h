/* bench.h - what benches of kernels share: data by chance, an end with a sentence, the order of milliseconds, how far results are apart. */
#ifndef TESTS_BENCH_BENCH_H
#define TESTS_BENCH_BENCH_H

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/dev.h"

static inline void bench_die(const char *name, const struct err *e)
{
    fprintf(stderr, "%s: %s\n", name, e->text);
    exit(1);
}

/* For qsort() of doubles: the median is in the middle then. */
static inline int bench_by_ms(const void *a, const void *b)
{
    const double u = *(const double *)a, v = *(const double *)b;

    return (u > v) - (u < v);
}

static inline float bench_uniform(uint64_t *state) /* -1 .. 1 */
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (float)((int64_t)(*state >> 40) - (1 << 23)) / (float)(1 << 23);
}

/* [n,c] of bf16 or F32, near normal, of deviation `by`: pieces of a pool from random places, for tensors may be large. */
static inline struct tensor bench_noise(struct dev *d, enum dtype type, int64_t n, int64_t c, float by)
{
    enum { POOL = 1000003 };
    static uint64_t state = 7;
    const size_t    bytes = dtype_bytes(type), all = (size_t)(n * c) * bytes;
    struct tensor   t = dev_new2(d, type, n, c);
    char           *host = t.data ? malloc(all) : NULL, *pool = malloc(POOL * bytes);
    struct err      e = {0};

    if (!host || !pool) {
        fprintf(stderr, "no memory for a tensor of %zu bytes\n", all);
        exit(1);
    }
    for (int i = 0; i < POOL; i++) {
        const float v = (bench_uniform(&state) + bench_uniform(&state) + bench_uniform(&state) + bench_uniform(&state)) * 0.866f * by;

        memcpy(pool + (size_t)i * bytes, (const char *)&v + 4 - bytes, bytes);
    }
    for (size_t at = 0, len; at < all; at += len) {
        const size_t from = (size_t)((bench_uniform(&state) + 1) * (POOL / 4)) * bytes;

        len = POOL * bytes - from < all - at ? POOL * bytes - from : all - at;
        memcpy(host + at, pool + from, len);
    }
    if (dev_put(d, &t, host, all, &e)) bench_die("bench", &e);
    free(host);
    free(pool);
    return t;
}

/* Relative RMS of the first `used` columns of one beside two, both bf16 [rows,cols]. */
static inline double bench_apart(const uint16_t *one, const uint16_t *two, int64_t rows, int64_t cols, int64_t used)
{
    double sum = 0, all = 0;

    for (int64_t i = 0; i < rows; i++) {
        for (int64_t j = 0; j < used; j++) {
            const uint32_t u = (uint32_t)one[i * cols + j] << 16, v = (uint32_t)two[i * cols + j] << 16;
            float          fu, fv;

            memcpy(&fu, &u, sizeof fu);
            memcpy(&fv, &v, sizeof fv);
            sum += ((double)fu - (double)fv) * ((double)fu - (double)fv);
            all += (double)fv * (double)fv;
        }
    }
    return sqrt(sum / all);
}

#endif
