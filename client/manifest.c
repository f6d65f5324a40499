/* manifest.c - a batch's memory in its own folder.
 * Believes: the file was ours once, and anything may have happened to it since: every line is checked.
 * Not here: deciding what to do with it (cmd_batch.c). */
#include "client/manifest.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/file.h"
#include "base/hash.h"

#define PATH_BYTES     4096
#define MANIFEST_BYTES ((size_t)64 << 20)
#define FIRST_LINE     "zfarm-batch 1"

/* Opens for appending, alone. */
static int hold(struct manifest *m, const char *path, struct err *e)
{
    m->fd = open(path, O_RDWR | O_APPEND | O_CLOEXEC | O_NOFOLLOW);
    if (m->fd < 0) return err_errno(e, ERR_IO, "opening %.200s failed", path);
    if (flock(m->fd, LOCK_EX | LOCK_NB) != 0)
        return err_set(e, ERR_BUSY, "another zfarm is working on this batch (%.200s is locked)", path);
    return 0;
}

static int room(struct manifest *m, struct err *e)
{
    m->done = calloc(m->n_images ? m->n_images : 1, sizeof *m->done);
    return m->done ? 0 : err_set(e, ERR_NOMEM, "no memory for %" PRIu32 " images", m->n_images);
}

int manifest_begin(struct manifest *m, const char *dir, struct err *e)
{
    char       path[PATH_BYTES], key[2 * KEY_BYTES + 1], spec[SHA256_HEX];
    struct buf b;
    int        rc;

    m->fd = -1;
    m->done = NULL;
    hex_of(m->key, KEY_BYTES, key);
    hex_of(m->spec, SHA256_BYTES, spec);
    buf_init(&b, 4096);
    rc = file_join(path, sizeof path, dir, MANIFEST_NAME, e);
    if (rc == 0)
        rc = buf_printf(&b, FIRST_LINE "\nkey %s\nspec %s\nseed %" PRIu64 "\nimages %" PRIu32 "\nsource %s\nbroker %s\n", key, spec,
                        m->seed, m->n_images, m->source, m->broker);
    if (rc == 0) rc = file_write(path, b.at, b.len, FILE_NEW, e);
    if (rc == ERR_CONFLICT)
        rc = err_set(e, rc, "%.200s holds a batch already: --resume continues it, another folder begins a new one", dir);
    if (rc == 0) rc = room(m, e);
    if (rc == 0) rc = hold(m, path, e);
    buf_release(&b);
    return rc;
}

/* "word rest": the rest when the line begins with word. */
static bool after(struct str line, const char *word, struct str *rest)
{
    size_t n = strlen(word);

    if (!str_starts(line, word) || line.len <= n || line.at[n] != ' ') return false;
    *rest = str_sub(line, n + 1, line.len);
    return true;
}

static bool hex_field(struct str s, uint8_t *out, size_t len)
{
    char text[SHA256_HEX];

    if (s.len != 2 * len || s.len >= sizeof text) return false;
    memcpy(text, s.at, s.len);
    text[s.len] = '\0';
    return hex_to(text, out, len) == 0;
}

static bool done_line(struct manifest *m, struct str rest)
{
    const char          *a = rest.len ? memchr(rest.at, ' ', rest.len) : NULL, *b;
    uint64_t             index;
    struct manifest_done d;

    if (!a) return false;
    b = memchr(a + 1, ' ', rest.len - (size_t)(a + 1 - rest.at));
    if (!b) return false;
    if (str_to_u64((struct str){rest.at, (size_t)(a - rest.at)}, &index) || index >= m->n_images) return false;
    if (str_to_u64((struct str){a + 1, (size_t)(b - a - 1)}, &d.size_bytes)) return false;
    if (!hex_field((struct str){b + 1, rest.len - (size_t)(b + 1 - rest.at)}, d.sha256, SHA256_BYTES)) return false;
    m->done[index] = d;
    return true;
}

