/* weights.c - see weights.h. Names are found by a hash table over the tensors of all files, under the names this engine uses (names.h).
 * Invariant: a view lies inside its stored tensor, which lies inside its file (safetensors.c, gguf.c).
 * Not here: which name means what (names.c). */
#include "engine/weights.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define uthash_fatal(msg) abort() /* out of memory for a few buckets at boot */
#include <uthash.h>

#include "base/file.h"
#include "engine/gguf.h"
#include "engine/made.h"
#include "engine/names.h"
#include "engine/safetensors.h"
#include "kernels/quant.h"

struct holder { /* one file of either format */
    bool               is_gguf;
    struct safetensors st;
    struct gguf        gguf;
};

struct named {
    const struct safetensors_entry *stored;
    struct safetensors_entry        view; /* our name (owned), its rows */
    size_t                          file;
    void                           *copy; /* aligned copy, or NULL */
    UT_hash_handle                  hh, by_stored;
};

struct room { /* weights_room() */
    char          *name;
    void          *at;
    size_t         bytes;
    UT_hash_handle hh;
};

struct weights {
    char           dir[512], prefix[32];
    struct holder *file;
    size_t         n_files;
    struct named  *named, *by_name, *by_stored; /* all of them; the tables' heads */
    size_t         n_named;
    struct room   *rooms;
    void         (*on_taken)(void *ctx, int64_t bytes);
    void          *watcher;
    struct made   *made; /* instead of all the above; NULL: files */
};

/* ---- a file ---- */

static const char *file_path(const struct holder *h)
{
    return h->is_gguf ? h->gguf.path : h->st.path;
}

static size_t file_count(const struct holder *h)
{
    return h->is_gguf ? h->gguf.n : h->st.n;
}

static const struct safetensors_entry *file_entries(const struct holder *h)
{
    return h->is_gguf ? h->gguf.entry : h->st.entry;
}

static const uint8_t *file_data(const struct holder *h)
{
    return h->is_gguf ? h->gguf.data : h->st.data;
}

static struct str file_header(const struct holder *h)
{
    return h->is_gguf ? h->gguf.header : h->st.header;
}

/* What the file is says its first bytes, not its name. */
static int holder_open(struct holder *h, const char *path, struct err *e)
{
    struct file_map m;
    struct str      bytes;
    int             rc = file_map_open(&m, path, e);
    if (rc) return rc;
    bytes = (struct str){(const char *)m.at, m.len};
    h->is_gguf = gguf_is(bytes);
    rc = h->is_gguf ? gguf_parse(&h->gguf, bytes, path, e) : safetensors_parse(&h->st, bytes, path, e);
    if (rc)
        file_map_close(&m);
    else if (h->is_gguf)
        h->gguf.map = m;
    else
        h->st.map = m;
    return rc;
}

static void holder_close(struct holder *h)
{
    if (h->is_gguf)
        gguf_close(&h->gguf);
    else
        safetensors_close(&h->st);
}

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
    if (!d) return err_errno(e, ERR_IO, "cannot read the folder %s", dir);
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
    static const char *const usual[] = {"diffusion_pytorch_model.safetensors", "model.safetensors",
                                        "diffusion_pytorch_model.safetensors.index.json", "model.safetensors.index.json"};
    static const char *const ends[] = {".safetensors.index.json", ".safetensors", ".gguf"};
    char                     name[256];
    int                      rc, n = 0;

    for (size_t i = 0; i < sizeof usual / sizeof *usual; i++) {
        if ((rc = file_join(path, cap, dir, usual[i], e))) return rc;
        if (file_exists(path)) return 0;
    }
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        if ((rc = only_file(dir, ends[i], name, sizeof name, &n, e))) return rc;
        if (n == 1) return file_join(path, cap, dir, name, e);
        if (n > 1)
            return err_set(e, ERR_FORMAT, "%s holds %d files *%s and none is named model%s: keep one, or name the file itself", dir, n,
                           ends[i], ends[i]);
    }
    return err_set(e, ERR_NOTFOUND, "%s holds no .safetensors file and no .gguf (other weight formats are not read)", dir);
}

/* ---- open ---- */

