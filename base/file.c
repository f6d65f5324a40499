/* file.c - files as whole things: mapped, read, written atomically.
 * Believes: the folder of the target can hold the temporary; rename(2) is atomic; a file is durable when it and its folder are synced.
 * Invariants: F1 no failure leaves a file under the final name.  F2 no failure leaves a temporary (kill -9 may).
 * F3 every sentence names the path.  F4 nothing blocks on a FIFO or a device: only regular files are opened.
 * Not here: what the bytes mean; names and trees of folders (folder.c). */
#include "base/file.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hash.h"

#define PATH_BYTES      4096
#define TEMP_NAME_BYTES 160 /* of the final name inside the temporary's name: the whole must fit NAME_MAX */

/* Opens a regular file to read; st receives its stat. Returns the descriptor or an ERR_*. */
static int open_regular(const char *path, struct stat *st, struct err *e)
{
    int rc = 0, fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0) return err_errno(e, errno == ENOENT || errno == ENOTDIR ? ERR_NOTFOUND : ERR_IO, "%s: cannot be opened", path);
    if (fstat(fd, st)) rc = err_errno(e, ERR_IO, "%s: cannot be examined", path);
    else if (!S_ISREG(st->st_mode)) rc = err_set(e, ERR_IO, "%s: is %s, not a regular file", path, S_ISDIR(st->st_mode) ? "a folder" : "special");
    if (rc == 0) return fd;
    close(fd);
    return rc;
}

int file_map_open(struct file_map *m, const char *path, struct err *e)
{
    struct stat st;
    void       *at = NULL;
    int         fd;

    memset(m, 0, sizeof *m);
    m->fd = -1;
    if (strlen(path) >= sizeof m->path) return err_set(e, ERR_LIMIT, "%.80s...: the path is longer than %zu bytes", path, sizeof m->path - 1);
    fd = open_regular(path, &st, e);
    if (fd < 0) return fd;
    if (st.st_size > 0) at = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED) {
        int rc = err_errno(e, ERR_IO, "%s: %lld bytes cannot be mapped", path, (long long)st.st_size);
        close(fd);
        return rc;
    }
    m->at = at;
    m->len = (size_t)st.st_size;
    m->fd = fd;
    memcpy(m->path, path, strlen(path) + 1);
    return 0;
}

void file_map_close(struct file_map *m)
{
    if (m->at) munmap((void *)(uintptr_t)m->at, m->len);
    if (m->path[0]) close(m->fd); /* a zeroed struct was never opened */
    memset(m, 0, sizeof *m);
    m->fd = -1;
}

int file_map_check(const struct file_map *m, struct err *e)
{
    struct stat st;

    if (fstat(m->fd, &st)) return err_errno(e, ERR_IO, "%s: cannot be examined", m->path);
    if (st.st_size < (off_t)m->len)
        return err_set(e, ERR_IO, "%s: was cut from %zu to %lld bytes while in use", m->path, m->len, (long long)st.st_size);
    return 0;
}

void file_map_drop(const struct file_map *m)
{
    if (m->len) (void)madvise((void *)(uintptr_t)m->at, m->len, MADV_DONTNEED); /* of a file: only a hint is lost when it is refused */
}

static int read_to_end(int fd, const char *path, struct buf *b, struct err *e)
{
    char part[16384];
    int  rc = 0;

    buf_clear(b);
    for (;;) { /* to the end, whatever st_size says: /proc files claim 0 */
        ssize_t n = read(fd, part, sizeof part);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) rc = err_errno(e, ERR_IO, "%s: cannot be read", path);
        if (n <= 0) break;
        rc = buf_put(b, part, (size_t)n);
        if (rc == ERR_LIMIT) err_set(e, rc, "%s: is larger than the limit of %zu bytes", path, b->max);
        else if (rc) err_set(e, rc, "%s: no memory to read it", path);
        if (rc) break;
    }
    if (rc) buf_clear(b);
    return rc;
}

int file_read(const char *path, struct buf *b, struct err *e)
{
    struct stat st;
    int         rc, fd = open_regular(path, &st, e);

    if (fd < 0) return fd;
    rc = read_to_end(fd, path, b, e);
    close(fd);
    return rc;
}

