/* failing.c - a disk whose n-th call fails, put before a program by LD_PRELOAD: open (for writing), write, pwrite, fsync, fdatasync, ftruncate, rename, unlink, mkdir
 * and posix_fallocate of what lies under $FAILING_ROOT are counted, and the $FAILING_AT-th, and with $FAILING_ON=1 all after it, fails as $FAILING_AS says:
 * eio; enospc (only calls that may need room, so no sync of a folder); short (half of a write's bytes are written, and that is said). Before powerloss.so it is in front of a disk that forgets, too.
 * As Linux does it, a sync that failed takes what was not yet on the disk with it: whatever is said of that file later, it is not synced any more.
 * A folder's fdatasync is not failed: that is SQLite, which does not look at what becomes of it; the house's own rooms say fsync.
 * $FAILING_SAID: a file that holds the count, and from the first failure on the name of the call (struct failing_said).
 * Believes: the program calls libc's functions. Not here: reads, which say nothing about promises (test_damage.c flips what they read). */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/chaos/failing.h"

#define LOST_MAX 256

static pthread_mutex_t      mtx = PTHREAD_MUTEX_INITIALIZER;
static struct failing_said *said;
static const char          *root;
static unsigned             at;
static bool                 on, as_short, as_full;
static ino_t                lost[LOST_MAX]; /* of files whose sync failed */
static size_t               n_lost;

__attribute__((constructor)) static void begin(void)
{
    const char *as = getenv("FAILING_AS"), *path = getenv("FAILING_SAID"), *number = getenv("FAILING_AT"), *all = getenv("FAILING_ON");
    int         fd;

    root = getenv("FAILING_ROOT");
    if (!root || !as || !path || !number) return;
    at = (unsigned)strtoul(number, NULL, 10);
    on = all && *all == '1';
    as_short = !strcmp(as, "short");
    as_full = !strcmp(as, "enospc");
    fd = (int)open(path, O_RDWR | O_CLOEXEC);
    said = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof *said, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (said == MAP_FAILED) abort(); /* a layer that cannot say what it did proves nothing */
    close(fd);
}

static bool under(const char *path)
{
    size_t n = strlen(root);

    return !strncmp(path, root, n) && (!path[n] || path[n] == '/');
}

static _Thread_local char named[PATH_MAX]; /* by mine() */

static bool mine(int fd)
{
    char    link[64], *path = named;
    ssize_t n;

    if (!said) return false;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    n = readlink(link, path, sizeof named - 1);
    if (n < 0) return false;
    path[n] = 0;
    return under(path);
}

/* One more call: is it the one? errno is set then. */
static bool fails(const char *call, const char *what)
{
    bool now;

    pthread_mutex_lock(&mtx);
    said->n_calls++;
    now = at && (said->n_calls == at || (on && said->n_calls > at));
    if (now && !said->n_failed++) snprintf(said->what, sizeof said->what, "%s %s", call, what + strlen(root));
    pthread_mutex_unlock(&mtx);
    if (now) errno = as_full ? ENOSPC : EIO;
    return now;
}

/* type real, the function that we stand before. */
#define REAL(name, type)            \
    static __typeof__(type) *real; \
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, name)

/* ---- files ---- */
static int open_or_fail(const char *name, const char *path, int flags, mode_t mode)
{
    REAL("open", int(const char *, int, ...));
    if (said && !as_short && under(path) && (flags & O_ACCMODE) != O_RDONLY && (!as_full || flags & O_CREAT) && fails(name, path)) return -1;
    return real(path, flags, mode);
}

