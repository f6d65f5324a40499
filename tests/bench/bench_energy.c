/* bench_energy.c - what each op of a layer of the transformer takes when it runs alone, over and over, until the card's clock has settled: milliseconds,
 * watts, joules and the clock. At the limit of its power a card's time is energy, and this says whose.
 *
 *   bench_energy [DEVICE] [TOKENS] [MS] [ROUNDS] [OP...]     default cuda:0 4224 1000 2, all ops; an OP is the beginning of a name
 *
 * Random data near normal, three sets of it that take turns, so that nothing is in the cache by chance. Watts come from the driver's counter of
 * energy (NVML, found at run time), which moves in steps: a run of less than a second can be 10 % off, milliseconds are not.
 * Figures, never a verdict. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/str.h"
#include "kernels/cuda/cuda.h"
#include "kernels/ops.h"
#include "tests/bench/bench.h"

enum { DIM = 3840, HIDDEN = 10240, HEAD = 128, HEADS = DIM / HEAD, SETS = 3, AT_ONCE = 60 };

#define SETTLE_S 0.4

struct set { /* of activations and weights */
    struct tensor x, y, qkv, hidden, w_qkv, w_o, w_13, w_2;
};

struct bench {
    struct dev   *d;
    struct set    set[SETS];
    struct tensor norm, wide_norm, cos, sin;
    int (*energy)(void *, unsigned long long *); /* mJ since the driver started; NULL: not known */
    int (*clock)(void *, int, unsigned *);
    void *gpu;
};

/* ---- what the driver says ---- */

static void meter_open(struct bench *b)
{
    void *lib = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL), *at[4];
    int (*init)(void), (*handle)(unsigned, void **);

    if (!lib || !(at[0] = dlsym(lib, "nvmlInit_v2")) || !(at[1] = dlsym(lib, "nvmlDeviceGetHandleByIndex_v2"))) return;
    if (!(at[2] = dlsym(lib, "nvmlDeviceGetTotalEnergyConsumption")) || !(at[3] = dlsym(lib, "nvmlDeviceGetClockInfo"))) return;
    memcpy(&init, &at[0], sizeof init);
    memcpy(&handle, &at[1], sizeof handle);
    if (init() || handle((unsigned)b->d->ordinal, &b->gpu)) return;
    memcpy(&b->energy, &at[2], sizeof b->energy);
    memcpy(&b->clock, &at[3], sizeof b->clock);
}

static double meter_joules(const struct bench *b)
{
    unsigned long long mj = 0;

    return b->energy && b->energy(b->gpu, &mj) == 0 ? (double)mj / 1000 : 0;
}

static unsigned meter_mhz(const struct bench *b)
{
    unsigned mhz = 0;

    return b->clock && b->clock(b->gpu, 1 /* of the multiprocessors */, &mhz) == 0 ? mhz : 0;
}

/* ---- data ---- */

static struct tensor vector(struct dev *d, int64_t n)
{
    struct tensor t = bench_noise(d, DTYPE_F32, 1, n, 1.0f);

    return tensor_view(&t, 1, &n);
}

static void fill(struct bench *b, int64_t n)
{
    struct dev *d = b->d;

    for (int i = 0; i < SETS; i++) {
        struct set *s = &b->set[i];

        s->x = bench_noise(d, DTYPE_BF16, n, DIM, 1.0f), s->y = bench_noise(d, DTYPE_BF16, n, DIM, 1.0f);
        s->qkv = bench_noise(d, DTYPE_BF16, n, 3 * DIM, 1.0f), s->hidden = bench_noise(d, DTYPE_BF16, n, 2 * HIDDEN, 1.0f);
        s->w_qkv = bench_noise(d, DTYPE_BF16, 3 * DIM, DIM, 0.02f), s->w_o = bench_noise(d, DTYPE_BF16, DIM, DIM, 0.02f);
        s->w_13 = bench_noise(d, DTYPE_BF16, 2 * HIDDEN, DIM, 0.02f), s->w_2 = bench_noise(d, DTYPE_BF16, DIM, HIDDEN, 0.01f);
    }
    b->norm = vector(d, HEAD), b->wide_norm = vector(d, DIM);
    b->cos = bench_noise(d, DTYPE_F32, n, HEAD / 2, 0.7f), b->sin = bench_noise(d, DTYPE_F32, n, HEAD / 2, 0.7f);
}

/* ---- the ops of a layer ---- */

typedef void op_f(struct bench *b, struct set *s);

static void qkv(struct bench *b, struct set *s)
{
    op_linear(b->d, &s->qkv, &s->x, &s->w_qkv, NULL);
}

static void norm_rope(struct bench *b, struct set *s)
{
    struct tensor qk = tensor_cols_of(&s->qkv, 0, 2 * DIM), heads = tensor_heads(&qk, 2 * HEADS);

    op_norm_rope(b->d, &heads, &(struct norm_rope){HEADS, &b->norm, &b->norm, 1e-5f, ROPE_PAIRS, &b->cos, &b->sin});
}

static void attention(struct bench *b, struct set *s)
{
    struct tensor part[3], heads[4];

    for (int i = 0; i < 3; i++) part[i] = tensor_cols_of(&s->qkv, i * DIM, DIM), heads[i] = tensor_heads(&part[i], HEADS);
    heads[3] = tensor_heads(&s->y, HEADS);
    op_attention(b->d, &heads[3], &heads[0], &heads[1], &heads[2], 0.0883883f, false);
}

