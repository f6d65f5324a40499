/* gather.c - fetch, verify, write; skip what is there.
 * Believes: a file under its final name is whole; a file with another content belongs to somebody. */
#include "client/gather.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/hash.h"

static int folder_check(const char *dir, struct err *e)
{
    char probe[GATHER_PATH_BYTES];
    int  fd, rc = file_join(probe, sizeof probe, dir, ".zfarm-probe-XXXXXX", e);

    if (rc) return rc;
    fd = mkostemp(probe, O_CLOEXEC);
    if (fd < 0) return err_errno(e, ERR_IO, "cannot write into the folder %.200s", dir);
    close(fd);
    unlink(probe);
    return 0;
}

int gather_open(struct gather *g, const char *dir, bool replace, struct err *e)
{
    int rc;

    memset(g, 0, sizeof *g);
    buf_init(&g->bytes, PART_MAX_BYTES);
    g->replace = replace;
    if (!dir[0]) return err_set(e, ERR_ARG, "the output folder's name is empty");
    if (strlen(dir) >= sizeof g->dir - 256) return err_set(e, ERR_LIMIT, "the output folder's name is too long");
    snprintf(g->dir, sizeof g->dir, "%s", dir);
    if (file_exists(dir) && !file_is_folder(dir)) return err_set(e, ERR_ARG, "%.200s is a file: images need a folder", dir);
    if ((rc = file_make_folder(dir, e))) return rc;
    file_drop_temps(dir);
    return folder_check(dir, e);
}

void gather_release(struct gather *g)
{
    buf_release(&g->bytes);
}

int gather_path(const struct gather *g, const char *name, char path[GATHER_PATH_BYTES], struct err *e)
{
    if (!strchr(name, '/')) return file_join(path, GATHER_PATH_BYTES, g->dir, name, e);
    if (strlen(name) >= GATHER_PATH_BYTES) return err_set(e, ERR_LIMIT, "the path %.100s... is too long", name);
    snprintf(path, GATHER_PATH_BYTES, "%s", name);
    return 0;
}

int gather_target_check(const char *path, struct err *e)
{
    char        dir[GATHER_PATH_BYTES];
    const char *slash = strrchr(path, '/');
    struct stat st;

    if (!path[0]) return err_set(e, ERR_ARG, "the output file's name is empty");
    if (strlen(path) >= sizeof dir) return err_set(e, ERR_LIMIT, "the path %.100s... is too long", path);
    if (lstat(path, &st) == 0 && !S_ISREG(st.st_mode)) {
        return err_set(e, ERR_ARG, "%.200s is %s, not a file that can be written", path,
                       S_ISDIR(st.st_mode) ? "a folder" : "a device or link");
    }
    snprintf(dir, sizeof dir, "%.*s", slash ? (int)(slash - path) : 1, slash ? path : ".");
    if (!dir[0]) snprintf(dir, sizeof dir, "/");
    if (!file_is_folder(dir)) return err_set(e, ERR_NOTFOUND, "the folder %.200s does not exist", dir);
    return folder_check(dir, e);
}

bool gather_same(const char *path, uint64_t size_bytes, const uint8_t sha256[32])
{
    struct file_map m = {0};
    uint8_t         sum[SHA256_BYTES];
    bool            same = false;

    if (file_map_open(&m, path, NULL)) return false;
    if (m.len == size_bytes) {
        sha256_of(m.at, m.len, sum);
        same = memcmp(sum, sha256, sizeof sum) == 0;
    }
    file_map_close(&m);
    return same;
}

int gather_part(struct gather *g, struct client *c, uint64_t task, const struct part *part, const char *path, bool *was_there,
                struct err *e)
{
    struct stat st;
    int         rc;

    *was_there = gather_same(path, part->size_bytes, part->sha256);
    if (*was_there) return 0;
    if (!g->replace && lstat(path, &st) == 0) {
        return err_set(e, ERR_CONFLICT, "%.250s is there with other content: move it away, or gather into another folder", path);
    }
    rc = client_fetch(c, task, part, &g->bytes, e);
    if (rc == ERR_FORMAT) rc = client_fetch(c, task, part, &g->bytes, e); /* once more: bytes can break on the way */
    if (rc) return rc;
    return file_write(path, g->bytes.at, g->bytes.len, g->replace ? FILE_REPLACE : FILE_NEW, e);
}
