/* powerloss.c - a disk that forgets, put before a program by LD_PRELOAD: it remembers what fsync, fdatasync and syncfs have made durable.
 * Under $POWERLOSS_ROOT, a file's bytes are durable when it was synced, a folder's names when the folder was; nothing else is. What is durable is kept in
 * $POWERLOSS_SHADOW: bytes of a file as its birth (inode and time), names of a folder as a list. After kill -9, collapse.c makes of both the folder that a
 * power cut would have left. $POWERLOSS_LIE: files whose names end so are not synced at all, but said to be: the negative control.
 * Believes: the program syncs through libc's functions. Not here: the mixing of durable and lost (collapse.c). */
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/chaos/powerloss.h"

static pthread_mutex_t mtx = PTHREAD_MUTEX_INITIALIZER;

static void fatal(const char *what)
{
    perror(what);
    abort(); /* a layer that cannot remember would make the test blind */
}

static int real_fsync(int fd)
{
    static int (*real)(int);
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "fdatasync");
    return real(fd);
}

/* What tmp says becomes what name says, at once. */
static void put_in_place(const char *tmp, const char *name)
{
    if (rename(tmp, name)) fatal(name);
}

static void keep_file(int fd, const char *shadow)
{
    static _Thread_local char block[1 << 16];
    char                      name[PATH_MAX], tmp[PATH_MAX];
    ssize_t                   n;
    off_t                     at = 0;

    birth_path(fd, shadow, name);
    snprintf(tmp, sizeof tmp, "%.4000s.tmp", name);
    int out = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    int in = open_again(fd); /* the descriptor may be for writing only */
    if (out < 0 || in < 0) fatal(tmp);
    while ((n = pread(in, block, sizeof block, at)) > 0) {
        if (pwrite(out, block, (size_t)n, at) != n) fatal(tmp);
        at += n;
    }
    if (n < 0) fatal(name);
    close(in);
    close(out);
    put_in_place(tmp, name);
}

static void keep_folder(const char *path, const char *root, const char *shadow)
{
    char           name[PATH_MAX], tmp[PATH_MAX], birth[64];
    DIR           *d = opendir(path);
    struct dirent *entry;

    names_path(path + strlen(root), shadow, name);
    snprintf(tmp, sizeof tmp, "%.4000s.tmp", name);
    FILE *out = fopen(tmp, "we");
    if (!d || !out) fatal(tmp);
    while ((entry = readdir(d))) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        if (birth_of(dirfd(d), entry->d_name, birth)) continue; /* gone meanwhile */
        fprintf(out, "%s %s\n", birth, entry->d_name);
    }
    closedir(d);
    if (fclose(out)) fatal(tmp);
    put_in_place(tmp, name);
}

/* Remembers what fd stands for; false when it lies outside the root, where the real thing is wanted. */
static int keep(int fd)
{
    const char *root = getenv("POWERLOSS_ROOT"), *shadow = getenv("POWERLOSS_SHADOW"), *lie = getenv("POWERLOSS_LIE");
    char        link[64], path[PATH_MAX];
    struct stat st;

    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (!root || !shadow || n < 0 || fstat(fd, &st)) return 0;
    path[n] = 0;
    if (strncmp(path, root, strlen(root)) || (path[strlen(root)] && path[strlen(root)] != '/')) return 0;
    if (lie && *lie && (size_t)n >= strlen(lie) && !strcmp(path + n - strlen(lie), lie)) return 1;
    pthread_mutex_lock(&mtx);
    if (S_ISDIR(st.st_mode))
        keep_folder(path, root, shadow);
    else
        keep_file(fd, shadow);
    pthread_mutex_unlock(&mtx);
    return 1;
}

int fsync(int fd)
{
    return keep(fd) ? 0 : real_fsync(fd);
}

int fdatasync(int fd)
{
    return keep(fd) ? 0 : real_fsync(fd);
}

int syncfs(int fd)
{
    (void)fd;
    fprintf(stderr, "powerloss: syncfs is not modelled\n");
    abort();
}
