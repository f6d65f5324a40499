/* pack.c - see pack.h. A tensor is cut into chunks; a batch of chunks, one per thread, is converted, then written in order.
 * W1 the file is written under a temporary name in the same folder, synced, then renamed: a reader sees the old file or the whole new one.
 * W2 whatever fails, the temporary is removed. */
#include "tools/pack.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/str.h"
#include "kernels/cpu/half.h"
#include "kernels/quant.h"
#include "tools/tools.h"

#define CHUNK_VALUES (1 << 20) /* whole blocks of every kind */
#define THREADS_MAX  64
#define HEADER_MAX   (16u << 20)
#define F8_LARGEST   448.0f
#define PROGRESS_MS  250

struct chunk { /* one thread's work */
    const struct pack        *p;
    const struct pack_tensor *t;
    int64_t                   from, n;
    float                     scale; /* values are divided by it; 0: only far is wanted */
    float                     far;   /* largest magnitude */
    bool                      finite;
    float                    *wide;
    uint8_t                  *bytes;
    pthread_t                 thread;
};

struct out {
    int          fd;
    uint64_t     at, all;
    int64_t      shown_ms, began_ms;
    const char  *path;
    struct chunk chunk[THREADS_MAX];
    int          n_chunks;
};

int64_t pack_count(const struct pack_tensor *t)
{
    int64_t n = 1;
    for (int i = 0; i < t->rank; i++) n *= t->dim[i];
    return n;
}

int64_t pack_bytes(const struct pack *p)
{
    int64_t sum = 0;
    for (size_t i = 0; i < p->n; i++) sum += (int64_t)dtype_row_bytes(p->t[i].type, pack_count(&p->t[i]));
    return sum;
}

/* ---- a chunk ---- */

/* The chunk's values, from as many sources as it touches. */
static void gather(struct chunk *c)
{
    int64_t per_source = pack_count(c->t) / c->t->n_from;

    for (int64_t done = 0; done < c->n;) {
        int64_t at = c->from + done, inside = at % per_source, n = per_source - inside;
        n = n < c->n - done ? n : c->n - done;
        c->p->read(c->p->ctx, c->t->from[at / per_source], inside, n, c->wide + done);
        done += n;
    }
}

static void *convert(void *ctx)
{
    struct chunk *c = ctx;

    gather(c);
    c->finite = true;
    c->far = 0;
    for (int64_t i = 0; i < c->n; i++) {
        float a = fabsf(c->wide[i]);
        c->finite &= a <= 3.4028235e38f; /* false for NaN, too */
        c->far = a > c->far ? a : c->far;
    }
    if (c->scale == 0.0f || !c->finite) return NULL;
    for (int64_t i = 0; c->scale != 1.0f && i < c->n; i++) c->wide[i] /= c->scale;
    if (quant_is(c->t->type))
        quant_from_f32(c->bytes, c->t->type, c->wide, c->n);
    else
        from_f32(c->bytes, c->t->type, c->wide, c->n);
    return NULL;
}

/* Converts the batch; a thread that cannot be had is done here. */
static void run_batch(struct out *o, int n)
{
    bool started[THREADS_MAX] = {false};
    for (int i = 1; i < n; i++) started[i] = pthread_create(&o->chunk[i].thread, NULL, convert, &o->chunk[i]) == 0;
    for (int i = 0; i < n; i++)
        if (!started[i]) convert(&o->chunk[i]);
    for (int i = 1; i < n; i++)
        if (started[i]) pthread_join(o->chunk[i].thread, NULL);
}

/* ---- the file ---- */

static int put(struct out *o, const void *bytes, size_t len, struct err *e)
{
    const char *at = bytes;
    o->at += len;
    while (len) {
        ssize_t n = write(o->fd, at, len);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return err_errno(e, ERR_IO, "%s: cannot be written", o->path);
        at += n;
        len -= (size_t)n;
    }
    return 0;
}

