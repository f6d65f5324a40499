/* folder.c - names and folders: the second half of file.h.
 * Believes: a folder tree that we remove was made by us and is at most DEPTH_MAX deep; links in it are removed, never followed.
 * Not here: contents of files (file.c). */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/file.h"

#define PATH_BYTES     4096
#define DEPTH_MAX      32 /* one descriptor is held for each level */
#define NAME_BYTES_MAX 200

bool file_exists(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0;
}

bool file_is_folder(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

int file_sync_folder(const char *dir)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc;

    if (fd < 0) return errno == EACCES ? 0 : -1; /* a folder one may write but not list: its names cannot be synced by us */
    rc = fsync(fd);
    if (rc && (errno == EINVAL || errno == EROFS)) rc = 0; /* file systems without folder sync */
    close(fd);
    return rc;
}

/* path's own name, in the folder above it, is on the disk. */
static int sync_name(const char *path)
{
    char   above[PATH_BYTES];
    size_t n = strlen(path);

    while (n && path[n - 1] == '/') n--;
    while (n && path[n - 1] != '/') n--;
    snprintf(above, sizeof above, "%.*s", n ? (int)n : 1, n ? path : ".");
    return file_sync_folder(above);
}

int file_make_folder(const char *path, struct err *e)
{
    char   part[PATH_BYTES];
    size_t n = strlen(path);
    bool   made;

    if (n == 0) return err_set(e, ERR_ARG, "the name of the folder is empty");
    if (n >= sizeof part) return err_set(e, ERR_LIMIT, "%.80s...: the path is longer than %d bytes", path, PATH_BYTES - 1);
    memcpy(part, path, n + 1);
    for (size_t i = 1; i <= n; i++) {
        if (part[i] != '/' && part[i] != 0) continue;
        part[i] = 0;
        made = mkdir(part, 0777) == 0;
        if (!made) {
            int why = errno;

            if (!file_is_folder(part)) {
                if (why == EEXIST) return err_set(e, ERR_IO, "%s: a folder is needed here but this is a file", part);
                errno = why;
                return err_errno(e, ERR_IO, "%s: the folder cannot be made", part);
            }
        }
        /* the last one in any case: who made it a moment ago may have been killed before this */
        if ((made || i == n) && sync_name(part)) return err_errno(e, ERR_IO, "%s: the folder's name cannot be made durable", part);
        part[i] = path[i];
    }
    return 0;
}

/* Removes all in the folder name under parent_fd, then the folder. root is for the sentence. */
static int remove_folder(int parent_fd, const char *name, const char *root, int depth, struct err *e)
{
    int            fd, rc = 0;
    DIR           *dir;
    struct dirent *d;

    if (depth > DEPTH_MAX) return err_set(e, ERR_LIMIT, "%s: is more than %d folders deep", root, DEPTH_MAX);
    fd = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir) {
        rc = err_errno(e, ERR_IO, "%s: folder '%s' cannot be opened", root, name);
        if (fd >= 0) close(fd);
        return rc;
    }
    while (rc == 0 && (d = readdir(dir))) {
        struct stat st;

        if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0) continue;
        if (fstatat(fd, d->d_name, &st, AT_SYMLINK_NOFOLLOW)) {
            if (errno != ENOENT) rc = err_errno(e, ERR_IO, "%s: '%s' cannot be examined", root, d->d_name);
        } else if (S_ISDIR(st.st_mode)) {
            rc = remove_folder(fd, d->d_name, root, depth + 1, e);
        } else if (unlinkat(fd, d->d_name, 0) && errno != ENOENT) {
            rc = err_errno(e, ERR_IO, "%s: '%s' cannot be removed", root, d->d_name);
        }
    }
    closedir(dir);
    if (rc == 0 && unlinkat(parent_fd, name, AT_REMOVEDIR) && errno != ENOENT)
        rc = err_errno(e, ERR_IO, "%s: folder '%s' cannot be removed", root, name);
    return rc;
}

int file_remove_tree(const char *path, struct err *e)
{
    struct stat st;

    if (lstat(path, &st)) return errno == ENOENT ? 0 : err_errno(e, ERR_IO, "%s: cannot be examined", path);
    if (!S_ISDIR(st.st_mode)) return err_set(e, ERR_ARG, "%s: is not a folder", path);
    return remove_folder(AT_FDCWD, path, path, 1, e);
}

/* The writer of ".<name>.<pid>-<8 hex>.tmp"; 0 when the name is no such thing. */
static pid_t temp_writer(const char *name)
{
    const char *dash = strrchr(name, '-'), *dot = dash;
    int64_t     pid;

    if (name[0] != '.' || !dash || strlen(dash) != 1 + 8 + 4 || strspn(dash + 1, "0123456789abcdef") != 8 || strcmp(dash + 9, ".tmp")) return 0;
    while (dot > name && *dot != '.') dot--;
    if (dot == name || str_to_i64((struct str){dot + 1, (size_t)(dash - dot - 1)}, &pid) || pid < 1 || pid > INT32_MAX) return 0;
    return (pid_t)pid;
}

void file_drop_temps(const char *dir)
{
    DIR           *d = opendir(dir);
    struct dirent *entry;

    while (d && (entry = readdir(d))) {
        pid_t pid = temp_writer(entry->d_name);
        if (pid && kill(pid, 0) && errno == ESRCH) unlinkat(dirfd(d), entry->d_name, 0);
    }
    if (d) closedir(d);
}

int file_temp_folder(const char *prefix, char *path, size_t path_cap, struct err *e)
{
    const char *tmp = secure_getenv("TMPDIR");
    int         n;

    if (!tmp || tmp[0] != '/') tmp = "/tmp";
    n = snprintf(path, path_cap, "%s/%s-XXXXXX", tmp, prefix);
    if (n < 0 || (size_t)n >= path_cap) return err_set(e, ERR_LIMIT, "TMPDIR is too long: a temporary name may have %zu bytes", path_cap - 1);
    if (!mkdtemp(path)) return err_errno(e, ERR_IO, "%s: the temporary folder cannot be made (TMPDIR names another place)", path);
    return 0;
}

int file_join(char *path, size_t path_cap, const char *dir, const char *name, struct err *e)
{
    size_t n = strlen(dir);
    int    len = snprintf(path, path_cap, "%s%s%s", dir, n && dir[n - 1] != '/' ? "/" : "", name);

    if (len >= 0 && (size_t)len < path_cap) return 0;
    return err_set(e, ERR_LIMIT, "%.80s.../%.80s: the path is longer than %zu bytes", dir, name, path_cap - 1);
}

bool file_name_ok(struct str name)
{
    if (name.len == 0 || name.len > NAME_BYTES_MAX || name.at[0] == '.' || name.at[0] == '-' || !str_utf8_ok(name)) return false;
    for (size_t i = 0; i < name.len; i++) {
        unsigned char c = (unsigned char)name.at[i];
        if (c < 0x20 || c == 0x7F || c == '/' || c == '\\') return false;
        if (c == 0xC2 && (unsigned char)name.at[i + 1] < 0xA0) return false; /* U+0080..U+009F */
    }
    return true;
}

int64_t file_free_bytes(const char *path)
{
    struct statvfs v;

    if (statvfs(path, &v)) return -1;
    return (int64_t)(v.f_bavail * v.f_frsize);
}
