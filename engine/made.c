/* made.c - see made.h. A pattern is an anonymous file of whole pages and whole blocks; a tensor is that file mapped end to end.
 * Invariants: a pattern is a multiple of both the page and its type's block, and so is the place in it where a tensor begins.
 * Not here: who asks for which tensor (weights.c and the networks). */
#include "engine/made.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kernels/quant.h"

#define PATTERN_BYTES ((size_t)8 << 20) /* about */
#define QUANT_VALUES  ((size_t)1 << 20) /* of a pattern of blocks, at least: making them is slow */

struct pattern {
    enum dtype      type;
    float           mean, scale;
    int             fd;
    size_t          bytes, unit; /* unit: the smallest whole number of pages and blocks */
    struct pattern *next;
};

struct region { /* one tensor */
    uint64_t name; /* its hash */
    void    *at;
    size_t   bytes;
};

struct made {
    enum dtype      kind;
    int64_t         n_values;
    struct pattern *patterns;
    struct region  *region;
    size_t          n_regions, cap;
};

/* ---- values ---- */

static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

/* The sum of four 16-bit uniforms: near normal, mean 0, deviation 1. */
static float normal_at(uint64_t index)
{
    uint64_t h = mix(index * 0x9e3779b97f4a7c15u + 1);
    int32_t  sum = (int32_t)((h & 0xffff) + (h >> 16 & 0xffff) + (h >> 32 & 0xffff) + (h >> 48));

    return (float)(sum - 131070) * (1.0f / 37837.2f);
}

static uint16_t bf16_of(float v)
{
    uint32_t u;

    memcpy(&u, &v, sizeof u);
    return (uint16_t)((u + 0x7fffu + (u >> 16 & 1)) >> 16); /* finite by construction */
}

static int fill(const struct pattern *p, void *to, struct err *e)
{
    size_t  step = 4096, n = p->bytes / dtype_block_bytes(p->type) * (size_t)dtype_block(p->type);
    float  *row = malloc(step * sizeof *row);
    char   *at = to;

    if (!row) return err_set(e, ERR_NOMEM, "no memory for made-up weights");
    assert(n % step == 0); /* pages of blocks */
    for (size_t i = 0; i < n; i += step) {
        for (size_t k = 0; k < step; k++) row[k] = p->mean + p->scale * normal_at(i + k);
        if (p->type == DTYPE_F32) {
            memcpy(at, row, step * sizeof *row);
        } else if (p->type == DTYPE_BF16) {
            for (size_t k = 0; k < step; k++) ((uint16_t *)(void *)at)[k] = bf16_of(row[k]);
        } else {
            quant_from_f32(at, p->type, row, (int64_t)step);
        }
        at += dtype_row_bytes(p->type, (int64_t)step);
    }
    free(row);
    return 0;
}

/* ---- patterns ---- */

static size_t lcm(size_t a, size_t b)
{
    size_t x = a, y = b;

    while (y) {
        size_t r = x % y;
        x = y;
        y = r;
    }
    return a / x * b;
}

static int pattern_make(struct pattern *p, struct err *e)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), block = (size_t)dtype_block(p->type), wish = PATTERN_BYTES;
    void  *at;
    int    rc;

    p->unit = lcm(page, dtype_block_bytes(p->type));
    if (quant_is(p->type)) wish = QUANT_VALUES / block * dtype_block_bytes(p->type);
    p->bytes = (wish + p->unit - 1) / p->unit * p->unit;
    while (p->bytes / dtype_block_bytes(p->type) * block % 4096) p->bytes += p->unit;
    p->fd = memfd_create("zfarm-made", MFD_CLOEXEC);
    if (p->fd < 0 || ftruncate(p->fd, (off_t)p->bytes)) return err_errno(e, ERR_NOMEM, "no memory for made-up weights");
    at = mmap(NULL, p->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, p->fd, 0);
    if (at == MAP_FAILED) return err_errno(e, ERR_NOMEM, "no memory for made-up weights");
    rc = fill(p, at, e);
    munmap(at, p->bytes);
    return rc;
}

static int pattern_of(struct made *m, enum dtype type, float mean, float scale, struct pattern **out, struct err *e)
{
    struct pattern *p;

    for (p = m->patterns; p; p = p->next)
        if (p->type == type && p->mean == mean && p->scale == scale) {
            *out = p;
            return 0;
        }
    if (!(p = calloc(1, sizeof *p))) return err_set(e, ERR_NOMEM, "no memory for made-up weights");
    *p = (struct pattern){.type = type, .mean = mean, .scale = scale, .fd = -1, .next = m->patterns};
    m->patterns = p; /* also a half-made one: made_free() has it */
    *out = p;
    return pattern_make(p, e);
}

/* ---- tensors ---- */

static uint64_t name_hash(const char *name)
{
    uint64_t h = 0xcbf29ce484222325u;

    for (; *name; name++) h = (h ^ (uint8_t)*name) * 0x100000001b3u;
    return mix(h);
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), k = strlen(end);
    return n >= k && strcmp(text + n - k, end) == 0;
}

