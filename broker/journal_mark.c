/* journal_mark.c - DIR/mark: how many commits were promised, kept apart from the journal, so that a journal that lost its end says so.
 * Believes: SQLite takes a WAL up to its first bad frame for all of it: a flipped bit, or a WAL that was removed, would silently forget
 * what was acknowledged. The mark is written after the fsync of the commit it counts, and never synced itself: a power cut may leave an
 * older mark, never a newer one. So a mark above the journal's own count means damage. A damaged mark proves nothing and is begun anew.
 * Not here: what is done about it (journal_db.c). */
#include "broker/journal_db.h"

#include <endian.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/log.h"

struct mark_bytes { /* as in the file */
    uint8_t  store[KEY_BYTES];
    uint64_t n_commits; /* little endian */
    uint32_t crc;       /* crc32c of all before it */
    uint32_t zero;
};

static uint32_t crc_of(const struct mark_bytes *m)
{
    return htole32(crc32c(0, m, offsetof(struct mark_bytes, crc)));
}

int mark_open(struct db *d, struct err *e)
{
    char              path[4096];
    struct mark_bytes m;
    ssize_t           n;
    uint64_t          promised;

    if (file_join(path, sizeof path, d->dir, "mark", e)) return e->code;
    d->mark_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (d->mark_fd < 0) return err_errno(e, ERR_IO, "opening %s", path);
    n = pread(d->mark_fd, &m, sizeof m, 0);
    if (n < 0) return err_errno(e, ERR_IO, "reading %s", path);
    if (n == 0) return 0; /* a journal of before, or a new one */
    if (n != sizeof m || m.crc != crc_of(&m)) {
        log_warn("mark_damaged", "file=%s next=\"begun anew: whether the journal has its end cannot be told this time\"", path);
        return 0;
    }
    if (memcmp(m.store, d->ids.store, KEY_BYTES) != 0)
        return err_set(e, ERR_FORMAT, "%s/journal.db is another journal than the one that was here, by %s: it is damaged, or was replaced; restore a copy of the "
                                      "folder, or remove %s to go on with this one", d->dir, path, path);
    promised = le64toh(m.n_commits);
    if (promised <= d->n_commits) return 0;
    return err_set(e, ERR_FORMAT, "%s/journal.db has %llu commits and %llu were promised: the end of journal.db-wal is damaged or missing; restore a copy "
                                  "of the folder, or remove %s to go on without what is lost", d->dir, (unsigned long long)d->n_commits,
                   (unsigned long long)promised, path);
}

void mark_set(struct db *d)
{
    struct mark_bytes m = {.n_commits = htole64(d->n_commits)};

    memcpy(m.store, d->ids.store, KEY_BYTES);
    m.crc = crc_of(&m);
    if (d->mark_fd >= 0 && pwrite(d->mark_fd, &m, sizeof m, 0) != sizeof m) { /* an older one is no lie */
        close(d->mark_fd);
        d->mark_fd = -1;
    }
}
