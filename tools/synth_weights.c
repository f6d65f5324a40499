/* synth_weights.c - random weights into .safetensors shards, many threads, bounded memory (one chunk per thread).
 * Each value is a function of (seed, tensor, index): a counter is hashed, four 16-bit uniforms are summed.
 * Scales keep activations sane at any depth: 1.2/sqrt(fan-in) for products and convolutions, 1 for the token embedding,
 * 1 +- 0.15 for norms, 0.1 for the other vectors.
 * W1 a shard is written under a temporary name, synced, then renamed; the index comes after its shards. */
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
#include "base/file.h"
#include "tools/synth.h"
#include "tools/tools.h"

#define CHUNK_VALUES (2u << 20)
#define INDEX_MAX    (16u << 20)
#define PROGRESS_MS  500

static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

uint64_t synth_key(uint64_t seed, const char *folder, const char *name)
{
    const char *const text[] = {folder, "/", name};
    uint64_t          h = 0xcbf29ce484222325u;

    for (int k = 0; k < 3; k++)
        for (const char *p = text[k]; *p; p++) h = (h ^ (uint8_t)*p) * 0x100000001b3u;
    return mix(mix(h) + seed * 0x9e3779b97f4a7c15u);
}

/* Near normal with mean 0 and deviation 1: the sum of four 16-bit uniforms. */
static float normal_at(uint64_t key, uint64_t index)
{
    uint64_t h = mix(key + index * 0x9e3779b97f4a7c15u);
    uint64_t pairs = (h & 0x0000ffff0000ffffu) + (h >> 16 & 0x0000ffff0000ffffu);
    int32_t  sum = (int32_t)((pairs & 0xffffffffu) + (pairs >> 32));

    return (float)(sum - 131070) * (1.0f / 37837.2f);
}

static uint16_t bf16_of(float v)
{
    uint32_t u;
    memcpy(&u, &v, sizeof u);
    return (uint16_t)((u + 0x7fffu + (u >> 16 & 1)) >> 16); /* finite by construction */
}

void synth_fill(void *out, bool bf16, uint64_t key, uint64_t from, size_t n, float mean, float scale)
{
    if (bf16) {
        uint16_t *v = out;
        for (size_t i = 0; i < n; i++) v[i] = bf16_of(mean + scale * normal_at(key, from + i));
    } else {
        float *v = out;
        for (size_t i = 0; i < n; i++) v[i] = mean + scale * normal_at(key, from + i);
    }
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), k = strlen(end);
    return n >= k && strcmp(text + n - k, end) == 0;
}

static void scale_of(const struct plan_tensor *t, float *mean, float *scale)
{
    bool norm = t->rank == 1 && strstr(t->name, "norm") && ends_with(t->name, "weight");

    *mean = norm ? 1.0f : 0.0f;
    if (norm)
        *scale = 0.15f;
    else if (t->rank == 1)
        *scale = 0.1f;
    else if (strstr(t->name, "embed_tokens"))
        *scale = 1.0f;
    else
        *scale = (float)(1.2 / sqrt((double)(plan_tensor_values(t) / t->dim[0])));
}

void synth_read(const struct synth_job *job, const char *folder, const struct plan_tensor *t, uint64_t from, size_t n, float *out)
{
    float mean, scale;
    scale_of(t, &mean, &scale);
    synth_fill(out, false, synth_key(job->seed, folder, t->name), from, n, mean, scale);
}

/* One shard being written: tensors first..last of the plan, handed out chunk by chunk. */
struct shard {
    struct synth_job         *job;
    const char               *folder, *path;
    const struct plan_tensor *tensor;
    size_t                    n;
    int                       fd;
    pthread_mutex_t           mtx;    /* all below */
    size_t                    at;     /* next tensor */
    uint64_t                  from;   /* next value in it */
    int64_t                   offset; /* of that value in the file */
    int64_t                   shown_ms;
    struct err                err;
};

struct chunk {
    const struct plan_tensor *tensor;
    uint64_t                  from;
    size_t                    n;
    int64_t                   offset;
};

static void show_progress(struct shard *s, bool last)
{
    struct synth_job *j = s->job;
    int64_t           now = now_ms();
    char              done[32], all[32];

    if (j->quiet || (!last && (now - s->shown_ms < PROGRESS_MS || !isatty(2)))) return;
    s->shown_ms = now;
    double took_s = (double)(now - j->began_ms + 1) / 1e3;
    fprintf(stderr, "%s%s of %s  %3.0f %%  %.0f MB/s  %s%s", isatty(2) ? "\r\033[K" : "", tool_bytes_text(j->done_bytes, done, sizeof done),
            tool_bytes_text(j->all_bytes, all, sizeof all), 100.0 * (double)j->done_bytes / (double)(j->all_bytes ? j->all_bytes : 1),
            (double)j->done_bytes / 1e6 / took_s, s->path, last ? "\n" : "");
}

