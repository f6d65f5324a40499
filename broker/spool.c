/* spool.c - content-addressed files: temp, hash, fsync, rename, fsync of the folder.
 * Believes: one process (the journal's lock); loop thread for all but spool_check() and spool_commit(). */
#include "broker/spool.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uthash.h>

#include "base/file.h"

struct blob {
    uint8_t        sha256[32];
    uint32_t       n_refs;
    UT_hash_handle hh;
};

static void path_of(const struct spool *s, const uint8_t sha256[32], char *path, size_t cap)
{
    char hex[SHA256_HEX];

    hex_of(sha256, 32, hex);
    snprintf(path, cap, "%s/%.2s/%s", s->dir, hex, hex);
}

static void turn_init(struct spool_turn *t)
{
    pthread_mutex_init(&t->mtx, NULL);
    t->lost = false;
}

int spool_open(struct spool *s, const char *dir, struct err *e)
{
    int rc = file_join(s->dir, sizeof s->dir, dir, "blobs", e);

    s->os = (struct spool_os){write, fsync, rename};
    s->blob = NULL;
    s->n_temp = 0;
    if (rc == 0) rc = file_make_folder(s->dir, e);
    for (int i = 0; i < SPOOL_FOLDERS; i++) {
        atomic_init(&s->folder[i], false);
        turn_init(&s->turn[i]);
    }
    turn_init(&s->turn_of_dir);
    return rc;
}

void spool_release(struct spool *s)
{
    struct blob *b, *next;

    HASH_ITER(hh, s->blob, b, next)
    {
        HASH_DEL(s->blob, b);
        free(b);
    }
    for (int i = 0; i < SPOOL_FOLDERS; i++) pthread_mutex_destroy(&s->turn[i].mtx);
    pthread_mutex_destroy(&s->turn_of_dir.mtx);
}

/* ---- receiving ---- */
static int disk_err(struct err *e, const char *what, const char *path)
{
    bool full = errno == ENOSPC || errno == EDQUOT;

    return err_errno(e, full ? ERR_LIMIT : ERR_IO, "%s %s", what, path);
}

static int make_temp(struct spool_put *put, struct err *e)
{
    put->fd = open(put->temp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0666);
    return put->fd < 0 ? disk_err(e, "creating", put->temp) : 0;
}

static int write_all(struct spool_put *put, struct str bytes, struct err *e)
{
    for (size_t done = 0; done < bytes.len;) {
        ssize_t n = put->spool->os.write(put->fd, bytes.at + done, bytes.len - done);

        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return disk_err(e, "writing", put->temp);
        done += (size_t)n;
    }
    return 0;
}

int spool_begin(struct spool *s, const struct part *p, struct spool_put **out, struct err *e)
{
    struct spool_put *put = calloc(1, sizeof *put);
    int               rc;

    if (!put) return err_set(e, ERR_NOMEM, "no memory to receive a result");
    put->spool = s;
    put->part = *p;
    path_of(s, p->sha256, put->path, sizeof put->path);
    snprintf(put->temp, sizeof put->temp, "%s/%llu.tmp", s->dir, (unsigned long long)++s->n_temp);
    put->fd = -1;
    if (p->size_bytes <= SPOOL_MEM_BYTES && !(put->mem = malloc((size_t)p->size_bytes))) abort();
    if (!put->mem && (rc = make_temp(put, e))) {
        free(put);
        return rc;
    }
    spool_ref(s, p->sha256); /* nobody may remove the name while we are about to make it */
    *out = put;
    return 0;
}

int spool_write(struct spool_put *put, uint64_t offset, struct str bytes, struct err *e)
{
    int rc;

    if (offset != put->have_bytes)
        return err_set(e, ERR_PROTO, "a chunk at offset %llu came where %llu was due", (unsigned long long)offset,
                       (unsigned long long)put->have_bytes);
    if (bytes.len > put->part.size_bytes - put->have_bytes)
        return err_set(e, ERR_PROTO, "a chunk runs past the %llu bytes offered", (unsigned long long)put->part.size_bytes);
    if (put->mem)
        memcpy(put->mem + put->have_bytes, bytes.at, bytes.len);
    else if ((rc = write_all(put, bytes, e)))
        return rc;
    put->have_bytes += bytes.len;
    return 0;
}

/* Of all there is. */
static int hash_file(int fd, const char *path, uint8_t sha256[32], struct err *e)
{
    char          page[1 << 16];
    struct sha256 sha;
    off_t         at = 0;
    ssize_t       n;

    sha256_init(&sha);
    while ((n = pread(fd, page, sizeof page, at)) > 0) {
        sha256_put(&sha, page, (size_t)n);
        at += n;
    }
    if (n < 0) return err_errno(e, ERR_IO, "reading %s", path);
    sha256_take(&sha, sha256);
    return 0;
}

int spool_check(struct spool_put *put, struct err *e)
{
    uint8_t got[32];
    int     rc;

    if (put->have_bytes != put->part.size_bytes)
        return err_set(e, ERR_FORMAT, "the result ended after %llu of %llu bytes", (unsigned long long)put->have_bytes,
                       (unsigned long long)put->part.size_bytes);
    if (put->mem) sha256_of(put->mem, (size_t)put->part.size_bytes, got);
    else if ((rc = hash_file(put->fd, put->temp, got, e))) return rc;
    if (memcmp(got, put->part.sha256, 32) != 0) return err_set(e, ERR_FORMAT, "the result's bytes do not have the SHA-256 it was offered with");
    put->checked = true;
    return 0;
}