static void attention_theirs(struct bench *b, struct set *s)
{
    cuda_only(b->d, CUDA_ONLY_THEIRS, true);
    attention(b, s);
    cuda_only(b->d, CUDA_ONLY_THEIRS, false);
}

static void out(struct bench *b, struct set *s)
{
    op_linear(b->d, &s->y, &s->x, &s->w_o, NULL);
}

static void add_norm(struct bench *b, struct set *s)
{
    op_add_norm(b->d, &s->x, &s->y, &s->y, &(struct add_norm){&b->wide_norm, &b->wide_norm, &b->wide_norm, &b->wide_norm, 1e-5f});
}

static void gate_up(struct bench *b, struct set *s)
{
    op_linear(b->d, &s->hidden, &s->x, &s->w_13, NULL);
}

static void gate_up_swiglu(struct bench *b, struct set *s)
{
    op_linear_swiglu(b->d, &s->hidden, &s->x, &s->w_13);
}

static void down(struct bench *b, struct set *s)
{
    const struct tensor h = tensor_cols_of(&s->hidden, 0, HIDDEN);

    op_linear(b->d, &s->y, &h, &s->w_2, NULL);
}

static const struct op {
    const char *name;
    op_f       *run;
    double      flop_per_tok; /* attention's grow with the tokens: -1 */
} ops[] = {
    {"q, k, v", qkv, 2.0 * DIM * 3 * DIM},      {"norm_rope", norm_rope, 0},      {"attention", attention, -1},
    {"attention, cuDNN", attention_theirs, -1},
    {"out", out, 2.0 * DIM * DIM},              {"add_norm", add_norm, 0},        {"gate, up alone", gate_up, 2.0 * DIM * 2 * HIDDEN},
    {"gate, up, swiglu", gate_up_swiglu, 2.0 * DIM * 2 * HIDDEN},                 {"down", down, 2.0 * HIDDEN * DIM},
};

/* Runs it for so long; ms of one. Returns the seconds it really took. */
static double run_for(struct bench *b, const struct op *op, double seconds, double *ms, double *mhz)
{
    const int64_t begin_us = now_us();
    struct err    e = {0};
    double        sum = 0, clocks = 0, took;
    int           n = 0;

    do {
        dev_stamp(b->d, 0);
        for (int i = 0; i < AT_ONCE; i++) op->run(b, &b->set[i % SETS]);
        dev_stamp(b->d, 1);
        if (dev_sync(b->d, &e)) bench_die("bench_energy", &e);
        sum += dev_stamp_ms(b->d, 0, 1);
        n += AT_ONCE;
        clocks += meter_mhz(b);
        took = (double)(now_us() - begin_us) / 1e6;
    } while (took < seconds);
    *ms = sum / n;
    *mhz = clocks * AT_ONCE / n;
    return took;
}

static void measure(struct bench *b, const struct op *op, int64_t n, double seconds)
{
    const double flop = op->flop_per_tok < 0 ? 4.0 * (double)n * (double)n * DIM : op->flop_per_tok * (double)n;
    double       ms, mhz, joules, took, watts;

    run_for(b, op, SETTLE_S, &ms, &mhz);
    joules = meter_joules(b);
    took = run_for(b, op, seconds, &ms, &mhz);
    watts = (meter_joules(b) - joules) / took;
    printf("%-18s %9.4f %8.0f %6.0f %8.3f %6.0f\n", op->name, ms, flop / ms / 1e9, watts, watts * ms / 1e3, mhz);
    fflush(stdout);
}

static bool wished(const struct op *op, char *const *names)
{
    if (!names) return true;
    for (; *names; names++)
        if (str_starts(str_of(op->name), *names)) return true;
    return false;
}

int main(int argc, char **argv)
{
    const char  *device = argc > 1 ? argv[1] : "cuda:0";
    int64_t      n = 4224, ms = 1000, n_rounds = 2;
    struct bench b = {0};
    struct err   e = {0};

    if (!str_starts(str_of(device), "cuda") || (argc > 2 && str_to_i64(str_of(argv[2]), &n)) || (argc > 3 && str_to_i64(str_of(argv[3]), &ms)) ||
        (argc > 4 && str_to_i64(str_of(argv[4]), &n_rounds)) || n < 1 || n > 16384 || ms < 1) {
        fprintf(stderr, "usage: bench_energy [cuda:N] [TOKENS 1..16384] [MS] [ROUNDS] [OP...]\n");
        return 2;
    }
    if (dev_open(&b.d, device, &(struct dev_opts){PRECISION_BF16, 0}, &e) || dev_scratch_reserve(b.d, (size_t)8 << 30, &e)) bench_die("bench_energy", &e);
    meter_open(&b);
    fill(&b, n);
    printf("%s, %lld tokens%s\n%-18s %9s %8s %6s %8s %6s\n", b.d->about, (long long)n, b.energy ? "" : "; this driver counts no energy", "", "ms", "TFLOP/s", "W", "J", "MHz");
    for (int64_t r = 0; r < n_rounds; r++)
        for (size_t i = 0; i < sizeof ops / sizeof *ops; i++)
            if (wished(&ops[i], argc > 5 ? argv + 5 : NULL)) measure(&b, &ops[i], n, (double)ms / 1e3);
    dev_close(b.d);
    return 0;
}