static int open_shards(struct weights *w, const char *index_path, struct safetensors_index *x, struct err *e)
{
    struct buf b;
    char       path[1024];
    int        rc;

    buf_init(&b, SAFETENSORS_INDEX_MAX);
    if ((rc = file_read(index_path, &b, e))) goto done;
    if ((rc = safetensors_index_parse(x, buf_str(&b), index_path, e))) goto done;
    w->file = calloc(x->n_files, sizeof *w->file);
    if (!w->file) {
        rc = err_set(e, ERR_NOMEM, "%s: no memory for %zu shards", index_path, x->n_files);
        goto done;
    }
    for (size_t i = 0; i < x->n_files; i++) {
        if ((rc = file_join(path, sizeof path, w->dir, x->file[i], e))) goto done;
        if ((rc = holder_open(&w->file[i], path, e))) {
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
    if (!w->file) return err_set(e, ERR_NOMEM, "%s: no memory", path);
    if ((rc = holder_open(&w->file[0], path, e))) return rc;
    w->n_files = 1;
    return 0;
}

/* Part k of n of the stored rows under this name. */
static int name_one(struct weights *w, const struct safetensors_entry *stored, size_t file, const char *name, int k, int n, struct err *e)
{
    struct named *t = &w->named[w->n_named], *twin;

    t->stored = stored;
    t->file = file;
    t->view = *stored;
    t->view.name = strdup(name);
    if (!t->view.name) return err_set(e, ERR_NOMEM, "%s: no memory for the names of its tensors", w->dir);
    w->n_named++;
    if (n > 1) {
        t->view.dim[0] /= n;
        t->view.bytes /= (uint64_t)n;
        t->view.begin += t->view.bytes * (uint64_t)k;
    }
    HASH_FIND_STR(w->by_name, name, twin);
    if (twin && twin->file != file)
        return err_set(e, ERR_FORMAT, "tensor %s is in two shards: %s and %s", name, file_path(&w->file[twin->file]),
                       file_path(&w->file[file]));
    if (twin)
        return err_set(e, ERR_FORMAT, "%s: %s and %s are two tensors of one meaning (%s)", file_path(&w->file[file]), twin->stored->name,
                       stored->name, name);
    HASH_ADD_KEYPTR(hh, w->by_name, t->view.name, strlen(t->view.name), t);
    if (k == 0) HASH_ADD_KEYPTR(by_stored, w->by_stored, stored->name, strlen(stored->name), t);
    return 0;
}

static int name_all(struct weights *w, struct err *e)
{
    size_t n = 0;
    int    n_levels = 0, rc;
    for (size_t f = 0; f < w->n_files; f++)
        for (size_t i = 0; i < file_count(&w->file[f]); i++, n++) {
            int levels = names_levels(file_entries(&w->file[f])[i].name);
            n_levels = levels > n_levels ? levels : n_levels;
        }
    w->named = calloc(n * NAMES_PARTS + 1, sizeof *w->named);
    if (!w->named) return err_set(e, ERR_NOMEM, "%s: no memory for the names of %zu tensors", w->dir, n);
    for (size_t f = 0; f < w->n_files; f++)
        for (size_t i = 0; i < file_count(&w->file[f]); i++) {
            const struct safetensors_entry *t = &file_entries(&w->file[f])[i];
            struct names                    names;
            names_of(t->name, n_levels, &names);
            if (names.n > 1 && (t->rank < 1 || t->dim[0] % names.n))
                return err_set(e, ERR_FORMAT, "%s: tensor %s has no rows that divide by %d", file_path(&w->file[f]), t->name, names.n);
            for (int k = 0; k < names.n; k++)
                if ((rc = name_one(w, t, f, names.name[k], k, names.n, e))) return rc;
        }
    return 0;
}

/* What the index promises is there. */
static int check_index(const struct weights *w, const struct safetensors_index *x, const char *index_path, struct err *e)
{
    for (size_t i = 0; i < x->n; i++) {
        const struct named *t;
        HASH_FIND(by_stored, w->by_stored, x->tensor[i], strlen(x->tensor[i]), t);
        if (!t || t->file != x->file_of[i])
            return err_set(e, ERR_FORMAT, "%s says that tensor %s is in %s, but it is not", index_path, x->tensor[i],
                           x->file[x->file_of[i]]);
    }
    return 0;
}

/* Which file to begin with, and w->dir, where shards lie. */
static int find_path(struct weights *w, const char *given, char *path, size_t cap, struct err *e)
{
    char *slash;
    if ((size_t)snprintf(w->dir, sizeof w->dir, "%s", given) >= sizeof w->dir)
        return err_set(e, ERR_LIMIT, "the name %.60s... is longer than %zu bytes", given, sizeof w->dir - 1);
    if (file_is_folder(given)) return find_file(given, path, cap, e);
    snprintf(path, cap, "%s", given);
    slash = strrchr(w->dir, '/');
    if (slash)
        slash[slash == w->dir] = 0;
    else
        snprintf(w->dir, sizeof w->dir, ".");
    return 0;
}

int weights_open(struct weights **out, const char *given, const char *prefix, struct err *e)
{
    struct weights          *w = calloc(1, sizeof *w);
    struct safetensors_index x = {.n = 0};
    char                     path[1024];
    int                      rc;

    if (!w) return err_set(e, ERR_NOMEM, "%s: no memory", given);
    snprintf(w->prefix, sizeof w->prefix, "%s", prefix ? prefix : "");
    if ((rc = find_path(w, given, path, sizeof path, e))) goto done;
    rc = ends_with(path, ".json") ? open_shards(w, path, &x, e) : open_single(w, path, e);
    if (rc) goto done;
    if ((rc = name_all(w, e))) goto done;
    if ((rc = check_index(w, &x, path, e))) goto done;
    *out = w;
    w = NULL;
done:
    safetensors_index_release(&x);
    weights_free(w);
    return rc;
}

int weights_made(struct weights **out, const char *label, enum dtype kind, struct err *e)
{
    struct weights *w = calloc(1, sizeof *w);
    int             rc;

    if (!w) return err_set(e, ERR_NOMEM, "%s: no memory", label);
    snprintf(w->dir, sizeof w->dir, "%s", label);
    if ((rc = made_open(&w->made, kind, e))) {
        free(w);
        return rc;
    }
    *out = w;
    return 0;
}

void weights_free(struct weights *w)
{
    if (!w) return;
    made_free(w->made);
    HASH_CLEAR(hh, w->by_name);
    HASH_CLEAR(by_stored, w->by_stored);
    struct room *rooms = w->rooms;
    HASH_CLEAR(hh, w->rooms);
    for (size_t i = 0; i < w->n_named; i++) {
        free(w->named[i].copy);
        free((char *)(uintptr_t)w->named[i].view.name);
    }
    for (size_t f = 0; f < w->n_files; f++) holder_close(&w->file[f]);
    for (struct room *r = rooms, *next; r; r = next) {
        next = r->hh.next;
        free(r->name);
        free(r->at);
        free(r);
    }
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
    for (int i = 0; i < rank && at < cap; i++) at += (size_t)snprintf(text + at, cap - at, "%s%" PRId64, i ? "," : "", dim[i]);
    return text;
}

static int align(const struct weights *w, struct named *t, const uint8_t **at, struct err *e)
{
    size_t align_bytes = dtype_block(t->view.type) > 1 ? 1 : dtype_bytes(t->view.type);
    *at = file_data(&w->file[t->file]) + t->view.begin;
    if ((uintptr_t)*at % align_bytes == 0) return 0;
    if (!t->copy) {
        t->copy = malloc((size_t)t->view.bytes + 1);
        if (!t->copy) return err_set(e, ERR_NOMEM, "%s: no memory for an aligned copy of tensor %s", w->dir, t->stored->name);
        memcpy(t->copy, *at, (size_t)t->view.bytes);
    }
    *at = t->copy;
    return 0;
}

/* The same dims but for ones: formats drop or add them ([1,c] is stored as [c], a 1x1 convolution stands for a product). */
static bool same_shape(const struct safetensors_entry *t, int rank, const int64_t *dim)
{
    int i = 0, k = 0;
    for (;; i++, k++) {
        while (i < t->rank && t->dim[i] == 1) i++;
        while (k < rank && dim[k] == 1) k++;
        if (i == t->rank || k == rank) return i == t->rank && k == rank;
        if (t->dim[i] != dim[k]) return false;
    }
}

/* The factor of an 8-bit weight: a tensor of one value beside it, under either name that is in use. 0 when there is none. */
static int find_scale(const struct weights *w, const struct named *t, float *scale, struct err *e)
{
    static const char *const ends[] = {"scale_weight", "weight_scale"};
    const char              *name = t->stored->name;
    size_t                   stem = strlen(name);
    char                     other[SAFETENSORS_NAME_MAX + 32];
    struct named            *s = NULL;

    *scale = 0;
    if (!ends_with(name, ".weight")) return 0;
    stem -= strlen("weight");
    for (size_t i = 0; i < 2 && !s; i++) {
        snprintf(other, sizeof other, "%.*s%s", (int)stem, name, ends[i]);
        HASH_FIND(by_stored, w->by_stored, other, strlen(other), s);
    }
    if (!s) return 0;
    if (s->stored->type != DTYPE_F32 || !s->stored->usable || s->stored->bytes != sizeof *scale)
        return err_set(e, ERR_FORMAT, "%s: %s is not one F32 value: only whole tensors can be scaled", file_path(&w->file[s->file]), other);
    memcpy(scale, file_data(&w->file[s->file]) + s->stored->begin, sizeof *scale);
    if (!(*scale > 0 && *scale <= 1e30f))
        return err_set(e, ERR_FORMAT, "%s: %s is %g: must be above 0 and finite", file_path(&w->file[s->file]), other, (double)*scale);
    if (t->view.type != DTYPE_F8_E4M3 && t->view.type != DTYPE_F8_E5M2 && *scale != 1.0f)
        return err_set(e, ERR_FORMAT, "%s: %s scales a tensor of %s: only F8 is scaled", file_path(&w->file[s->file]), other,
                       t->view.type_word);
    *scale = *scale == 1.0f ? 0 : *scale;
    return 0;
}

int weights_get(struct weights *w, const char *name, int rank, const int64_t *dim, struct tensor *out, struct err *e)
{
    struct named  *t = find(w, name);
    const uint8_t *at;
    char           found[200], wanted[120];
    float          scale = 0;
    int            rc;

    assert(rank >= 1 && rank <= TENSOR_RANK_MAX);
    if (w->made) return made_tensor(w->made, name, rank, dim, out, e);
    if (!t)
        return err_set(e, ERR_NOTFOUND, "%s: tensor %s is missing: not a whole checkpoint of this kind",
                       w->n_files == 1 ? file_path(&w->file[0]) : w->dir, name);
    const char *path = file_path(&w->file[t->file]);
    if (!same_shape(&t->view, rank, dim))
        return err_set(e, ERR_FORMAT, "%s: tensor %s is [%s], the config asks for [%s]", path, name,
                       shape_text(t->view.rank, t->view.dim, found, sizeof found), shape_text(rank, dim, wanted, sizeof wanted));
    if (!t->view.usable)
        return err_set(e, ERR_FORMAT, "%s: tensor %s has dtype %s, supported are F32, BF16 and F16, F8 and ggml's blocks", path, name,
                       t->view.type_word);
    if (dim[rank - 1] % dtype_block(t->view.type))
        return err_set(e, ERR_FORMAT, "%s: tensor %s: rows of %" PRId64 " values cannot be %s", path, name, dim[rank - 1],
                       t->view.type_word);
    if ((rc = find_scale(w, t, &scale, e))) return rc;
    if (scale != 0 && rank > 2)
        return err_set(e, ERR_FORMAT, "%s: tensor %s is a scaled F8 convolution: not supported, use F16 or BF16", path, name);
    if ((rc = align(w, t, &at, e))) return rc;
    struct tensor r = {.type = t->view.type, .rank = rank, .pitch = 1, .data = (void *)(uintptr_t)at, .scale = scale};
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
    if (rc || (rc = dev_weight(d, &host, out, e))) return rc;
    weights_taken(w, d, &host);
    return 0;
}

void weights_watch(struct weights *w, void (*on_taken)(void *ctx, int64_t bytes), void *ctx)
{
    w->on_taken = on_taken;
    w->watcher = ctx;
}

void weights_taken(const struct weights *w, const struct dev *d, const struct tensor *host)
{
    if (w->on_taken && !d->measuring) w->on_taken(w->watcher, (int64_t)dtype_row_bytes(host->type, tensor_count(host)));
}

static const struct file_map *file_map_of(const struct holder *h)
{
    return h->is_gguf ? &h->gguf.map : &h->st.map;
}

void weights_let_go(struct weights *w)
{
    for (size_t f = 0; f < w->n_files; f++) file_map_drop(file_map_of(&w->file[f]));
}

void *weights_room(struct weights *w, const char *name, size_t bytes, bool *fresh)
{
    struct room *r;

    HASH_FIND_STR(w->rooms, name, r);
    *fresh = !r;
    if (r) {
        assert(r->bytes == bytes);
        return r->at;
    }
    if (!(r = calloc(1, sizeof *r))) return NULL;
    *r = (struct room){.name = strdup(name), .at = malloc(bytes), .bytes = bytes};
    if (!r->name || !r->at) {
        free(r->name);
        free(r->at);
        free(r);
        return NULL;
    }
    HASH_ADD_KEYPTR(hh, w->rooms, r->name, strlen(r->name), r);
    return r->at;
}

int weights_check(const struct weights *w, struct err *e)
{
    int rc = 0;
    for (size_t f = 0; !rc && f < w->n_files; f++) rc = file_map_check(file_map_of(&w->file[f]), e);
    return rc;
}

void weights_digest(const struct weights *w, struct sha256 *s)
{
    for (size_t f = 0; f < w->n_files; f++) {
        struct str header = file_header(&w->file[f]);
        uint8_t    len[8];
        for (int i = 0; i < 8; i++) len[i] = (uint8_t)((uint64_t)header.len >> 8 * i);
        sha256_put(s, len, sizeof len);
        sha256_put(s, header.at, header.len);
    }
}

size_t weights_count(const struct weights *w)
{
    return w->n_named;
}

const struct safetensors_entry *weights_entry(const struct weights *w, size_t i, const char **file)
{
    assert(i < w->n_named);
    if (file) *file = file_path(&w->file[w->named[i].file]);
    return &w->named[i].view;
}

const struct safetensors_entry *weights_find(const struct weights *w, const char *name)
{
    const struct named *t = find(w, name);
    return t ? &t->view : NULL;
}

const struct gguf *weights_gguf(const struct weights *w)
{
    return w->file[0].is_gguf ? &w->file[0].gguf : NULL;
}

const char *weights_path(const struct weights *w)
{
    return w->n_files == 1 ? file_path(&w->file[0]) : w->dir;
}

void weights_profile(const struct weights *w, char name[32])
{
    struct str s;
    snprintf(name, 32, "%s", w->file[0].is_gguf ? "" : w->file[0].st.profile);
    if (w->file[0].is_gguf && gguf_str(&w->file[0].gguf, "zfarm.profile", &s, NULL) == 0 && s.len < 32)
        snprintf(name, 32, "%.*s", (int)s.len, s.at);
}

int64_t weights_bytes(const struct weights *w)
{
    uint64_t sum = 0;
    for (size_t f = 0; f < w->n_files; f++) sum += w->file[f].is_gguf ? w->file[f].gguf.data_bytes : w->file[f].st.data_bytes;
    return (int64_t)sum;
}

int64_t weights_values(const struct weights *w)
{
    int64_t sum = w->made ? made_values(w->made) : 0;
    for (size_t i = 0; i < w->n_named; i++) {
        int64_t n = 1;
        for (int k = 0; k < w->named[i].view.rank; k++)
            n *= w->named[i].view.dim[k]; /* at most twice the file's bits: checked when it was opened */
        sum += n;
    }
    return sum;
}

enum dtype weights_type(const struct weights *w)
{
    const struct safetensors_entry *largest = NULL;
    if (w->made) return made_kind(w->made);
    for (size_t i = 0; i < w->n_named; i++) {
        const struct safetensors_entry *t = &w->named[i].view;
        if (t->usable && (!largest || t->bytes > largest->bytes)) largest = t;
    }
    return largest ? largest->type : DTYPE_F32;
}
