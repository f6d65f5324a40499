/* bench_ops.c - what the CPU's ops reach, beside a plain multi-threaded dnnl_sgemm of the same run.
 *
 *   bench_ops [THREADS] [auto|f32|bf16] [PATTERN]      PATTERN: only rows whose name contains it
 *
 * Prints a Markdown table: best of several runs. Shapes are those of the real model at 512 and 1024 pixels, cut in the number of rows only. */
#include <dnnl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "kernels/cpu/half.h"
#include "kernels/dev.h"
#include "kernels/ops.h"
#include "kernels/quant.h"

extern void omp_set_num_threads(int n); /* libgomp's: for the plain product that we compare with */

struct bench {
    struct dev *d;
    const char *pattern;
    bool        one; /* thread */
    double      plain_gflops; /* dnnl_sgemm, all threads */
};

static uint64_t dice_state = 1;

static float dice(void)
{
    dice_state = dice_state * 6364136223846793005u + 1442695040888963407u;
    return (float)(int32_t)(dice_state >> 32) * 0x1p-31f;
}

static struct tensor filled(struct dev *d, enum dtype type, int rank, const int64_t *dim)
{
    struct tensor t = dev_new(d, type, rank, dim);
    float         line[1024];
    int64_t       n = tensor_count(&t);

    if (d->err.code) {
        fprintf(stderr, "%s\n", d->err.text);
        exit(1);
    }
    for (int64_t at = 0; at < n; at += 1024) {
        int64_t m = n - at < 1024 ? n - at : 1024;

        for (int64_t i = 0; i < m; i++) line[i] = dice();
        char *to = (char *)t.data + dtype_row_bytes(type, at);

        if (quant_is(type)) quant_from_f32(to, type, line, m);
        else from_f32(to, type, line, m);
    }
    return t;
}

static bool wanted(const struct bench *b, const char *name)
{
    return !b->pattern || strstr(name, b->pattern);
}

