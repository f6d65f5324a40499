/* store.c - results in their two homes: who counts on a row, and the freshest bytes in memory.
 * Believes: T1 to T3 of store.h; loop thread for all but store_commit() (and spool_check()). A size decides the home for ever; rows of before the result table
 * name files whatever their size, so readers go by `home`. Not here: files (spool.c), SQL (journal_*.c). */
#include "broker/store.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>
#include <utlist.h>

struct kept {
    uint8_t        sha256[32];
    uint64_t       row;
    uint32_t       n_refs, n_bytes;
    char          *bytes; /* NULL: only on disk */
    struct kept   *prev, *next; /* in store.fresh while bytes */
    UT_hash_handle hh;
};

int store_open(struct store *s, const char *dir, struct journal *j, struct err *e)
{
    s->journal = j;
    s->next_row = journal_next_result(j);
    return spool_open(&s->spool, dir, e);
}

static void bytes_forget(struct store *s, struct kept *k)
{
    if (!k->bytes) return;
    DL_DELETE(s->fresh, k);
    s->fresh_bytes -= k->n_bytes;
    free(k->bytes);
    k->bytes = NULL;
}

static void kept_free(struct store *s, struct kept *k)
{
    bytes_forget(s, k);
    HASH_DEL(s->kept, k);
    free(k);
}

void store_release(struct store *s)
{
    struct kept *k, *next;

    HASH_ITER(hh, s->kept, k, next) kept_free(s, k);
    spool_release(&s->spool);
}

static struct kept *find(const struct store *s, const struct part *p)
{
    struct kept *k;

    HASH_FIND(hh, s->kept, p->sha256, 32, k);
    return k;
}

static struct kept *kept_new(struct store *s, const struct part *p, uint64_t row)
{
    struct kept *k = calloc(1, sizeof *k);

    if (!k) abort();
    memcpy(k->sha256, p->sha256, 32);
    k->row = row;
    HASH_ADD(hh, s->kept, sha256, 32, k);
    return k;
}

bool store_known(struct store *s, const struct part *p, uint64_t home)
{
    struct kept *k = find(s, p);

    if (!home) {
        spool_ref(&s->spool, p->sha256);
        return true;
    }
    if (home >= s->next_row || (k && k->row != home)) return false;
    if (!k) k = kept_new(s, p, home);
    k->n_refs++;
    return true;
}

size_t store_sweep(struct store *s)
{
    return spool_sweep(&s->spool);
}

/* ---- in ---- */
bool store_is_row(const struct part *p)
{
    return p->size_bytes <= RESULT_ROW_MAX_BYTES;
}

int store_begin(struct store *s, const struct part *p, struct spool_put **out, struct err *e)
{
    return spool_begin(&s->spool, p, out, e);
}

int store_commit(struct spool_put *put, struct err *e)
{
    return store_is_row(&put->part) ? 0 : spool_commit(put, e);
}

struct str store_bytes(const struct spool_put *put)
{
    assert(put->checked);
    return store_is_row(&put->part) ? (struct str){put->mem, (size_t)put->part.size_bytes} : (struct str){0};
}

uint64_t store_keep(struct store *s, struct journal_req *r, const struct part *p, struct str bytes)
{
    struct kept *k;

    if (!store_is_row(p)) {
        spool_ref(&s->spool, p->sha256);
        return 0;
    }
    assert(bytes.len == p->size_bytes);
    k = find(s, p);
    if (!k) {
        k = kept_new(s, p, s->next_row++);
        journal_put_result(r, k->row, bytes);
        k->bytes = malloc(bytes.len);
        if (!k->bytes) abort();
        memcpy(k->bytes, bytes.at, bytes.len);
        k->n_bytes = (uint32_t)bytes.len;
        DL_APPEND(s->fresh, k);
        s->fresh_bytes += bytes.len;
        while (s->fresh_bytes > STORE_FRESH_BYTES) bytes_forget(s, s->fresh);
    }
    k->n_refs++;
    return k->row;
}

/* ---- out ---- */
struct str store_peek(const struct store *s, const struct part *p, uint64_t home)
{
    const struct kept *k = home ? find(s, p) : NULL;

    return k && k->bytes ? (struct str){k->bytes, k->n_bytes} : (struct str){0};
}

int store_get(struct store *s, const struct part *p, uint64_t home, bool verify, struct stored *out, struct err *e)
{
    *out = (struct stored){.fd = -1};
    if (!home) return spool_get(&s->spool, p, verify, &out->fd, e);
    out->bytes = store_peek(s, p, home);
    return out->bytes.len ? 0 : ERR_BUSY;
}

void store_read(struct store *s, uint64_t home, journal_read_f *done, void *ctx)
{
    journal_read_result(s->journal, home, done, ctx);
}

bool store_right(const struct part *p, struct str bytes)
{
    uint8_t sha256[32];

    if (bytes.len != p->size_bytes) return false;
    sha256_of(bytes.at, bytes.len, sha256);
    return memcmp(sha256, p->sha256, 32) == 0;
}

/* ---- away ---- */
bool store_drop_row(struct store *s, struct journal_req *r, const struct part *p, uint64_t home)
{
    struct kept *k = home ? find(s, p) : NULL;

    if (!home) return false;
    assert(k && k->n_refs && k->row == home);
    if (--k->n_refs) return true;
    journal_forget_result(r, k->row);
    kept_free(s, k);
    return true;
}

void store_drop_file(struct store *s, const struct part *p)
{
    spool_unref(&s->spool, p->sha256);
}
