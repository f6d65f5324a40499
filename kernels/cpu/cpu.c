/* cpu.c - the CPU as a device: its table, memory, and what it says about itself.
 * Believes: weights given to cpu_weight() outlive the device (memory-mapped files).
 * Not here: arithmetic (the op files), threads (pool.c). */
#include "kernels/cpu/cpu.h"

#include <assert.h>
#include <dnnl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "kernels/cpu/half.h"
#include "kernels/cpu/mm.h"
#include "kernels/cpu/tile16.h"

static void *take(struct dev *d, size_t bytes)
{
    (void)d;
    if (bytes > PTRDIFF_MAX - 64) return NULL;
    return aligned_alloc(64, (bytes + 63) / 64 * 64);
}

static void give(struct dev *d, void *at, size_t bytes)
{
    cpu_conv_forget(cpu_of(d), at, bytes);
    free(at);
}

static int put(struct dev *d, void *to, const void *host, size_t bytes, struct err *e)
{
    (void)e;
    cpu_conv_forget(cpu_of(d), to, bytes); /* other bytes at this address from now on */
    memcpy(to, host, bytes);
    return 0;
}

static int get(struct dev *d, const void *at, void *host, size_t bytes, struct err *e)
{
    (void)d;
    (void)e;
    memcpy(host, at, bytes);
    return 0;
}

/* Borrowed as it is. A file may place a tensor at an odd address: then, and only then, it is copied. */
static int weight(struct dev *d, const struct tensor *host, int n, struct tensor *out, struct err *e)
{
    struct cpu *c = cpu_of(d);
    size_t      bytes = dtype_row_bytes(host->type, tensor_count(host)), align = dtype_block(host->type) > 1 ? 1 : dtype_bytes(host->type);

    assert(n == 1); /* borrowed from where they lie */
    *out = *host;
    out->dev = d;
    if ((uintptr_t)host->data % align == 0) return 0;
    if (c->kept.n == c->kept.cap) {
        int    cap = c->kept.cap ? 2 * c->kept.cap : 16;
        void **at = realloc(c->kept.at, (size_t)cap * sizeof *at);

        if (!at) return err_set(e, ERR_NOMEM, "cpu: no memory for weights");
        c->kept.at = at;
        c->kept.cap = cap;
    }
    out->data = take(d, bytes);
    if (!out->data) return err_set(e, ERR_NOMEM, "cpu: no memory for a weight of %zu bytes", bytes);
    memcpy(out->data, host->data, bytes);
    c->kept.at[c->kept.n++] = out->data;
    return 0;
}

static int weight_room(struct dev *d, size_t bytes, struct err *e)
{
    (void)d, (void)bytes, (void)e; /* weights are borrowed */
    return 0;
}

/* Of lodgers, which a CPU does not have, its own memory is as good as any. */
static void *pin(struct dev *d, size_t bytes)
{
    (void)d;
    return malloc(bytes);
}

static void unpin(struct dev *d, void *at)
{
    (void)d;
    free(at);
}

static void trim(struct dev *d)
{
    (void)d; /* threads' scratch is small, and convolutions' weights would be made again at once */
}

static int wait_all(struct dev *d, struct err *e)
{
    (void)d;
    (void)e;
    return 0; /* ops are done when they return */
}

static void stamp(struct dev *d, int slot)
{
    cpu_of(d)->stamp_us[slot] = now_us(); /* ops are done when they return */
}

static double stamp_ms(struct dev *d, int from, int to)
{
    const int64_t *us = cpu_of(d)->stamp_us;
    return us[from] && us[to] ? (double)(us[to] - us[from]) / 1e3 : -1;
}

static void memory(struct dev *d, struct dev_memory *out)
{
    long  pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE), all = 0, resident = 0, shared = 0;
    FILE *f = fopen("/proc/self/statm", "re");

    (void)d;
    if (f && fscanf(f, "%ld %ld %ld", &all, &resident, &shared) != 3) resident = shared = 0;
    if (f) fclose(f);
    out->used_bytes = (size_t)(resident - shared) * (size_t)page;
    out->total_bytes = pages > 0 ? (size_t)pages * (size_t)page : 0;
}

/* Calls cost nothing here: there is no record to make. */
static void repeat(struct dev *d, const void *key, size_t key_bytes, dev_work_f *work, void *ctx)
{
    (void)d, (void)key, (void)key_bytes;
    work(ctx);
}

static void forget(struct dev *d)
{
    (void)d;
}

static void end(struct dev *d)
{
    struct cpu *c = cpu_of(d);

    if (!c) return;
    cpu_conv_forget(c, NULL, 0);
    mm_forget_all(c);
    for (int i = 0; i < c->kept.n; i++) free(c->kept.at[i]);
    for (int i = 0; i < 3; i++) free(c->vec[i].at);
    free(c->kept.at);
    free(c->room.at);
    if (c->engine) dnnl_engine_destroy(c->engine);
    pool_free(c->pool);
    free(c);
    d->priv = NULL;
}