static void show(struct out *o, const struct pack *p, const char *name, bool last)
{
    int64_t now = now_ms();
    char    done[32], all[32];

    if (p->quiet || (!last && (!isatty(2) || now - o->shown_ms < PROGRESS_MS))) return;
    o->shown_ms = now;
    fprintf(stderr, "%s%s of %s  %3.0f %%  %.0f s  %s%s", isatty(2) ? "\r\033[K" : "", tool_bytes_text((int64_t)o->at, done, sizeof done),
            tool_bytes_text((int64_t)o->all, all, sizeof all), 100.0 * (double)o->at / (double)(o->all ? o->all : 1),
            (double)(now - o->began_ms) / 1e3, name, last ? "\n" : "");
}

/* One pass over a tensor: with scale 0 only *far, else its bytes into the file. */
static int pass(struct out *o, const struct pack *p, const struct pack_tensor *t, float scale, float *far, struct err *e)
{
    int64_t count = pack_count(t);
    int     rc = 0;

    *far = 0;
    for (int64_t from = 0; from < count && !rc;) {
        int n = 0;
        for (; n < o->n_chunks && from < count; n++) {
            struct chunk *c = &o->chunk[n];
            c->p = p;
            c->t = t;
            c->from = from;
            c->n = count - from < CHUNK_VALUES ? count - from : CHUNK_VALUES;
            c->scale = scale;
            from += c->n;
        }
        run_batch(o, n);
        for (int i = 0; i < n && !rc; i++) {
            struct chunk *c = &o->chunk[i];
            *far = c->far > *far ? c->far : *far;
            if (!c->finite)
                rc = err_set(e, ERR_FORMAT, "tensor %s holds a value that is not finite: nothing is written", t->name);
            else if (scale != 0.0f)
                rc = put(o, c->bytes, dtype_row_bytes(t->type, c->n), e);
        }
        show(o, p, t->name, false);
        if (!rc && p->stop && *p->stop) rc = err_set(e, ERR_CANCELED, "stopped: nothing is left behind");
    }
    return rc;
}

static int put_tensors_gguf(struct out *o, const struct pack *p, struct err *e)
{
    static const char zeros[GGUF_ALIGN];
    struct buf        head;
    uint64_t          begin;
    float             far;
    int               rc = 0;

    buf_init(&head, GGUF_HEAD_MAX);
    for (size_t i = 0; i < p->n && !rc; i++)
        rc = gguf_put_tensor(p->head, p->t[i].name, p->t[i].type, p->t[i].rank, p->t[i].dim, &begin, e);
    if (rc || (rc = gguf_head_bytes(p->head, &head, e)) || (rc = put(o, head.at, head.len, e))) goto done;
    for (size_t i = 0; i < p->n; i++) {
        size_t bytes = dtype_row_bytes(p->t[i].type, pack_count(&p->t[i]));
        if ((rc = pass(o, p, &p->t[i], 1.0f, &far, e)) || (rc = put(o, zeros, (GGUF_ALIGN - bytes % GGUF_ALIGN) % GGUF_ALIGN, e)))
            goto done;
    }
done:
    buf_release(&head);
    return rc;
}

/* "a.weight" -> "a.scale_weight" */
static void scale_name(const char *name, char out[PACK_NAME_MAX + 8])
{
    const char *end = strstr(name, ".weight");
    snprintf(out, PACK_NAME_MAX + 8, "%.*s.scale_weight", end ? (int)(end - name) : (int)strlen(name), name);
}