/* Seconds of all threads together. */
static double cpu_s(void)
{
    struct rusage u;

    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + 1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

/* fn(b, ctx) a few times; the least seconds of one. With one thread these are seconds of the CPU, which other work cannot stretch as much. */
static double best_s(struct bench *b, void (*fn)(struct bench *b, void *ctx), void *ctx)
{
    double  best = 1e30;
    int64_t begin = now_us();

    for (int i = 0; i < 20 && (i < 3 || now_us() - begin < 1500000); i++) {
        double t = b->one ? cpu_s() : (double)now_us() / 1e6, s;

        fn(b, ctx);
        s = (b->one ? cpu_s() : (double)now_us() / 1e6) - t;
        if (s < best) best = s;
    }
    return best;
}

struct product {
    struct tensor x, w, y;
};

static void run_linear(struct bench *b, void *ctx)
{
    struct product *p = ctx;

    op_linear(b->d, &p->y, &p->x, &p->w, NULL);
}

static void run_plain(struct bench *b, void *ctx)
{
    struct product *p = ctx;

    (void)b;
    dnnl_sgemm('N', 'T', p->x.dim[0], p->w.dim[0], p->x.dim[1], 1.0f, p->x.data, p->x.dim[1], p->w.data, p->x.dim[1], 0.0f, p->y.data,
               p->w.dim[0]);
}

static void row(const struct bench *b, const char *name, const char *shape, double s, double gflop, double gbytes)
{
    if (gflop > 0) {
        printf("| %s | %s | %.1f | %.1f GFLOP/s | %.2f |\n", name, shape, s * 1e3, gflop / s, gflop / s / b->plain_gflops);
    } else {
        printf("| %s | %s | %.2f | %.1f GB/s | |\n", name, shape, s * 1e3, gbytes / s);
    }
    fflush(stdout);
}

static void plain(struct bench *b)
{
    size_t         mark = dev_mark(b->d);
    struct product p = {filled(b->d, DTYPE_F32, 2, (int64_t[]){1056, 3840}), filled(b->d, DTYPE_F32, 2, (int64_t[]){3840, 3840}),
                        dev_new2(b->d, DTYPE_F32, 1056, 3840)};
    double         s = best_s(b, run_plain, &p), gflop = 2e-9 * 1056 * 3840 * 3840;

    b->plain_gflops = gflop / s;
    row(b, "dnnl_sgemm", "1056 x 3840 x 3840", s, gflop, 0);
    dev_reset(b->d, mark);
}

static void linear(struct bench *b, int64_t n, int64_t k, int64_t m, enum dtype type)
{
    char           name[32], shape[64];
    size_t         mark = dev_mark(b->d);
    struct product p;

    snprintf(name, sizeof name, "linear %s", dtype_name(type));
    snprintf(shape, sizeof shape, "%" PRId64 " x %" PRId64 " x %" PRId64, n, k, m);
    if (!wanted(b, name)) return;
    p.x = filled(b->d, DTYPE_F32, 2, (int64_t[]){n, k});
    p.w = filled(b->d, type, 2, (int64_t[]){m, k});
    p.y = dev_new2(b->d, DTYPE_F32, n, m);
    row(b, name, shape, best_s(b, run_linear, &p), 2e-9 * (double)n * (double)k * (double)m, 0);
    dev_reset(b->d, mark);
}

struct attention {
    struct tensor q, k, v, y;
    bool          causal;
};

static void run_attention(struct bench *b, void *ctx)
{
    struct attention *a = ctx;

    op_attention(b->d, &a->y, &a->q, &a->k, &a->v, 0.0884f, a->causal);
}

static void attention(struct bench *b, int64_t n, int64_t hq, int64_t hk, int64_t dh, bool causal)
{
    char             shape[64];
    size_t           mark = dev_mark(b->d);
    int64_t          q[3] = {n, hq, dh}, k[3] = {n, hk, dh};
    struct attention a = {.causal = causal};

    if (!wanted(b, "attention")) return;
    a.q = filled(b->d, DTYPE_F32, 3, q);
    a.k = filled(b->d, DTYPE_F32, 3, k);
    a.v = filled(b->d, DTYPE_F32, 3, k);
    a.y = dev_new(b->d, DTYPE_F32, 3, q);
    snprintf(shape, sizeof shape, "%" PRId64 " tokens, %" PRId64 "/%" PRId64 " heads of %" PRId64 "%s", n, hq, hk, dh, causal ? ", causal" : "");
    row(b, "attention", shape, best_s(b, run_attention, &a), 4e-9 * (double)n * (double)n * (double)(hq * dh) * (causal ? 0.5 : 1.0), 0);
    dev_reset(b->d, mark);
}

struct conv {
    struct tensor x, w, bias, y;
};

static void run_conv(struct bench *b, void *ctx)
{
    struct conv *c = ctx;

    op_conv2d(b->d, &c->y, &c->x, &c->w, &c->bias, NULL);
}

static void conv(struct bench *b, int64_t side, int64_t ci, int64_t co, int64_t k)
{
    char        shape[64];
    size_t      mark = dev_mark(b->d);
    struct err  e;
    struct conv c;

    if (!wanted(b, "conv2d")) return;
    c.x = filled(b->d, DTYPE_F32, 3, (int64_t[]){side, side, ci});
    if (dev_alloc(b->d, DTYPE_F32, 4, (int64_t[]){co, ci, k, k}, &c.w, &e)) exit(1);
    memset(c.w.data, 0, (size_t)tensor_count(&c.w) * sizeof(float));
    for (int64_t i = 0; i < tensor_count(&c.w); i++) ((float *)c.w.data)[i] = dice();
    c.bias = filled(b->d, DTYPE_F32, 1, &co);
    c.y = dev_new3(b->d, DTYPE_F32, side, side, co);
    snprintf(shape, sizeof shape, "%" PRId64 " px, %" PRId64 " to %" PRId64 ", %" PRId64 "x%" PRId64, side, ci, co, k, k);
    row(b, "conv2d", shape, best_s(b, run_conv, &c), 2e-9 * (double)(side * side) * (double)(ci * co * k * k), 0);
    dev_free(b->d, &c.w);
    dev_reset(b->d, mark);
}

struct rest {
    struct tensor x, h, vec, vec2, stats;
    int           which;
};

static const char *const rest_name[] = {"rms_norm", "layer_norm", "group_norm + silu", "swiglu", "add_norm", "scale_rows"};

static void run_rest(struct bench *b, void *ctx)
{
    struct rest *r = ctx;

    switch (r->which) {
    case 0: op_rms_norm(b->d, &r->x, &r->x, &r->vec, 1e-5f); break;
    case 1: op_layer_norm(b->d, &r->x, &r->x, 1e-5f); break;
    case 2:
        op_group_stats(b->d, &r->stats, &r->x, &r->vec, &r->vec2, 32, 1e-6f);
        op_group_apply(b->d, &r->x, &r->x, &r->stats, 0, ACT_SILU);
        break;
    case 3: op_swiglu(b->d, &r->x, &r->h); break;
    case 4:
        op_add_norm(b->d, &r->x, &r->h, &r->h, &(struct add_norm){&r->vec, &r->vec, &r->vec, &r->vec, 1e-5f});
        break;
    default: op_scale_rows(b->d, &r->x, &r->vec); break;
    }
}

static void rest(struct bench *b, int which)
{
    const bool    image = which == 2;
    const int64_t c = image ? 128 : which == 3 ? 10240 : 3840, n = image ? 512 : 1056;
    char          shape[64];
    size_t        mark = dev_mark(b->d);
    struct rest   r = {.which = which};
    double        bytes;

    if (!wanted(b, rest_name[which])) return;
    r.x = image ? filled(b->d, DTYPE_F32, 3, (int64_t[]){n, n, c}) : filled(b->d, DTYPE_F32, 2, (int64_t[]){n, c});
    r.h = filled(b->d, DTYPE_F32, 2, (int64_t[]){n, c});
    r.vec = filled(b->d, DTYPE_F32, 1, &c);
    r.vec2 = filled(b->d, DTYPE_F32, 1, &c);
    r.stats = dev_new2(b->d, DTYPE_F32, 3, c);
    bytes = 4e-9 * (double)tensor_count(&r.x) * (which == 4 ? 4 : which == 3 || image ? 3 : 2);
    row(b, rest_name[which], tensor_text(&r.x, shape, sizeof shape), best_s(b, run_rest, &r), 0, bytes);
    dev_reset(b->d, mark);
}

int main(int argc, char **argv)
{
    struct dev_opts o = {PRECISION_AUTO, argc > 1 ? (int)strtol(argv[1], NULL, 10) : 0};
    struct bench    b = {.pattern = argc > 3 ? argv[3] : NULL, .one = o.n_threads == 1};
    struct err      e = {0};

    if (argc > 2 && strcmp(argv[2], "auto") != 0) o.precision = strcmp(argv[2], "bf16") == 0 ? PRECISION_BF16 : PRECISION_F32;
    if (dev_open(&b.d, "cpu", &o, &e) || dev_scratch_reserve(b.d, (size_t)1 << 30, &e)) {
        fprintf(stderr, "%s\n", e.text);
        return 1;
    }
    if (o.n_threads > 0) omp_set_num_threads(o.n_threads);
    printf("%s, precision %s\n\n| op | shape | ms | rate | of dnnl_sgemm |\n|---|---|---|---|---|\n", b.d->about,
           argc > 2 ? argv[2] : "auto");
    plain(&b);
    linear(&b, 1056, 3840, 3840, DTYPE_F32);
    linear(&b, 1056, 3840, 3840, DTYPE_BF16);
    linear(&b, 288, 3840, 10240, DTYPE_BF16);
    linear(&b, 288, 3840, 10240, DTYPE_Q8_0);
    linear(&b, 288, 10240, 3840, DTYPE_Q8_0);
    linear(&b, 288, 3840, 10240, DTYPE_Q4_K);
    linear(&b, 64, 2560, 9728, DTYPE_Q8_0);
    linear(&b, 288, 10240, 3840, DTYPE_BF16);
    linear(&b, 1, 256, 15360, DTYPE_BF16);
    linear(&b, 64, 2560, 9728, DTYPE_BF16);
    attention(&b, 1056, 30, 30, 128, false);
    attention(&b, 256, 32, 8, 128, true);
    attention(&b, 4096, 1, 1, 512, false);
    conv(&b, 64, 16, 512, 3);
    conv(&b, 64, 512, 512, 3);
    conv(&b, 128, 512, 512, 3);
    conv(&b, 256, 256, 256, 3);
    conv(&b, 512, 128, 128, 3);
    conv(&b, 256, 512, 256, 1);
    conv(&b, 512, 128, 3, 3);
    for (int i = 0; i < 6; i++) rest(&b, i);
    if (dev_sync(b.d, &e)) fprintf(stderr, "%s\n", e.text);
    dev_close(b.d);
    return e.code ? 1 : 0;
}
