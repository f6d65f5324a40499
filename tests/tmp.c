/* tmp.c - temporary folders of tests, on the usual file system or on one small enough to be filled. */
#include "tests/tmp.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "base/file.h"

static void must(bool ok, const char *what, const char *sentence)
{
    if (ok) return;
    fprintf(stderr, "tests/tmp: %s: %s\n", what, sentence);
    abort();
}

void tmp_open(struct tmp *t)
{
    struct err e = {0};
    int        rc;

    memset(t, 0, sizeof *t);
    rc = file_temp_folder("zfarm-test", t->dir, sizeof t->dir, &e);
    must(rc == 0, "folder", e.text);
}

bool tmp_open_small(struct tmp *t, size_t bytes)
{
    char size[64];

    tmp_open(t);
    snprintf(size, sizeof size, "size=%zu,mode=0700", bytes);
    t->mounted = mount("zfarm-test", t->dir, "tmpfs", MS_NOSUID | MS_NODEV, size) == 0;
    if (!t->mounted) tmp_close(t);
    return t->mounted;
}

void tmp_close(struct tmp *t)
{
    struct err e = {0};
    int        rc = t->mounted ? umount2(t->dir, MNT_DETACH) : 0; /* whoever looks at mounts just now does not keep it */

    must(rc == 0, t->dir, "cannot be unmounted");
    rc = file_remove_tree(t->dir, &e);
    must(rc == 0, "removing", e.text);
    t->mounted = false;
}

char *tmp_path(struct tmp *t, const char *name)
{
    char *path = t->path[t->next++ % 4];
    int   rc = file_join(path, sizeof t->path[0], t->dir, name, NULL);

    must(rc == 0, name, "the path is too long");
    return path;
}

void tmp_write(struct tmp *t, const char *name, const void *at, size_t len)
{
    FILE  *f = fopen(tmp_path(t, name), "wb");
    size_t n = f ? fwrite(at, 1, len, f) : 0;
    int    rc = f ? fclose(f) : -1;

    must(n == len && rc == 0, name, "cannot be written");
}

int tmp_n_files(const struct tmp *t)
{
    DIR *d = opendir(t->dir);
    int  n = -2; /* . and .. */

    must(d, t->dir, "cannot be listed");
    while (readdir(d)) n++;
    closedir(d);
    return n;
}