static int put_header(const struct pack *p, struct buf *b, struct err *e)
{
    static const char *const word[DTYPE_COUNT] = {
        [DTYPE_F32] = "F32", [DTYPE_BF16] = "BF16", [DTYPE_F16] = "F16", [DTYPE_F8_E4M3] = "F8_E4M3", [DTYPE_F8_E5M2] = "F8_E5M2"};
    char     name[PACK_NAME_MAX + 8];
    uint64_t at = 0;

    buf_printf(b, "........{\"__metadata__\":{\"format\":\"pt\"");
    if (p->profile) buf_printf(b, ",\"zfarm.profile\":\"%s\"", p->profile);
    buf_puts(b, "}");
    for (size_t i = 0; i < p->n; i++) {
        const struct pack_tensor *t = &p->t[i];
        size_t                    bytes = dtype_row_bytes(t->type, pack_count(t));
        if (!word[t->type])
            return err_set(e, ERR_ARG, ".safetensors has no type %s (tensor %s): write a .gguf", dtype_name(t->type), t->name);
        if (strpbrk(t->name, "\"\\")) return err_set(e, ERR_FORMAT, "the name of tensor %s cannot be written", t->name);
        buf_printf(b, ",\"%s\":{\"dtype\":\"%s\",\"shape\":[", t->name, word[t->type]);
        for (int k = 0; k < t->rank; k++) buf_printf(b, "%s%" PRId64, k ? "," : "", t->dim[k]);
        buf_printf(b, "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", at, at + bytes);
        at += bytes;
    }
    for (size_t i = 0; i < p->n; i++)
        if (p->t[i].type == DTYPE_F8_E4M3) {
            scale_name(p->t[i].name, name);
            buf_printf(b, ",\"%s\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", name, at, at + 4);
            at += 4;
        }
    buf_puts(b, "}");
    while (b->len % 8 && buf_putc(b, ' ') == 0)
        ;
    if (b->len % 8 || b->len < 8 || b->at[b->len - 1] == ',') return err_set(e, ERR_LIMIT, "the header of %zu tensors does not fit", p->n);
    for (int k = 0; k < 8; k++) b->at[k] = (char)((uint64_t)(b->len - 8) >> 8 * k);
    return 0;
}

static int put_tensors_safetensors(struct out *o, const struct pack *p, struct err *e)
{
    struct buf head;
    float     *scale = calloc(p->n + 1, sizeof *scale), far;
    size_t     n_scales = 0;
    int        rc;

    buf_init(&head, HEADER_MAX);
    rc = scale ? put_header(p, &head, e) : err_set(e, ERR_NOMEM, "no memory for %zu scales", p->n);
    if (rc || (rc = put(o, head.at, head.len, e))) goto done;
    for (size_t i = 0; i < p->n; i++) {
        float s = 1;
        if (p->t[i].type == DTYPE_F8_E4M3) {
            if ((rc = pass(o, p, &p->t[i], 0, &far, e))) goto done;
            s = far > 0 ? far / F8_LARGEST : 1;
            scale[n_scales++] = s;
        }
        if ((rc = pass(o, p, &p->t[i], s, &far, e))) goto done;
    }
    rc = put(o, scale, n_scales * sizeof *scale, e);
done:
    buf_release(&head);
    free(scale);
    return rc;
}

static int make_room(struct out *o, int n_threads, struct err *e)
{
    o->n_chunks = n_threads < 1 ? 1 : n_threads > THREADS_MAX ? THREADS_MAX : n_threads;
    for (int i = 0; i < o->n_chunks; i++) {
        o->chunk[i].wide = malloc(CHUNK_VALUES * sizeof(float));
        o->chunk[i].bytes = malloc(CHUNK_VALUES * sizeof(float));
        if (!o->chunk[i].wide || !o->chunk[i].bytes) return err_set(e, ERR_NOMEM, "no memory for %d threads", o->n_chunks);
    }
    return 0;
}

int pack_write(struct pack *p, const char *path, struct err *e)
{
    struct out o = {.fd = -1, .path = path, .began_ms = now_ms()};
    char       temp[1100];
    bool       made = false;
    int        rc;

    o.all = (uint64_t)pack_bytes(p);
    if ((size_t)snprintf(temp, sizeof temp, "%s.%ld.tmp", path, (long)getpid()) >= sizeof temp)
        return err_set(e, ERR_LIMIT, "%.60s...: the path is too long", path);
    if ((rc = make_room(&o, p->n_threads, e))) goto done;
    o.fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (o.fd < 0) {
        rc = err_errno(e, ERR_IO, "%s: cannot be created", path);
        goto done;
    }
    made = true;
    if ((rc = p->head ? put_tensors_gguf(&o, p, e) : put_tensors_safetensors(&o, p, e))) goto done;
    if (fsync(o.fd) || rename(temp, path)) {
        rc = err_errno(e, ERR_IO, "%s: cannot be finished", path);
        goto done;
    }
    made = false;
    show(&o, p, path, true);
done:
    if (o.fd >= 0) close(o.fd);
    if (made) unlink(temp);
    for (int i = 0; i < o.n_chunks; i++) {
        free(o.chunk[i].wide);
        free(o.chunk[i].bytes);
    }
    return rc;
}
