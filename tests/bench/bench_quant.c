/* bench_quant.c - the products of one DiT layer with weights of every block kind, beside bf16 ones: what widening each weight for its product costs.
 *
 *   bench_quant [DEVICE] [TOKENS]     default cuda:0 4128
 *
 * A layer is q|k|v [11520,3840], o [3840,3840], w1|w3 [20480,3840], w2 [3840,10240]; random blocks with tame scales. Per kind: ms of a layer (best
 * of 5 rounds of 6), its ratio to bf16's, and, from products of one row, the rate at which a layer is widened (bytes read and written).
 * Figures, never a verdict. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/str.h"
#include "kernels/ops.h"
#include "kernels/quant.h"
#include "tests/bench/bench.h"

enum { MATRICES = 4, LAYERS = 6, ROUNDS = 5, WIDEST = 20480 };

static const int64_t shape[MATRICES][2] = {{11520, 3840}, {3840, 3840}, {20480, 3840}, {3840, 10240}};

static uint32_t dice(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33);
}

/* Values of about 1/60 that are no kind's own pattern, as bf16 or of a kind that can be made. */
static struct tensor weight_of(struct dev *d, enum dtype type, int i)
{
    const int64_t m = shape[i][0], k = shape[i][1];
    struct tensor host = {.type = type, .rank = 2, .dim = {m, k}, .pitch = k}, out;
    uint64_t      state = (uint64_t)i + 1;
    struct err    e = {0};
    float         row[10240];
    size_t        row_bytes = dtype_row_bytes(type, k);
    char         *data = malloc(row_bytes * (size_t)m);

    if (!data) exit(1);
    for (int64_t r = 0; r < m; r++) {
        if (r >= 64) { /* rows repeat: making them is slow, and the GPU does not see it */
            memcpy(data + (size_t)r * row_bytes, data + (size_t)(r % 64) * row_bytes, row_bytes);
            continue;
        }
        for (int64_t l = 0; l < k; l++) row[l] = ((float)(dice(&state) % 2001) - 1000.0f) / 35000.0f;
        if (type == DTYPE_BF16) {
            for (int64_t l = 0; l < k; l++) memcpy(data + (size_t)r * row_bytes + 2 * (size_t)l, (char *)&row[l] + 2, 2);
        } else {
            quant_from_f32(data + (size_t)r * row_bytes, type, row, k);
        }
    }
    host.data = data;
    if (dev_weight(d, &host, &out, &e) || dev_sync(d, &e)) bench_die("bench_quant", &e);
    free(data);
    return out;
}

static void layer(struct dev *d, const struct tensor w[MATRICES], struct tensor *x, struct tensor *y, int64_t n)
{
    for (int i = 0; i < MATRICES; i++) {
        struct tensor in = *x, out = *y;

        in.dim[0] = out.dim[0] = n;
        in.dim[1] = in.pitch = w[i].dim[1];
        out.dim[1] = out.pitch = w[i].dim[0];
        op_linear(d, &out, &in, &w[i], NULL);
    }
}

static double layer_ms(struct dev *d, const struct tensor w[MATRICES], struct tensor *x, struct tensor *y, int64_t n)
{
    double     best = 1e9;
    struct err e = {0};

    for (int round = 0; round <= ROUNDS; round++) { /* the first warms up */
        int64_t from;

        if (dev_sync(d, &e)) bench_die("bench_quant", &e);
        from = now_us();
        for (int i = 0; i < LAYERS; i++) layer(d, w, x, y, n);
        if (dev_sync(d, &e)) bench_die("bench_quant", &e);
        double ms = (double)(now_us() - from) / 1000.0 / LAYERS;
        if (round && ms < best) best = ms;
    }
    return best;
}

int main(int argc, char **argv)
{
    const char   *device = argc > 1 ? argv[1] : "cuda:0";
    int64_t       n = 4128;
    struct dev   *d = NULL;
    struct err    e = {0};
    double        base = 0, values = 0;

    if ((argc > 2 && str_to_i64(str_of(argv[2]), &n)) || n < 1 || n > 65536) return 2;
    if (dev_open(&d, device, NULL, &e) || dev_scratch_reserve(d, (size_t)n * 2 * (10240 + WIDEST) * 2 + 4096, &e)) bench_die("bench_quant", &e);
    struct tensor x = dev_new2(d, d->act_type, n, 10240), y = dev_new2(d, d->act_type, n, WIDEST);
    uint16_t     *noise = malloc((size_t)n * 10240 * 2);
    uint64_t      state = 9;

    if (!noise) return 1;
    for (int64_t i = 0; i < n * 10240; i++) noise[i] = (uint16_t)((dice(&state) & 0x80ffu) | 0x3f00u);
    if (dev_put(d, &x, noise, (size_t)n * 10240 * 2, &e)) bench_die("bench_quant", &e);
    for (int i = 0; i < MATRICES; i++) values += (double)(shape[i][0] * shape[i][1]);
    printf("%s; %lld tokens\n%-8s %10s %8s %12s\n", d->about, (long long)n, "kind", "layer ms", "of bf16", "widen GB/s");
    for (int t = DTYPE_BF16; t < DTYPE_COUNT; t++) {
        const enum dtype type = (enum dtype)t;
        struct tensor    w[MATRICES];

        if (type != DTYPE_BF16 && !quant_can_make(type)) continue;
        for (int i = 0; i < MATRICES; i++) w[i] = weight_of(d, type, i);
        double ms = layer_ms(d, w, &x, &y, n), one = layer_ms(d, w, &x, &y, 1);
        if (type == DTYPE_BF16) base = ms;
        printf("%-8s %10.3f %8.3f %12.0f\n", dtype_name(type), ms, ms / base,
               values * (2.0 + (type == DTYPE_BF16 ? 0.0 : (double)dtype_block_bytes(type) / (double)dtype_block(type))) / one / 1e6);
        fflush(stdout);
    }
    free(noise);
    dev_close(d);
    return 0;
}