#define OPEN(name)                                                              \
    int name(const char *path, int flags, ...)                                  \
    {                                                                           \
        va_list ap;                                                             \
        mode_t  mode;                                                           \
                                                                                \
        va_start(ap, flags);                                                    \
        mode = flags & (O_CREAT | O_TMPFILE) ? (mode_t)va_arg(ap, unsigned) : 0; \
        va_end(ap);                                                             \
        return open_or_fail(#name, path, flags, mode);                          \
    }
OPEN(open)
OPEN(open64)

int __open_2(const char *path, int flags);
int __open64_2(const char *path, int flags);
int __open_2(const char *path, int flags)
{
    return open_or_fail("open", path, flags, 0);
}
int __open64_2(const char *path, int flags)
{
    return open_or_fail("open", path, flags, 0);
}

ssize_t write(int fd, const void *bytes, size_t n)
{
    REAL("write", ssize_t(int, const void *, size_t));
    if (mine(fd) && (!as_short || n > 1) && fails("write", named)) {
        if (!as_short) return -1;
        n /= 2;
    }
    return real(fd, bytes, n);
}

static ssize_t pwrite_or_fail(int fd, const void *bytes, size_t n, off_t offset)
{
    REAL("pwrite", ssize_t(int, const void *, size_t, off_t));
    if (mine(fd) && (!as_short || n > 1) && fails("pwrite", named)) {
        if (!as_short) return -1;
        n /= 2;
    }
    return real(fd, bytes, n, offset);
}

ssize_t pwrite(int fd, const void *bytes, size_t n, off_t offset)
{
    return pwrite_or_fail(fd, bytes, n, offset);
}

ssize_t pwrite64(int fd, const void *bytes, size_t n, off64_t offset)
{
    return pwrite_or_fail(fd, bytes, n, offset);
}

static int truncate_or_fail(int fd, off_t size)
{
    REAL("ftruncate", int(int, off_t));
    return mine(fd) && !as_short && fails("ftruncate", named) ? -1 : real(fd, size);
}

int ftruncate(int fd, off_t size)
{
    return truncate_or_fail(fd, size);
}

int ftruncate64(int fd, off64_t size)
{
    return truncate_or_fail(fd, size);
}

static int allocate_or_fail(int fd, off_t from, off_t size)
{
    REAL("posix_fallocate", int(int, off_t, off_t));
    return mine(fd) && !as_short && fails("posix_fallocate", named) ? errno : real(fd, from, size);
}

int posix_fallocate(int fd, off_t from, off_t size)
{
    return allocate_or_fail(fd, from, size);
}

int posix_fallocate64(int fd, off64_t from, off64_t size)
{
    return allocate_or_fail(fd, from, size);
}

/* ---- what makes them durable ---- */
static int sync_or_fail(const char *name, int fd, int (*real)(int))
{
    struct stat st;
    bool        gone = false;

    if (!mine(fd) || fstat(fd, &st)) return real(fd);
    if (S_ISDIR(st.st_mode) && !strcmp(name, "fdatasync")) return real(fd);
    if (!as_short && !(as_full && S_ISDIR(st.st_mode)) && fails(name, named)) {
        pthread_mutex_lock(&mtx);
        if (n_lost == LOST_MAX) abort();
        lost[n_lost++] = st.st_ino;
        pthread_mutex_unlock(&mtx);
        errno = as_full ? ENOSPC : EIO;
        return -1;
    }
    pthread_mutex_lock(&mtx);
    for (size_t i = 0; i < n_lost; i++) gone |= lost[i] == st.st_ino;
    pthread_mutex_unlock(&mtx);
    return gone ? 0 : real(fd);
}

int fsync(int fd)
{
    REAL("fsync", int(int));
    return sync_or_fail("fsync", fd, real);
}

int fdatasync(int fd)
{
    REAL("fdatasync", int(int));
    return sync_or_fail("fdatasync", fd, real);
}

/* ---- names ---- */
int rename(const char *from, const char *to)
{
    REAL("rename", int(const char *, const char *));
    return said && !as_short && under(to) && fails("rename", to) ? -1 : real(from, to);
}

int unlink(const char *path)
{
    REAL("unlink", int(const char *));
    return said && !as_short && !as_full && under(path) && fails("unlink", path) ? -1 : real(path);
}

int mkdir(const char *path, mode_t mode)
{
    REAL("mkdir", int(const char *, mode_t));
    return said && !as_short && under(path) && fails("mkdir", path) ? -1 : real(path, mode);
}
