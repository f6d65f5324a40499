/* weights.c - see weights.h. Names are found by a hash table over the entries of all shards. */
#include "engine/weights.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define uthash_fatal(msg) abort() /* out of memory for a few buckets at boot */
#include <uthash.h>

#include "base/file.h"
#include "engine/safetensors.h"

struct named {
    const struct safetensors_entry *entry;
    size_t                          file;
    void                           *copy; /* aligned copy, or NULL */
    UT_hash_handle                  hh;
};

struct weights {
    char                dir[512], prefix[32];
    struct safetensors *file;
    size_t              n_files;
    struct named       *named, *by_name; /* all of them; the table's head */
    size_t              n_named;
};

/* ---- which files ---- */

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), k = strlen(end);
    return n >= k && strcmp(text + n - k, end) == 0;
}

/* The only name in dir with this end into name; *n counts them. */
static int only_file(const char *dir, const char *end, char *name, size_t cap, int *n, struct err *e)
{
    DIR *d = opendir(dir);
    if (!d)
        return err_errno(e, ERR_IO, "cannot read the folder %s", dir);
    *n = 0;
    for (struct dirent *f; (f = readdir(d));)
        if (f->d_name[0] != '.' && ends_with(f->d_name, end) && strlen(f->d_name) < cap) {
            snprintf(name, cap, "%s", f->d_name);
            ++*n;
        }
    closedir(d);
    return 0;
}

static int find_file(const char *dir, char *path, size_t cap, struct err *e)
{
    static const char *const usual[] = { "diffusion_pytorch_model.safetensors", "model.safetensors",
                                         "diffusion_pytorch_model.safetensors.index.json", "model.safetensors.index.json" };
    static const char *const ends[] = { ".safetensors.index.json", ".safetensors" };
    char                     name[256];
    int                      rc, n = 0;

    for (size_t i = 0; i < sizeof usual / sizeof *usual; i++) {
        if ((rc = file_join(path, cap, dir, usual[i], e)))
            return rc;
        if (file_exists(path))
            return 0;
    }
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        if ((rc = only_file(dir, ends[i], name, sizeof name, &n, e)))
            return rc;
        if (n == 1)
            return file_join(path, cap, dir, name, e);
        if (n > 1)
            return err_set(e, ERR_FORMAT, "%s holds %d files *%s and none is named model%s: keep one", dir, n, ends[i], ends[i]);
    }
    return err_set(e, ERR_NOTFOUND, "%s holds no .safetensors file (other weight formats are not read)", dir);
}

/* ---- open ---- */

static int open_shards(struct weights *w, const char *index_path, struct safetensors_index *x, struct err *e)
{
    struct buf b;
    char       path[1024];
    int        rc;

    buf_init(&b, SAFETENSORS_INDEX_MAX);
    if ((rc = file_read(index_path, &b, e)))
        goto done;
    if ((rc = safetensors_index_parse(x, buf_str(&b), index_path, e)))
        goto done;
    w->file = calloc(x->n_files, sizeof *w->file);
    if (!w->file) {
        rc = err_set(e, ERR_NOMEM, "%s: no memory for %zu shards", index_path, x->n_files);
        goto done;
    }
    for (size_t i = 0; i < x->n_files; i++) {
        if ((rc = file_join(path, sizeof path, w->dir, x->file[i], e)))
            goto done;
        if ((rc = safetensors_open(&w->file[i], path, e))) {
            err_in(e, "%s", index_path);
            goto done;
        }
        w->n_files++;
    }
done:
    buf_release(&b);
    return rc;
}

static int open_single(struct weights *w, const char *path, struct err *e)
{
    int rc;
    w->file = calloc(1, sizeof *w->file);
    if (!w->file)
        return err_set(e, ERR_NOMEM, "%s: no memory", path);
    if ((rc = safetensors_open(&w->file[0], path, e)))
        return rc;
    w->n_files = 1;
    return 0;
}

static int name_all(struct weights *w, struct err *e)
{
    size_t n = 0;
    for (size_t f = 0; f < w->n_files; f++)
        n += w->file[f].n;
    w->named = calloc(n + 1, sizeof *w->named);
    if (!w->named)
        return err_set(e, ERR_NOMEM, "%s: no memory for the names of %zu tensors", w->dir, n);
    for (size_t f = 0; f < w->n_files; f++)
        for (size_t i = 0; i < w->file[f].n; i++) {
            struct named *t = &w->named[w->n_named], *twin;
            t->entry = &w->file[f].entry[i];
            t->file = f;
            HASH_FIND_STR(w->by_name, t->entry->name, twin);
            if (twin)
                return err_set(e, ERR_FORMAT, "tensor %s is in two shards: %s and %s", t->entry->name, w->file[twin->file].path,
                               w->file[f].path);
            HASH_ADD_KEYPTR(hh, w->by_name, t->entry->name, strlen(t->entry->name), t);
            w->n_named++;
        }
    return 0;
}

