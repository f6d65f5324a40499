/* bench_attention.c - attention of the transformer's heads (30 of 128, not causal), our kernel for sm_90 beside cuDNN's, in turns, under load.
 *
 *   bench_attention [DEVICE] [TOKENS...]     default cuda:0 and sizes that pictures have
 *
 * Per size: median ms of both, TFLOP/s, and how far the values are apart (relative RMS). Figures, never a verdict. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "kernels/cuda/cuda.h"
#include "kernels/ops.h"
#include "tests/bench/bench.h"

enum { ROUNDS = 15, AT_ONCE = 20, HEADS = 30, HEAD = 128, USUAL = 6 };

static void compare(struct dev *d, int64_t n)
{
    const int64_t dim = HEADS * HEAD;
    const double  flop = 4.0 * (double)n * (double)n * (double)dim;
    struct tensor qkv = bench_noise(d, DTYPE_BF16, n, 3 * dim, 1), y = dev_new2(d, DTYPE_BF16, n, dim), part[3], heads[4];
    double        ms[2][ROUNDS];
    uint16_t     *seen[2];
    struct err    e = {0};

    for (int i = 0; i < 3; i++) part[i] = tensor_cols_of(&qkv, i * dim, dim), heads[i] = tensor_heads(&part[i], HEADS);
    heads[3] = tensor_heads(&y, HEADS);
    for (int r = -2; r < ROUNDS; r++) { /* the first ones warm up */
        for (int ours = 0; ours < 2; ours++) {
            cuda_only(d, CUDA_ONLY_THEIRS, !ours);
            dev_stamp(d, 0);
            for (int i = 0; i < AT_ONCE; i++) op_attention(d, &heads[3], &heads[0], &heads[1], &heads[2], 0.0883883f, false);
            dev_stamp(d, 1);
            if (dev_sync(d, &e)) bench_die("bench_attention", &e);
            if (r >= 0) ms[ours][r] = dev_stamp_ms(d, 0, 1) / AT_ONCE;
            if (r != 0) continue;
            if (!(seen[ours] = malloc((size_t)(n * dim) * sizeof *seen[0]))) exit(1);
            if (dev_get(d, &y, seen[ours], (size_t)(n * dim) * sizeof *seen[0], &e)) bench_die("bench_attention", &e);
        }
    }
    for (int ours = 0; ours < 2; ours++) qsort(ms[ours], ROUNDS, sizeof *ms[ours], bench_by_ms);
    printf("%6lld %9.4f %9.4f %7.3f %8.0f %8.0f %10.1e\n", (long long)n, ms[0][ROUNDS / 2], ms[1][ROUNDS / 2], ms[1][ROUNDS / 2] / ms[0][ROUNDS / 2], flop / ms[0][ROUNDS / 2] / 1e9,
           flop / ms[1][ROUNDS / 2] / 1e9, bench_apart(seen[1], seen[0], n, dim, dim));
    fflush(stdout);
    free(seen[0]);
    free(seen[1]);
}

int main(int argc, char **argv)
{
    static const int64_t usual[USUAL] = {1152, 2304, 3136, 4128, 4224, 9344};
    const char          *device = argc > 1 ? argv[1] : "cuda:0";
    const int            n_sizes = argc > 2 ? argc - 2 : USUAL;
    struct dev          *d;
    struct err           e = {0};

    if (!str_starts(str_of(device), "cuda")) {
        fprintf(stderr, "bench_attention: %s: this compares kernels of a GPU: cuda:N\n", device);
        return 2;
    }
    if (dev_open(&d, device, &(struct dev_opts){PRECISION_BF16, 0}, &e) || dev_scratch_reserve(d, (size_t)2 << 30, &e)) bench_die("bench_attention", &e);
    printf("%s\n%6s %9s %9s %7s %8s %8s %10s\n", d->about, "tokens", "cuDNN ms", "ours", "ratio", "TFLOP/s", "ours", "differ by");
    for (int i = 0; i < n_sizes; i++) {
        int64_t n = usual[i % USUAL];
        size_t  mark = dev_mark(d);

        if (argc > 2 && (str_to_i64(str_of(argv[i + 2]), &n) || n < 1 || n > 32768)) return 2;
        compare(d, n);
        dev_reset(d, mark);
    }
    dev_close(d);
    return 0;
}
