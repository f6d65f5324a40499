/* bench_vae.c - milliseconds of a decode, and where they go, on a random latent. Measures, never fails a test.
 * usage: bench_vae VAE_DIR [WIDTHxHEIGHT] [TIMES] [DEVICE] [auto|f32|bf16] [STRIP_MIB] [ops]      STRIP_MIB 0: as usual
 * With "ops" the device waits around every op, and a table of ops and shapes follows the times of whole decodes.
 * A full-size decoder without a checkpoint: zfarm-model synth with {"vae": {"block_out_channels": [128, 256, 512, 512], "norm_num_groups": 32}}. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "engine/config.h"
#include "engine/vae.h"
#include "engine/weights.h"
#include "kernels/ops.h"
#include "tests/bench/bench.h"

#define ROWS 64

static struct row {
    char    name[80];
    int     n;
    int64_t us;
} row[ROWS];

static const struct ops *real;
static struct ops        timed;

static int64_t begin(struct dev *d)
{
    real->wait(d, NULL);
    return now_us();
}

static void end(struct dev *d, int64_t at_us, const char *op, const struct tensor *x, int64_t c_out)
{
    char        name[80];
    struct row *r = row;

    real->wait(d, NULL);
    at_us = now_us() - at_us;
    snprintf(name, sizeof name, "%s %dx%d %d-%d", op, (int)x->dim[0], x->rank > 2 ? (int)x->dim[1] : 1, (int)x->dim[x->rank - 1], (int)c_out);
    while (r < row + ROWS - 1 && r->n && strcmp(r->name, name) != 0) r++;
    memcpy(r->name, name, sizeof name);
    r->n++;
    r->us += at_us;
}

static void t_conv2d(struct dev *d, struct tensor *y, const struct tensor *x, const struct tensor *w, const struct tensor *b, const struct tensor *a)
{
    int64_t at = begin(d);
    real->conv2d(d, y, x, w, b, a);
    end(d, at, w->dim[2] == 1 ? "conv1x1" : a ? "conv3x3+add" : "conv3x3", x, y->dim[2]);
}

static void t_group_stats(struct dev *d, struct tensor *y, const struct tensor *x, const struct tensor *w, const struct tensor *b, int n, float eps)
{
    int64_t at = begin(d);
    real->group_stats(d, y, x, w, b, n, eps);
    end(d, at, "group_stats", x, x->dim[2]);
}

static void t_group_apply(struct dev *d, struct tensor *y, const struct tensor *x, const struct tensor *stats, int64_t first, enum act act)
{
    int64_t at = begin(d);
    real->group_apply(d, y, x, stats, first, act);
    end(d, at, "group_apply", y, x->dim[2]);
}

static void t_conv_up2x(struct dev *d, struct tensor *y, const struct tensor *x, const struct tensor *w, const struct tensor *b)
{
    int64_t at = begin(d);
    real->conv_up2x(d, y, x, w, b);
    end(d, at, "conv_up2x", x, y->dim[2]);
}

static void t_attention(struct dev *d, struct tensor *y, const struct tensor *q, const struct tensor *k, const struct tensor *v, float scale, bool causal)
{
    int64_t at = begin(d);
    real->attention(d, y, q, k, v, scale, causal);
    end(d, at, "attention", q, q->dim[2]);
}

static void t_linear(struct dev *d, struct tensor *y, const struct tensor *x, const struct tensor *w, const struct tensor *b)
{
    int64_t at = begin(d);
    real->linear(d, y, x, w, b);
    end(d, at, "linear", x, y->dim[1]);
}

static void t_to_rgb8(struct dev *d, struct tensor *y, const struct tensor *x)
{
    int64_t at = begin(d);
    real->to_rgb8(d, y, x);
    end(d, at, "to_rgb8", x, 3);
}

static bool t_all_finite(struct dev *d, const struct tensor *x)
{
    int64_t at = begin(d);
    bool    ok = real->all_finite(d, x);
    end(d, at, "all_finite", x, 1);
    return ok;
}

static void time_ops(struct dev *d)
{
    real = d->ops;
    timed = *real;
    timed.conv2d = t_conv2d;
    timed.group_stats = t_group_stats;
    timed.group_apply = t_group_apply;
    timed.conv_up2x = t_conv_up2x;
    timed.attention = t_attention;
    timed.linear = t_linear;
    timed.to_rgb8 = t_to_rgb8;
    timed.all_finite = t_all_finite;
    d->ops = &timed;
}

static int by_us(const void *a, const void *b)
{
    int64_t x = ((const struct row *)a)->us, y = ((const struct row *)b)->us;
    return x < y ? 1 : x > y ? -1 : 0;
}

static void print_ops(int times)
{
    int64_t all = 0;
    qsort(row, ROWS, sizeof *row, by_us);
    for (int i = 0; i < ROWS && row[i].n; i++) {
        printf("%-36s %4d calls %9.3f ms\n", row[i].name, row[i].n / times, (double)row[i].us / 1e3 / times);
        all += row[i].us;
    }
    printf("%-36s            %9.3f ms, waits included\n", "sum", (double)all / 1e3 / times);
}

static int fail(const struct err *e)
{
    fprintf(stderr, "bench_vae: %s\n", e->text);
    return 1;
}

static int decode(struct vae *v, struct dev *d, const float *values, int channels, int w, int h, int times, struct err *e)
{
    const int     s = w / 8, r = h / 8;
    double       *ms = calloc((size_t)times, sizeof *ms);
    struct tensor z, rgb;
    size_t        bytes;

    d->measuring = true;
    z = dev_new3(d, DTYPE_F32, channels, r, s), rgb = dev_new3(d, DTYPE_U8, h, w, 3);
    vae_decode(v, &z, &rgb);
    d->measuring = false;
    bytes = d->scratch.high;
    dev_reset(d, 0);
    if (!ms || dev_scratch_reserve(d, bytes, e)) return -1;
    z = dev_new3(d, DTYPE_F32, channels, r, s), rgb = dev_new3(d, DTYPE_U8, h, w, 3);
    if (dev_put(d, &z, values, (size_t)(channels * r * s) * sizeof *values, e)) return -1;
    for (int i = -2; i < times; i++) {
        int64_t at = now_us();
        vae_decode(v, &z, &rgb);
        if (dev_sync(d, e)) return -1;
        if (i >= 0) ms[i] = (double)(now_us() - at) / 1e3;
        if (i < 0) memset(row, 0, sizeof row);
    }
    qsort(ms, (size_t)times, sizeof *ms, bench_by_ms);
    printf("decode %dx%d: median %.2f min %.2f max %.2f ms of %d, work space %zu MiB\n", w, h, ms[times / 2], ms[0], ms[times - 1], times, bytes >> 20);
    dev_reset(d, 0);
    free(ms);
    return 0;
}

int main(int argc, char **argv)
{
    struct dev_opts  o = {PRECISION_AUTO, 0};
    struct vae_conf  conf = {.n_levels = 0};
    struct weights  *w = NULL;
    struct dev      *d = NULL;
    struct vae      *v = NULL;
    struct err       e = {0};
    struct buf       b;
    char             path[600];
    int              px_w = 1024, px_h = 1024, times = argc > 3 ? (int)strtol(argv[3], NULL, 10) : 5;

    if (argc < 2 || (argc > 2 && sscanf(argv[2], "%dx%d", &px_w, &px_h) != 2) || times < 1 || px_w < 8 || px_h < 8 || px_w > 8192 || px_h > 8192) {
        fprintf(stderr, "usage: bench_vae VAE_DIR [WIDTHxHEIGHT] [TIMES] [DEVICE] [auto|f32|bf16] [STRIP_MIB] [ops]\n");
        return 2;
    }
    if (argc > 5) o.precision = strcmp(argv[5], "f32") == 0 ? PRECISION_F32 : strcmp(argv[5], "bf16") == 0 ? PRECISION_BF16 : PRECISION_AUTO;
    buf_init(&b, CONFIG_BYTES_MAX);
    snprintf(path, sizeof path, "%.500s/config.json", argv[1]);
    if (file_read(path, &b, &e) || config_vae(&conf, buf_str(&b), path, &e) || weights_open(&w, argv[1], NULL, &e) ||
        dev_open(&d, argc > 4 ? argv[4] : "auto", &o, &e) || vae_open(&v, &conf, w, d, &e)) return fail(&e);
    printf("%s\n", d->about);
    const long strip_mib = argc > 6 ? strtol(argv[6], NULL, 10) : 0;
    if (strip_mib > 0) vae_strips(v, (size_t)strip_mib << 20);
    size_t n = (size_t)conf.latent_channels * (size_t)(px_w / 8) * (size_t)(px_h / 8);
    float *values = malloc(n * sizeof *values);
    if (!values) return 1;
    uint64_t dice = 1;
    for (size_t i = 0; i < n; i++) {
        dice = dice * 6364136223846793005u + 1442695040888963407u;
        values[i] = (float)(int32_t)(dice >> 32) * 0x1p-30f;
    }
    if (decode(v, d, values, conf.latent_channels, px_w, px_h, times, &e)) return fail(&e);
    if (argc > 7) {
        time_ops(d);
        if (decode(v, d, values, conf.latent_channels, px_w, px_h, times, &e)) return fail(&e);
        print_ops(times);
        d->ops = real;
    }
    free(values);
    buf_release(&b);
    vae_free(v);
    dev_close(d);
    weights_free(w);
    return 0;
}
