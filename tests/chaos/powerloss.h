/* powerloss.h - how the layer and collapse.c name what is durable: a file by its birth, a folder by its path. */
#ifndef TESTS_CHAOS_POWERLOSS_H
#define TESTS_CHAOS_POWERLOSS_H

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

/* "f1234-1699999999.123456789" or "d..." for a folder: an inode number comes again, an inode's time of birth does not. Not 0: there is no such file. */
static inline int birth_of(int dirfd, const char *name, char out[64])
{
    struct statx s;
    if (statx(dirfd, name, AT_SYMLINK_NOFOLLOW | (*name ? 0 : AT_EMPTY_PATH), STATX_INO | STATX_BTIME | STATX_TYPE, &s)) return -1;
    snprintf(out, 64, "%c%llu-%lld.%u", S_ISDIR(s.stx_mode) ? 'd' : 'f', (unsigned long long)s.stx_ino, (long long)s.stx_btime.tv_sec,
             (unsigned)s.stx_btime.tv_nsec);
    return 0;
}

static inline void birth_path(int fd, const char *shadow, char out[PATH_MAX])
{
    char birth[64];
    if (birth_of(fd, "", birth)) snprintf(birth, sizeof birth, "unknown");
    snprintf(out, PATH_MAX, "%.3000s/%s", shadow, birth);
}

/* The list of a folder's names; path as seen from the root, "" or "/a/b". */
static inline void names_path(const char *path, const char *shadow, char out[PATH_MAX])
{
    int n = snprintf(out, PATH_MAX, "%.2000s/names", shadow);
    for (; *path && n < PATH_MAX - 1; path++) out[n++] = *path == '/' ? '+' : *path;
    out[n] = 0;
}

static inline int open_again(int fd)
{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    return open(link, O_RDONLY | O_CLOEXEC);
}

#endif