static const struct ops table = {
    .name = "cpu",
    .take = take,
    .give = give,
    .put = put,
    .get = get,
    .weight = weight,
    .weight_room = weight_room,
    .pin = pin,
    .unpin = unpin,
    .trim = trim,
    .wait = wait_all,
    .stamp = stamp,
    .stamp_ms = stamp_ms,
    .memory = memory,
    .repeat = repeat,
    .forget = forget,
    .end = end,
    .linear = cpu_linear,
    .embed_rows = cpu_embed_rows,
    .rms_norm = cpu_rms_norm,
    .layer_norm = cpu_layer_norm,
    .group_stats = cpu_group_stats,
    .group_apply = cpu_group_apply,
    .norm_rope = cpu_norm_rope,
    .add_norm = cpu_add_norm,
    .attention = cpu_attention,
    .silu = cpu_silu,
    .tanh = cpu_tanh,
    .linear_swiglu = cpu_linear_swiglu,
    .swiglu = cpu_swiglu,
    .scale_rows = cpu_scale_rows,
    .add = cpu_add,
    .axpy = cpu_axpy,
    .time_embed = cpu_time_embed,
    .noise = cpu_noise,
    .conv2d = cpu_conv2d,
    .conv_up2x = cpu_conv_up2x,
    .patchify = cpu_patchify,
    .unpatchify = cpu_unpatchify,
    .to_nhwc = cpu_to_nhwc,
    .copy = cpu_copy,
    .fill_rows = cpu_fill_rows,
    .to_rgb8 = cpu_to_rgb8,
    .sum_squares = cpu_sum_squares,
    .all_finite = cpu_all_finite,
};

static const char *isa_name(dnnl_cpu_isa_t isa)
{
    switch (isa) {
    case dnnl_cpu_isa_avx512_core_amx: return "amx";
    case dnnl_cpu_isa_avx512_core_bf16: return "avx512 bf16";
    case dnnl_cpu_isa_avx512_core_vnni:
    case dnnl_cpu_isa_avx512_core:
    case dnnl_cpu_isa_avx512_mic_4ops:
    case dnnl_cpu_isa_avx512_mic: return "avx512";
    case dnnl_cpu_isa_avx2_vnni:
    case dnnl_cpu_isa_avx2: return "avx2";
    case dnnl_cpu_isa_avx: return "avx";
    default: return "sse4.1";
    }
}

/* "model name : AMD EPYC 7763 ..." of the kernel, or "CPU". */
static void cpu_model(char *name, size_t cap)
{
    FILE *f = fopen("/proc/cpuinfo", "re");
    char  line[256];

    snprintf(name, cap, "CPU");
    while (f && fgets(line, sizeof line, f)) {
        char *colon = strchr(line, ':');

        if (strncmp(line, "model name", 10) != 0 || !colon) continue;
        line[strcspn(line, "\n")] = '\0';
        snprintf(name, cap, "%.70s", colon + 1 + strspn(colon + 1, " "));
        break;
    }
    if (f) fclose(f);
}

int cpu_open(struct dev *d, const struct dev_opts *o, struct err *e)
{
    struct cpu    *c = calloc(1, sizeof *c);
    dnnl_cpu_isa_t isa = dnnl_get_effective_cpu_isa();
    char           model[80];
    int            rc = 0;

    if (!c) return err_set(e, ERR_NOMEM, "cpu: no memory for the device");
    d->priv = c;
    d->ops = &table;
    d->act_type = DTYPE_F32;
    d->group_tok = 1;
    c->native_bf16 = isa == dnnl_cpu_isa_avx512_core_bf16 || isa == dnnl_cpu_isa_avx512_core_amx;
    c->fast = o->precision == PRECISION_AUTO && isa != dnnl_cpu_isa_avx512_core_amx; /* AVX-512 BF16 is no faster than integers, and coarser */
    d->precision = o->precision != PRECISION_AUTO ? o->precision : c->fast ? PRECISION_F32 : PRECISION_BF16;
    if (c->fast) c->tile16 = int16_best((isa & dnnl_cpu_isa_avx512_core_vnni) == dnnl_cpu_isa_avx512_core_vnni);
    else if (d->precision == PRECISION_BF16 && isa == dnnl_cpu_isa_avx512_core_amx) c->tile16 = amx_tiles();
    if (dnnl_engine_create(&c->engine, dnnl_cpu, 0) != dnnl_success) {
        rc = err_set(e, ERR_DEVICE, "cpu: oneDNN does not start");
    } else if (!(c->pool = pool_open(o->n_threads))) {
        rc = err_set(e, ERR_NOMEM, "cpu: the system refused %d threads: use fewer", o->n_threads);
    }
    if (rc) {
        end(d);
        return rc;
    }
    cpu_model(model, sizeof model);
    snprintf(d->about, sizeof d->about, "%s, %d thread%s, %s%s", model, pool_threads(c->pool), pool_threads(c->pool) == 1 ? "" : "s", isa_name(isa), c->fast && c->tile16 ? ", 16-bit products" : "");
    return 0;
}

const float *cpu_vec(struct dev *d, const struct tensor *t, int slot)
{
    struct cpu *c = cpu_of(d);
    int64_t     n = tensor_count(t);

    assert(slot >= 0 && slot < 3);
    if (t->type == DTYPE_F32) return t->data;
    if (n > c->vec[slot].cap) {
        free(c->vec[slot].at);
        c->vec[slot].cap = n;
        c->vec[slot].at = take(d, (size_t)n * sizeof(float));
        if (!c->vec[slot].at) {
            c->vec[slot].cap = 0;
            dev_fail(d, ERR_NOMEM, "cpu: no memory for a vector of %lld elements", (long long)n);
            return NULL;
        }
    }
    to_f32(c->vec[slot].at, t->data, t->type, n);
    for (int64_t i = 0; t->scale != 0.0f && i < n; i++) c->vec[slot].at[i] *= t->scale;
    return c->vec[slot].at;
}

void *cpu_room(struct cpu *c, size_t bytes)
{
    if (bytes <= c->room.cap) return c->room.at;
    free(c->room.at);
    c->room.at = take(NULL, bytes);
    c->room.cap = c->room.at ? bytes : 0;
    return c->room.at;
}

int64_t cpu_rows_per_chunk(int64_t n, int64_t cost)
{
    int64_t rows = 16384 / (cost > 0 ? cost : 1);

    if (rows > n) rows = n;
    return rows > 0 ? rows : 1;
}