static int sync_folder(const struct spool_os *os, struct spool_turn *turn, const char *folder, struct err *e)
{
    int dir, rc = 0;

    pthread_mutex_lock(&turn->mtx);
    dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (turn->lost) rc = err_set(e, ERR_IO, "syncing the folder %s failed before", folder);
    else if (dir < 0 || os->fsync(dir)) rc = disk_err(e, "syncing the folder", folder);
    turn->lost |= rc == ERR_IO;
    pthread_mutex_unlock(&turn->mtx);
    if (dir >= 0) close(dir);
    return rc;
}

/* The folder of put, durable itself: whoever does not know that it is syncs its name, also when another made it a moment ago. */
static int make_folder(struct spool_put *put, const char *folder, struct err *e)
{
    struct spool *s = put->spool;
    atomic_bool  *known = &s->folder[put->part.sha256[0]];
    int           rc;

    if (atomic_load(known)) return 0;
    if (mkdir(folder, 0777) && errno != EEXIST) return disk_err(e, "making the folder", folder);
    rc = sync_folder(&s->os, &s->turn_of_dir, s->dir, e);
    if (rc == 0) atomic_store(known, true);
    return rc;
}

int spool_commit(struct spool_put *put, struct err *e)
{
    const struct spool_os *os = &put->spool->os;
    char                   folder[4096];
    int                    rc;

    assert(put->checked);
    snprintf(folder, sizeof folder, "%.*s", (int)(strrchr(put->path, '/') - put->path), put->path);
    if (put->mem && ((rc = make_temp(put, e)) || (rc = write_all(put, (struct str){put->mem, (size_t)put->part.size_bytes}, e)))) return rc;
    if ((rc = make_folder(put, folder, e))) return rc;
    if (os->fsync(put->fd)) return disk_err(e, "syncing", put->temp);
    if (os->rename(put->temp, put->path)) return disk_err(e, "naming", put->path);
    rc = sync_folder(os, &put->spool->turn[put->part.sha256[0]], folder, e);
    put->committed = rc == 0;
    return rc;
}

void spool_end(struct spool_put *put)
{
    if (!put) return;
    if (put->fd >= 0) {
        close(put->fd);
        if (!put->committed) unlink(put->temp);
    }
    free(put->mem);
    spool_unref(put->spool, put->part.sha256);
    free(put);
}

/* ---- counting ---- */
static struct blob *blob_find(const struct spool *s, const uint8_t sha256[32])
{
    struct blob *b;

    HASH_FIND(hh, s->blob, sha256, 32, b);
    return b;
}

void spool_ref(struct spool *s, const uint8_t sha256[32])
{
    struct blob *b = blob_find(s, sha256);

    if (!b) {
        b = calloc(1, sizeof *b);
        if (!b) abort();
        memcpy(b->sha256, sha256, 32);
        HASH_ADD(hh, s->blob, sha256, 32, b);
    }
    b->n_refs++;
}

void spool_unref(struct spool *s, const uint8_t sha256[32])
{
    struct blob *b = blob_find(s, sha256);
    char         path[4096];

    assert(b && b->n_refs);
    if (--b->n_refs) return;
    path_of(s, sha256, path, sizeof path);
    unlink(path);
    HASH_DEL(s->blob, b);
    free(b);
}

/* ---- reading ---- */
static int verify(int fd, const struct part *p, const char *path, struct err *e)
{
    uint8_t got[32];

    if (hash_file(fd, path, got, e)) return ERR_FORMAT; /* what cannot be read is as good as damaged */
    return memcmp(got, p->sha256, 32) == 0 ? 0 : err_set(e, ERR_FORMAT, "%s was damaged on disk", path);
}

int spool_get(struct spool *s, const struct part *p, bool want_verify, int *fd, struct err *e)
{
    char        path[4096];
    struct stat st;
    int         rc = 0;

    path_of(s, p->sha256, path, sizeof path);
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (*fd < 0) return err_errno(e, errno == ENOENT ? ERR_NOTFOUND : ERR_IO, "opening %s", path);
    if (fstat(*fd, &st))
        rc = err_errno(e, ERR_IO, "looking at %s", path);
    else if ((uint64_t)st.st_size != p->size_bytes)
        rc = err_set(e, ERR_FORMAT, "%s has %lld bytes, should have %llu", path, (long long)st.st_size, (unsigned long long)p->size_bytes);
    else if (want_verify)
        rc = verify(*fd, p, path, e);
    if (rc == 0) return 0;
    close(*fd);
    *fd = -1;
    if (rc == ERR_FORMAT) unlink(path);
    return rc;
}

/* ---- sweeping ---- */
static size_t sweep_folder(struct spool *s, const char *folder)
{
    DIR           *d = opendir(folder);
    struct dirent *at;
    size_t         n = 0;

    while (d && (at = readdir(d))) {
        uint8_t sha256[32];
        char    path[4096];
        size_t  len = strlen(at->d_name);
        bool    is_blob = len == 64 && hex_to(at->d_name, sha256, 32) == 0;
        bool    is_temp = len > 4 && strcmp(at->d_name + len - 4, ".tmp") == 0;

        if (!is_temp && (!is_blob || blob_find(s, sha256))) continue;
        if (file_join(path, sizeof path, folder, at->d_name, NULL) == 0 && unlink(path) == 0) n++;
    }
    if (d) closedir(d);
    return n;
}

size_t spool_sweep(struct spool *s)
{
    size_t n = sweep_folder(s, s->dir);
    char   path[4096];

    for (int i = 0; i < SPOOL_FOLDERS; i++) {
        snprintf(path, sizeof path, "%s/%02x", s->dir, i);
        n += sweep_folder(s, path);
    }
    return n;
}