int file_read_guarded(const char *path, unsigned forbidden, struct buf *b, struct err *e)
{
    struct stat st;
    int         rc, fd = open_regular(path, &st, e); /* what is judged is what is read: one descriptor */

    if (fd < 0) return fd;
    if (st.st_uid != geteuid() && st.st_uid != 0)
        rc = err_set(e, ERR_STATE, "%s: belongs to user %u, not to this one (%u): not trusted", path, (unsigned)st.st_uid, (unsigned)geteuid());
    else if (st.st_mode & forbidden)
        rc = err_set(e, ERR_STATE, "%s: others may %s it (mode %04o): chmod %s '%s'", path, st.st_mode & forbidden & 0022 ? "write" : "read",
                     (unsigned)st.st_mode & 07777, forbidden & 0055 ? "600" : "go-w", path);
    else
        rc = read_to_end(fd, path, b, e);
    close(fd);
    return rc;
}

/* Splits path: dir receives the folder ("." when there is none); returns the name inside path. */
static const char *split(const char *path, char *dir, size_t dir_cap)
{
    const char *slash = strrchr(path, '/');
    size_t      n = slash ? (size_t)(slash - path) : 0;

    assert(n < dir_cap);
    if (!slash) memcpy(dir, ".", 2);
    else if (n == 0) memcpy(dir, "/", 2);
    else {
        memcpy(dir, path, n);
        dir[n] = 0;
    }
    return slash ? slash + 1 : path;
}

static int write_all(int fd, const char *at, size_t len)
{
    while (len) {
        ssize_t n = write(fd, at, len < (1u << 30) ? len : (1u << 30));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return -1;
        at += n;
        len -= (size_t)n;
    }
    return 0;
}

/* Gives the temporary its final name without replacing: one step where the file system can, else a second link. */
static int rename_new(const char *from, const char *to)
{
    if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0) return 0;
    if (errno != EINVAL && errno != ENOSYS) return -1;
    if (link(from, to)) return -1;
    unlink(from);
    return 0;
}

int file_write(const char *path, const void *at, size_t len, enum file_mode mode, struct err *e)
{
    char        dir[PATH_BYTES], temp[PATH_BYTES + 256], hex[9];
    const char *name;
    uint8_t     salt[4];
    struct stat st;
    bool        made = false;
    int         fd = -1, rc = 0;

    if (strlen(path) >= PATH_BYTES) return err_set(e, ERR_LIMIT, "%.80s...: the path is longer than %d bytes", path, PATH_BYTES - 1);
    name = split(path, dir, sizeof dir);
    if (!*name) return err_set(e, ERR_ARG, "'%s': is not the name of a file", path);
    if (stat(path, &st) == 0) {
        if (mode == FILE_NEW) return err_set(e, ERR_CONFLICT, "%s: exists already", path);
        if (!S_ISREG(st.st_mode)) return err_set(e, ERR_IO, "%s: is %s: not replaced by a file", path, S_ISDIR(st.st_mode) ? "a folder" : "special");
    }
    random_bytes(salt, sizeof salt);
    hex_of(salt, sizeof salt, hex);
    snprintf(temp, sizeof temp, "%s/.%.*s.%d-%s.tmp", dir, TEMP_NAME_BYTES, name, (int)getpid(), hex);
    fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0) return err_errno(e, ERR_IO, "%s: cannot be created", path);
    made = true;
    if (write_all(fd, at, len) || fsync(fd)) {
        rc = err_errno(e, ERR_IO, "%s: cannot be written (%zu bytes)", path, len);
        goto done;
    }
    rc = close(fd); /* a network file system may tell here that the disk was full */
    fd = -1;
    if (rc) {
        rc = err_errno(e, ERR_IO, "%s: cannot be written (%zu bytes)", path, len);
        goto done;
    }
    if (mode == FILE_NEW ? rename_new(temp, path) : rename(temp, path)) {
        if (mode == FILE_NEW && errno == EEXIST) rc = err_set(e, ERR_CONFLICT, "%s: exists already", path);
        else rc = err_errno(e, ERR_IO, "%s: cannot be given its final name", path);
        goto done;
    }
    made = false;
    if (file_sync_folder(dir)) rc = err_errno(e, ERR_IO, "%s: its folder cannot be synced", path);
done:
    if (fd >= 0) close(fd);
    if (made) unlink(temp);
    return rc;
}