/* The next piece of work; false when there is none or somebody failed. wrote: bytes just finished. */
static bool take_chunk(struct shard *s, struct chunk *c, int64_t wrote)
{
    size_t value_bytes = s->job->bf16 ? 2 : 4;
    bool   more;

    pthread_mutex_lock(&s->mtx);
    s->job->done_bytes += wrote;
    show_progress(s, false);
    if (*s->job->stop && !s->err.code) err_set(&s->err, ERR_CANCELED, "stopped: nothing is left behind");
    more = s->at < s->n && !s->err.code;
    if (more) {
        const struct plan_tensor *t = &s->tensor[s->at];
        uint64_t                  left = (uint64_t)plan_tensor_values(t) - s->from;
        *c = (struct chunk){t, s->from, left < CHUNK_VALUES ? (size_t)left : CHUNK_VALUES, s->offset};
        s->from += c->n;
        s->offset += (int64_t)(c->n * value_bytes);
        if (c->n == left) {
            s->at++;
            s->from = 0;
        }
    }
    pthread_mutex_unlock(&s->mtx);
    return more;
}

static void fail(struct shard *s, int number, const char *what)
{
    pthread_mutex_lock(&s->mtx);
    if (!s->err.code) {
        errno = number;
        err_errno(&s->err, ERR_IO, "%s %s", what, s->path);
    }
    pthread_mutex_unlock(&s->mtx);
}

static void *fill_chunks(void *arg)
{
    struct shard *s = arg;
    size_t        value_bytes = s->job->bf16 ? 2 : 4;
    char         *bytes = malloc(CHUNK_VALUES * value_bytes);
    struct chunk  c;
    int64_t       wrote = 0;

    if (!bytes) fail(s, ENOMEM, "cannot write");
    while (take_chunk(s, &c, wrote)) {
        float  mean, scale;
        size_t len = c.n * value_bytes;
        scale_of(c.tensor, &mean, &scale);
        synth_fill(bytes, s->job->bf16, synth_key(s->job->seed, s->folder, c.tensor->name), c.from, c.n, mean, scale);
        for (size_t at = 0; at < len;) {
            ssize_t n = pwrite(s->fd, bytes + at, len - at, c.offset + (int64_t)at);
            if (n < 0 && errno == EINTR) continue;
            if (n <= 0) {
                fail(s, n ? errno : EIO, "cannot write");
                break;
            }
            at += (size_t)n;
        }
        wrote = (int64_t)len;
    }
    free(bytes);
    return NULL;
}

/* The length, then JSON padded with blanks to a multiple of 8. */
static int put_header(struct buf *b, const struct plan_tensor *t, size_t n, bool bf16, struct err *e)
{
    int64_t at = 0;
    int     rc = buf_puts(b, "........{\"__metadata__\":{\"format\":\"pt\"}");

    for (size_t i = 0; i < n && !rc; i++) {
        int64_t end = at + plan_tensor_values(&t[i]) * (bf16 ? 2 : 4);
        rc = buf_printf(b, ",\"%s\":{\"dtype\":\"%s\",\"shape\":[", t[i].name, bf16 ? "BF16" : "F32");
        for (int k = 0; k < t[i].rank && !rc; k++) rc = buf_printf(b, "%s%" PRId64, k ? "," : "", t[i].dim[k]);
        if (!rc) rc = buf_printf(b, "],\"data_offsets\":[%" PRId64 ",%" PRId64 "]}", at, end);
        at = end;
    }
    if (!rc) rc = buf_putc(b, '}');
    while (!rc && b->len % 8) rc = buf_putc(b, ' ');
    if (rc) return err_set(e, rc, "the header of %zu tensors does not fit", n);
    for (int k = 0; k < 8; k++) b->at[k] = (char)((uint64_t)(b->len - 8) >> 8 * k);
    return 0;
}

static int run_threads(struct shard *s)
{
    pthread_t thread[64];
    int       n = 0;

    while (n + 1 < s->job->n_threads && n < 64 && pthread_create(&thread[n], NULL, fill_chunks, s) == 0) n++;
    fill_chunks(s); /* this thread works, too: a refused thread only makes it slower */
    for (int i = 0; i < n; i++) pthread_join(thread[i], NULL);
    return s->err.code;
}

/* Writes tensors t[0..n) as dir/name. */
static int write_shard(struct synth_job *job, const char *folder, const char *dir, const char *name, const struct plan_tensor *t, size_t n,
                       struct err *e)
{
    struct shard s = {.job = job, .folder = folder, .tensor = t, .n = n, .fd = -1, .mtx = PTHREAD_MUTEX_INITIALIZER};
    char         path[700], temp[760], hidden[260];
    struct buf   header;
    int64_t      bytes = 0;
    int          rc;