static int line_read(struct manifest *m, struct str line, uint32_t n, unsigned *seen, struct err *e)
{
    struct str rest;
    uint64_t   x = 0;
    bool       ok = true;

    if (n == 1)
        ok = str_is(line, FIRST_LINE);
    else if (after(line, "key", &rest))
        ok = hex_field(rest, m->key, KEY_BYTES), *seen |= 1;
    else if (after(line, "spec", &rest))
        ok = hex_field(rest, m->spec, SHA256_BYTES), *seen |= 2;
    else if (after(line, "seed", &rest))
        ok = str_to_u64(rest, &m->seed) == 0, *seen |= 4;
    else if (after(line, "images", &rest)) {
        ok = str_to_u64(rest, &x) == 0 && x > 0 && x <= JOB_TASKS_MAX && !m->done;
        if (ok) {
            m->n_images = (uint32_t)x;
            if (room(m, e)) return ERR_NOMEM;
            *seen |= 8;
        }
    } else if (after(line, "broker", &rest)) {
        ok = rest.len < sizeof m->broker;
        if (ok) snprintf(m->broker, sizeof m->broker, "%.*s", (int)rest.len, rest.at);
    } else if (after(line, "done", &rest)) {
        ok = m->done && done_line(m, rest);
    } /* a word of a later version says nothing to us */
    return ok ? 0 : err_set(e, ERR_FORMAT, "line %" PRIu32 " is not what a batch's manifest holds", n);
}

static int lines_read(struct manifest *m, const struct buf *b, size_t *whole, struct err *e)
{
    unsigned seen = 0;
    int      rc = 0;

    *whole = 0;
    for (uint32_t n = 1; rc == 0; n++) {
        struct str  rest = str_sub(buf_str(b), *whole, b->len);
        const char *nl = rest.len ? memchr(rest.at, '\n', rest.len) : NULL;

        if (!nl) break;
        rc = line_read(m, (struct str){rest.at, (size_t)(nl - rest.at)}, n, &seen, e);
        *whole += (size_t)(nl - rest.at) + 1;
    }
    if (rc == 0 && seen != 15) rc = err_set(e, ERR_FORMAT, "not a whole batch manifest");
    return rc;
}

int manifest_resume(struct manifest *m, const char *dir, struct err *e)
{
    char       path[PATH_BYTES];
    struct buf b;
    size_t     whole = 0;
    int        rc;

    memset(m, 0, sizeof *m);
    m->fd = -1;
    buf_init(&b, MANIFEST_BYTES);
    rc = file_join(path, sizeof path, dir, MANIFEST_NAME, e);
    if (rc == 0 && !file_exists(path)) rc = err_set(e, ERR_NOTFOUND, "%.200s holds no batch", dir);
    if (rc == 0) rc = hold(m, path, e);
    if (rc == 0) rc = file_read(path, &b, e);
    if (rc == 0) {
        rc = lines_read(m, &b, &whole, e);
        if (rc) err_in(e, "%.150s", path);
    }
    if (rc == 0 && whole < b.len && ftruncate(m->fd, (off_t)whole) != 0) rc = err_errno(e, ERR_IO, "cutting %.200s failed", path);
    buf_release(&b);
    if (rc) manifest_release(m);
    return rc;
}

int manifest_done(struct manifest *m, uint32_t index, const struct part *part, struct err *e)
{
    char text[160], sum[SHA256_HEX];
    int  n;

    hex_of(part->sha256, SHA256_BYTES, sum);
    n = snprintf(text, sizeof text, "done %" PRIu32 " %" PRIu64 " %s\n", index, part->size_bytes, sum);
    if (write(m->fd, text, (size_t)n) != n) return err_errno(e, ERR_IO, "writing the batch's manifest failed");
    return 0;
}

void manifest_release(struct manifest *m)
{
    if (m->fd >= 0) close(m->fd);
    free(m->done);
    m->fd = -1;
    m->done = NULL;
}