/* What the index promises is there. */
static int check_index(const struct weights *w, const struct safetensors_index *x, const char *index_path, struct err *e)
{
    for (size_t i = 0; i < x->n; i++) {
        const struct named *t;
        HASH_FIND_STR(w->by_name, x->tensor[i], t);
        if (!t || t->file != x->file_of[i])
            return err_set(e, ERR_FORMAT, "%s says that tensor %s is in %s, but it is not", index_path, x->tensor[i], x->file[x->file_of[i]]);
    }
    return 0;
}

int weights_open(struct weights **out, const char *dir, const char *prefix, struct err *e)
{
    struct weights          *w = calloc(1, sizeof *w);
    struct safetensors_index x = { .n = 0 };
    char                     path[1024];
    int                      rc;

    if (!w)
        return err_set(e, ERR_NOMEM, "%s: no memory", dir);
    if ((size_t)snprintf(w->dir, sizeof w->dir, "%s", dir) >= sizeof w->dir) {
        rc = err_set(e, ERR_LIMIT, "the folder name %.60s... is longer than %zu bytes", dir, sizeof w->dir - 1);
        goto done;
    }
    snprintf(w->prefix, sizeof w->prefix, "%s", prefix ? prefix : "");
    if ((rc = find_file(dir, path, sizeof path, e)))
        goto done;
    rc = ends_with(path, ".json") ? open_shards(w, path, &x, e) : open_single(w, path, e);
    if (rc)
        goto done;
    if ((rc = name_all(w, e)))
        goto done;
    if ((rc = check_index(w, &x, path, e)))
        goto done;
    *out = w;
    w = NULL;
done:
    safetensors_index_release(&x);
    weights_free(w);
    return rc;
}

void weights_free(struct weights *w)
{
    if (!w)
        return;
    HASH_CLEAR(hh, w->by_name);
    for (size_t i = 0; i < w->n_named; i++)
        free(w->named[i].copy);
    for (size_t f = 0; f < w->n_files; f++)
        safetensors_close(&w->file[f]);
    free(w->named);
    free(w->file);
    free(w);
}

/* ---- look up ---- */

static struct named *find(const struct weights *w, const char *name)
{
    struct named *t;
    char          longer[SAFETENSORS_NAME_MAX + 64];
    HASH_FIND_STR(w->by_name, name, t);
    if (!t && w->prefix[0]) {
        snprintf(longer, sizeof longer, "%s%s", w->prefix, name);
        HASH_FIND_STR(w->by_name, longer, t);
    }
    return t;
}

bool weights_has(const struct weights *w, const char *name)
{
    return find(w, name) != NULL;
}

static const char *shape_text(int rank, const int64_t *dim, char *text, size_t cap)
{
    size_t at = 0;
    text[0] = 0;
    for (int i = 0; i < rank && at < cap; i++)
        at += (size_t)snprintf(text + at, cap - at, "%s%" PRId64, i ? "," : "", dim[i]);
    return text;
}

static int align(const struct weights *w, struct named *t, const uint8_t **at, struct err *e)
{
    size_t align_bytes = dtype_bytes(t->entry->type);
    *at = w->file[t->file].data + t->entry->begin;
    if ((uintptr_t)*at % align_bytes == 0)
        return 0;
    if (!t->copy) {
        t->copy = malloc((size_t)t->entry->bytes + 1);
        if (!t->copy)
            return err_set(e, ERR_NOMEM, "%s: no memory for an aligned copy of tensor %s", w->dir, t->entry->name);
        memcpy(t->copy, *at, (size_t)t->entry->bytes);
    }
    *at = t->copy;
    return 0;
}

