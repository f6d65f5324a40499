/* bench_joined.c - gate and up products that end in SwiGLU, beside the same ops one after the other, in turns, under load: of a layer of the transformer
 * (3840 to 10240) and of the text encoder (2560 to 9728).
 *
 *   bench_joined [DEVICE] [TOKENS...]     default cuda:0 and sizes that pictures and prompts have
 *
 * Per size: median ms of both, TFLOP/s, and how far the values are apart (relative RMS of the first 256 rows).
 * Figures, never a verdict. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "kernels/cuda/cuda.h"
#include "kernels/ops.h"
#include "tests/bench/bench.h"

enum { ROUNDS = 11, AT_ONCE = 12, LOOKED_AT = 256, USUAL = 12 };

static const struct { const char *name; int64_t dim, ffn; } part[2] = {{"transformer", 3840, 10240}, {"text encoder", 2560, 9728}};

struct bench {
    struct dev   *d;
    struct tensor x, y, w13;
};

static uint16_t *result(struct bench *b, int64_t rows, int64_t cols)
{
    struct tensor part = b->y;
    uint16_t     *host = malloc((size_t)(rows * cols) * 2);
    struct err    e = {0};

    part.dim[0] = rows;
    if (!host) exit(1);
    if (dev_get(b->d, &part, host, (size_t)(rows * cols) * 2, &e)) bench_die("bench_joined", &e);
    return host;
}

static void compare(struct bench *b, int64_t n, int kind)
{
    const int64_t cols = 2 * part[kind].ffn, used = part[kind].ffn, rows = n < LOOKED_AT ? n : LOOKED_AT;
    const double  flop = 2.0 * (double)n * (double)cols * (double)part[kind].dim;
    double        ms[2][ROUNDS];
    uint16_t     *seen[2];
    struct err    e = {0};

    for (int way = 0; way < 2; way++) {
        cuda_only(b->d, CUDA_ONLY_SEPARATE, way == 0);
        op_linear_swiglu(b->d, &b->y, &b->x, &b->w13);
        seen[way] = result(b, rows, cols);
    }
    for (int r = -3; r < ROUNDS; r++) { /* the first ones warm up */
        for (int way = 0; way < 2; way++) {
            cuda_only(b->d, CUDA_ONLY_SEPARATE, way == 0);
            dev_stamp(b->d, 0);
            for (int i = 0; i < AT_ONCE; i++) op_linear_swiglu(b->d, &b->y, &b->x, &b->w13);
            dev_stamp(b->d, 1);
            if (dev_sync(b->d, &e)) bench_die("bench_joined", &e);
            if (r >= 0) ms[way][r] = dev_stamp_ms(b->d, 0, 1) / AT_ONCE;
        }
    }
    for (int way = 0; way < 2; way++) qsort(ms[way], ROUNDS, sizeof *ms[way], bench_by_ms);
    printf("%6lld %-14s %9.4f %9.4f %7.3f %8.0f %8.0f %10.1e\n", (long long)n, part[kind].name, ms[0][ROUNDS / 2],
           ms[1][ROUNDS / 2], ms[1][ROUNDS / 2] / ms[0][ROUNDS / 2], flop / ms[0][ROUNDS / 2] / 1e9, flop / ms[1][ROUNDS / 2] / 1e9, bench_apart(seen[1], seen[0], rows, cols, used));
    fflush(stdout);
    free(seen[0]);
    free(seen[1]);
}

int main(int argc, char **argv)
{
    static const int64_t usual[USUAL] = {32, 64, 128, 256, 512, 768, 1152, 2304, 3136, 4128, 4224, 9344};
    const char          *device = argc > 1 ? argv[1] : "cuda:0";
    const int            n_sizes = argc > 2 ? argc - 2 : USUAL;
    struct bench         b = {0};
    struct err           e = {0};

    if (!str_starts(str_of(device), "cuda")) {
        fprintf(stderr, "bench_joined: %s: products are joined on a GPU only: cuda:N\n", device);
        return 2;
    }
    if (dev_open(&b.d, device, &(struct dev_opts){PRECISION_BF16, 0}, &e) || dev_scratch_reserve(b.d, (size_t)1 << 30, &e)) bench_die("bench_joined", &e);
    cuda_only(b.d, CUDA_ONLY_JOINED, true);
    if (!cuda_joins(b.d)) printf("this device does them one after the other\n");
    printf("%s\n%6s %-14s %9s %9s %7s %8s %8s %10s\n", b.d->about, "tokens", "", "apart ms", "joined", "ratio", "TFLOP/s", "joined", "differ by");
    for (int kind = 0; kind < 2; kind++) {
        size_t all = dev_mark(b.d);

        b.w13 = bench_noise(b.d, DTYPE_BF16, 2 * part[kind].ffn, part[kind].dim, 0.03f);
        for (int i = 0; i < n_sizes; i++) {
            int64_t n = usual[i % USUAL];
            size_t  mark = dev_mark(b.d);

            if (argc > 2 && (str_to_i64(str_of(argv[i + 2]), &n) || n < 1 || n > 16384)) return 2;
            b.x = bench_noise(b.d, DTYPE_BF16, n, part[kind].dim, 1.0f);
            b.y = dev_new2(b.d, DTYPE_BF16, n, 2 * part[kind].ffn);
            compare(&b, n, kind);
            dev_reset(b.d, mark);
        }
        dev_reset(b.d, all);
    }
    dev_close(b.d);
    return 0;
}