static void scale_of(const char *name, int rank, const int64_t *dim, float *mean, float *scale)
{
    bool    norm = rank == 1 && strstr(name, "norm") && ends_with(name, "weight");
    int64_t fan_in = 1;

    for (int i = 1; i < rank; i++) fan_in *= dim[i];
    *mean = norm ? 1.0f : 0.0f;
    *scale = norm ? 0.15f : rank == 1 ? 0.1f : strstr(name, "embed_tokens") ? 1.0f : (float)(1.2 / sqrt((double)fan_in));
}

static enum dtype type_of(const struct made *m, int rank, const int64_t *dim)
{
    if (rank == 1) return DTYPE_F32;
    if (m->kind == DTYPE_F32) return DTYPE_F32;
    return rank == 2 && dim[0] > 1 && dim[1] % dtype_block(m->kind) == 0 ? m->kind : DTYPE_BF16;
}

/* The pattern from `from` on, over and over: `bytes` of it, read only. NULL: errno says why. */
static void *map(struct made *m, uint64_t name, const struct pattern *p, size_t from, size_t bytes)
{
    size_t         room = (bytes + p->unit - 1) / p->unit * p->unit;
    struct region *more = m->region;
    char          *at;

    if (m->n_regions == m->cap) {
        size_t cap = m->cap ? 2 * m->cap : 64;
        if (!(more = realloc(m->region, cap * sizeof *more))) return NULL;
        m->region = more;
        m->cap = cap;
    }
    at = mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) return NULL;
    m->region[m->n_regions++] = (struct region){name, at, room};
    for (size_t done = 0; done < room; from = 0) {
        size_t n = p->bytes - from < room - done ? p->bytes - from : room - done;
        if (mmap(at + done, n, PROT_READ, MAP_SHARED | MAP_FIXED, p->fd, (off_t)from) == MAP_FAILED) return NULL;
        done += n;
    }
    return at;
}

/* A tensor asked for again: a text encoder that was released, or one that was only measured before. */
static void *find(const struct made *m, uint64_t name)
{
    for (size_t i = 0; i < m->n_regions; i++)
        if (m->region[i].name == name) return m->region[i].at;
    return NULL;
}

int made_tensor(struct made *m, const char *name, int rank, const int64_t *dim, struct tensor *out, struct err *e)
{
    struct tensor   t = {.type = type_of(m, rank, dim), .rank = rank, .pitch = 1};
    struct pattern *p = NULL;
    float           mean, scale;
    int             rc;

    for (int i = 0; i < rank; i++) {
        t.dim[i] = dim[i];
        t.pitch *= i ? dim[i] : 1;
    }
    scale_of(name, rank, dim, &mean, &scale);
    if ((rc = pattern_of(m, t.type, mean, scale, &p, e))) return rc;
    t.data = find(m, name_hash(name));
    if (!t.data) {
        t.data = map(m, name_hash(name), p, name_hash(name) % (p->bytes / p->unit) * p->unit, dtype_row_bytes(t.type, tensor_count(&t)));
        m->n_values += tensor_count(&t);
    }
    if (!t.data) return err_errno(e, ERR_NOMEM, "cannot map made-up weights for %s", name);
    *out = t;
    return 0;
}

int made_open(struct made **out, enum dtype kind, struct err *e)
{
    struct made *m;

    if (kind != DTYPE_F32 && kind != DTYPE_BF16 && !quant_can_make(kind))
        return err_set(e, ERR_ARG, "weights of kind %s cannot be made up, only read from files", dtype_name(kind));
    if (!(m = calloc(1, sizeof *m))) return err_set(e, ERR_NOMEM, "no memory for made-up weights");
    m->kind = kind;
    *out = m;
    return 0;
}

void made_free(struct made *m)
{
    if (!m) return;
    for (size_t i = 0; i < m->n_regions; i++) munmap(m->region[i].at, m->region[i].bytes);
    for (struct pattern *p = m->patterns, *next; p; p = next) {
        next = p->next;
        if (p->fd >= 0) close(p->fd);
        free(p);
    }
    free(m->region);
    free(m);
}

enum dtype made_kind(const struct made *m)
{
    return m->kind;
}

int64_t made_values(const struct made *m)
{
    return m->n_values;
}

/* ---- a model ---- */

int made_model(struct model *m, const struct engine_made *made, struct err *e)
{
    int rc;

    m->conf = *made->conf;
    if ((rc = weights_made(&m->text, "made-up text encoder", made->text, e)) || (rc = weights_made(&m->dit, "made-up transformer", made->dit, e)) ||
        (rc = weights_made(&m->vae, "made-up vae", made->vae, e)) || (rc = tokenizer_open_mem(&m->tokenizer, made->tokenizer_json, e)))
        return rc;
    if (tokenizer_vocab(m->tokenizer) > (size_t)m->conf.text.vocab)
        return err_set(e, ERR_ARG, "the made-up tokenizer knows %zu ids, the config has a vocab_size of %d: it must be larger",
                       tokenizer_vocab(m->tokenizer), m->conf.text.vocab);
    return 0;
}