int weights_get(struct weights *w, const char *name, int rank, const int64_t *dim, struct tensor *out, struct err *e)
{
    struct named  *t = find(w, name);
    const uint8_t *at;
    char           found[200], wanted[120];
    int            rc;

    assert(rank >= 1 && rank <= TENSOR_RANK_MAX);
    if (!t)
        return err_set(e, ERR_NOTFOUND, "%s: tensor %s is missing: not a whole checkpoint of this kind", w->n_files == 1 ? w->file[0].path : w->dir,
                       name);
    const char *path = w->file[t->file].path;
    bool        same = t->entry->rank == rank;
    for (int i = 0; same && i < rank; i++)
        same = t->entry->dim[i] == dim[i];
    if (!same)
        return err_set(e, ERR_FORMAT, "%s: tensor %s is [%s], the config asks for [%s]", path, name,
                       shape_text(t->entry->rank, t->entry->dim, found, sizeof found), shape_text(rank, dim, wanted, sizeof wanted));
    if (!t->entry->usable)
        return err_set(e, ERR_FORMAT, "%s: tensor %s has dtype %s, supported are F32, BF16 and F16", path, name, t->entry->type_word);
    if ((rc = align(w, t, &at, e)))
        return rc;
    struct tensor r = { .type = t->entry->type, .rank = rank, .pitch = 1, .data = (void *)(uintptr_t)at };
    for (int i = 0; i < rank; i++) {
        r.dim[i] = dim[i];
        r.pitch *= i ? dim[i] : 1;
    }
    *out = r;
    return 0;
}

int weights_take(struct weights *w, struct dev *d, const char *name, int rank, const int64_t *dim, struct tensor *out, struct err *e)
{
    struct tensor host;
    int           rc = weights_get(w, name, rank, dim, &host, e);
    return rc ? rc : dev_weight(d, &host, out, e);
}

int weights_check(const struct weights *w, struct err *e)
{
    int rc = 0;
    for (size_t f = 0; !rc && f < w->n_files; f++)
        rc = file_map_check(&w->file[f].map, e);
    return rc;
}

void weights_digest(const struct weights *w, struct sha256 *s)
{
    for (size_t f = 0; f < w->n_files; f++) {
        uint8_t len[8];
        for (int i = 0; i < 8; i++)
            len[i] = (uint8_t)((uint64_t)w->file[f].header.len >> 8 * i);
        sha256_put(s, len, sizeof len);
        sha256_put(s, w->file[f].header.at, w->file[f].header.len);
    }
}

size_t weights_count(const struct weights *w)
{
    return w->n_named;
}

const struct safetensors_entry *weights_entry(const struct weights *w, size_t i, const char **file)
{
    assert(i < w->n_named);
    if (file)
        *file = w->file[w->named[i].file].path;
    return w->named[i].entry;
}

int64_t weights_bytes(const struct weights *w)
{
    uint64_t sum = 0;
    for (size_t f = 0; f < w->n_files; f++)
        sum += w->file[f].data_bytes;
    return (int64_t)sum;
}

int64_t weights_values(const struct weights *w)
{
    int64_t sum = 0;
    for (size_t i = 0; i < w->n_named; i++) {
        int64_t n = 1;
        for (int k = 0; k < w->named[i].entry->rank; k++)
            n *= w->named[i].entry->dim[k]; /* at most the file's bytes: checked when it was opened */
        sum += n;
    }
    return sum;
}

enum dtype weights_type(const struct weights *w)
{
    const struct safetensors_entry *largest = NULL;
    for (size_t i = 0; i < w->n_named; i++) {
        const struct safetensors_entry *t = w->named[i].entry;
        if (t->usable && (!largest || t->bytes > largest->bytes))
            largest = t;
    }
    return largest ? largest->type : DTYPE_F32;
}

/* ---- loader ---- */

__attribute__((format(printf, 5, 0))) static void load(struct loader *l, struct tensor *out, int rank, const int64_t *dim, const char *fmt, va_list ap)
{
    char name[SAFETENSORS_NAME_MAX + 1];
    if (l->rc)
        return;
    int n = vsnprintf(name, sizeof name, fmt, ap);
    assert(n > 0 && (size_t)n < sizeof name);
    l->rc = weights_take(l->w, l->d, name, rank, dim, out, l->e);
}

void load1(struct loader *l, struct tensor *out, int64_t n, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    load(l, out, 1, (int64_t[]){ n }, fmt, ap);
    va_end(ap);
}

void load2(struct loader *l, struct tensor *out, int64_t n, int64_t c, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    load(l, out, 2, (int64_t[]){ n, c }, fmt, ap);
    va_end(ap);
}

void load_conv(struct loader *l, struct tensor *out, int64_t co, int64_t ci, int64_t k, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    load(l, out, 4, (int64_t[]){ co, ci, k, k }, fmt, ap);
    va_end(ap);
}