    buf_init(&header, INDEX_MAX);
    snprintf(hidden, sizeof hidden, ".%s.%ld.tmp", name, (long)getpid());
    if ((rc = file_join(path, sizeof path, dir, name, e)) || (rc = file_join(temp, sizeof temp, dir, hidden, e)) ||
        (rc = put_header(&header, t, n, job->bf16, e)))
        goto done;
    for (size_t i = 0; i < n; i++) bytes += plan_tensor_values(&t[i]) * (job->bf16 ? 2 : 4);
    s.path = path;
    s.offset = (int64_t)header.len;
    s.fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (s.fd < 0) {
        rc = err_errno(e, ERR_IO, "cannot create %s", temp);
        goto done;
    }
    if (fallocate(s.fd, 0, 0, s.offset + bytes) && errno != EOPNOTSUPP && errno != ENOSYS && errno != EINVAL) {
        rc = err_errno(e, ERR_IO, "cannot reserve %" PRId64 " bytes for %s", s.offset + bytes, path);
        goto done;
    }
    if (pwrite(s.fd, header.at, header.len, 0) != (ssize_t)header.len) {
        rc = err_errno(e, ERR_IO, "cannot write %s", path);
        goto done;
    }
    if ((rc = run_threads(&s))) {
        *e = s.err;
        goto done;
    }
    if (fsync(s.fd) || rename(temp, path))
        rc = err_errno(e, ERR_IO, "cannot finish %s", path);
    else
        show_progress(&s, true);
done:
    if (s.fd >= 0) close(s.fd);
    if (rc && s.fd >= 0) unlink(temp);
    buf_release(&header);
    return rc;
}

/* First tensor after the shard that begins at from: as many as fit, at least one. */
static size_t shard_end(const struct synth_job *job, const struct plan *p, size_t from)
{
    int64_t bytes = 0;
    size_t  i = from;

    for (; i < p->n; i++) {
        bytes += plan_tensor_values(&p->at[i]) * (job->bf16 ? 2 : 4);
        if (i > from && bytes > job->shard_bytes) break;
    }
    return i;
}

static int write_index(const struct synth_job *job, const char *dir, const char *base, const struct plan *p, int n_shards, struct err *e)
{
    struct buf b;
    char       path[700], name[200];
    int        rc, shard = 0;
    size_t     end = 0;

    buf_init(&b, INDEX_MAX);
    snprintf(name, sizeof name, "%s.safetensors.index.json", base);
    if ((rc = file_join(path, sizeof path, dir, name, e))) goto done;
    rc = buf_printf(&b, "{\n  \"metadata\": {\n    \"total_size\": %" PRId64 "\n  },\n  \"weight_map\": {\n",
                    plan_values(p) * (job->bf16 ? 2 : 4));
    for (size_t i = 0; i < p->n && !rc; i++) {
        if (i == end) {
            shard++;
            end = shard_end(job, p, i);
        }
        rc = buf_printf(&b, "    \"%s\": \"%s-%05d-of-%05d.safetensors\"%s\n", p->at[i].name, base, shard, n_shards,
                        i + 1 < p->n ? "," : "");
    }
    if (!rc) rc = buf_puts(&b, "  }\n}\n");
    if (rc)
        err_set(e, rc, "the index of %zu tensors does not fit", p->n);
    else
        rc = file_write(path, b.at, b.len, FILE_NEW, e);
done:
    buf_release(&b);
    return rc;
}

int synth_weights(struct synth_job *job, const char *folder, const struct plan *p, struct err *e)
{
    const char *base = strcmp(folder, synth_folder[SYNTH_TEXT]) == 0 ? "model" : "diffusion_pytorch_model";
    char        dir[600], name[200];
    int         rc, n_shards = 0, shard = 0;

    if ((rc = file_join(dir, sizeof dir, job->dir, folder, e))) return rc;
    for (size_t from = 0; from < p->n; from = shard_end(job, p, from)) n_shards++;
    for (size_t from = 0, end; from < p->n; from = end) {
        end = shard_end(job, p, from);
        shard++;
        if (n_shards == 1)
            snprintf(name, sizeof name, "%s.safetensors", base);
        else
            snprintf(name, sizeof name, "%s-%05d-of-%05d.safetensors", base, shard, n_shards);
        if ((rc = write_shard(job, folder, dir, name, p->at + from, end - from, e))) return rc;
    }
    return n_shards > 1 ? write_index(job, dir, base, p, n_shards, e) : 0;
}
