/* collapse.c - collapse LIVE SHADOW OUT SEED NEW: the folder OUT that a power cut would have left of LIVE, SHADOW being what powerloss.c remembers; and
 * NEW, the memory that OUT begins with: all that survived is durable.
 * Names: those that were durable, each change since then kept or lost by chance. Bytes: those that were durable, each sector written since then kept or lost
 * by chance, the length any between the two. A file that was never synced is empty, or has what chance kept. Folders never synced in are what chance made. */
#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/chaos/powerloss.h"

#define SECTOR 512

static const char *live_root, *shadow_root;
static uint64_t    state;

static bool chance(void) /* splitmix64 */
{
    uint64_t z = state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    return (z ^ z >> 27) >> 40 & 1;
}

static void fatal(const char *what)
{
    perror(what);
    exit(1);
}

/* "%s%s/%s"; sep "" where nothing stands between. */
static void join(char out[PATH_MAX], const char *a, const char *b, const char *sep, const char *name)
{
    int n = snprintf(out, PATH_MAX, "%s%s%s%s", a, b, sep, name);
    if (n < 0 || n >= PATH_MAX) fatal("a path is too long");
}

static uint8_t *slurp(const char *path, size_t *len) /* NULL, 0 when there is none */
{
    FILE    *f = fopen(path, "rb");
    uint8_t *at = NULL;
    *len = 0;
    if (!f) return NULL;
    if (fseek(f, 0, SEEK_END)) fatal(path);
    *len = (size_t)ftell(f);
    rewind(f);
    at = calloc(1, *len + 1);
    if (!at || fread(at, 1, *len, f) != *len) fatal(path);
    fclose(f);
    return at;
}

/* live: where the bytes are now, or NULL when the file is gone; birth: whose durable bytes. */
static void make_file(const char *live, const char *birth, const char *out)
{
    char     kept[PATH_MAX];
    size_t   n_old, n_now = 0, n;
    uint8_t *now = live ? slurp(live, &n_now) : NULL, *old, *mix;

    join(kept, shadow_root, "", "/", birth);
    old = slurp(kept, &n_old);
    n = !now || chance() ? n_old : n_now;
    if (now && n_now > n_old && chance()) n = n_old + (n_now - n_old) / 2 / SECTOR * SECTOR;
    if (now && n > n_old && n > n_now) n = n_now;
    mix = calloc(1, n + 1);
    if (!mix) fatal(out);
    for (size_t at = 0; at < n; at += SECTOR) {
        size_t len = n - at < SECTOR ? n - at : SECTOR;
        bool   has_old = at + len <= n_old, has_now = now && at + len <= n_now;
        if (has_now && (!has_old || memcmp(old + at, now + at, len)) && chance())
            memcpy(mix + at, now + at, len);
        else if (at < n_old)
            memcpy(mix + at, old + at, at + len <= n_old ? len : n_old - at);
    }
    FILE *f = fopen(out, "wb");
    if (!f || fwrite(mix, 1, n, f) != n || fclose(f)) fatal(out);
    free(now);
    free(old);
    free(mix);
}

struct name {
    char birth[64], name[256];
    bool durable, there;
};

static struct name *find(struct name *list, size_t n, const char *birth, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (!strcmp(list[i].name, name) && !strcmp(list[i].birth, birth)) return &list[i];
    return NULL;
}

/* Every (name, birth) that was durable or is there now. */
static struct name *names_of(const char *path, size_t *n)
{
    char           list[PATH_MAX], live[PATH_MAX], line[400], birth[64];
    struct name   *all = calloc(65536, sizeof *all), *at;
    struct dirent *entry;

    *n = 0;
    if (!all) fatal("memory");
    names_path(path, shadow_root, list);
    FILE *f = fopen(list, "r");
    while (f && fgets(line, sizeof line, f) && *n < 65536) {
        at = &all[(*n)++];
        if (sscanf(line, "%63s %255[^\n]", at->birth, at->name) != 2) fatal(list);
        at->durable = true;
    }
    if (f) fclose(f);
    join(live, live_root, path, "", "");
    DIR *d = opendir(live);
    while (d && (entry = readdir(d)) && *n < 65536) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..") || birth_of(dirfd(d), entry->d_name, birth)) continue;
        at = find(all, *n, birth, entry->d_name);
        if (!at) {
            at = &all[(*n)++];
            snprintf(at->birth, sizeof at->birth, "%s", birth);
            snprintf(at->name, sizeof at->name, "%s", entry->d_name);
        }
        at->there = true;
    }
    if (d) closedir(d);
    return all;
}

/* Where the bytes of a birth are now, under whatever name in this folder; false when nowhere. */
static bool lives_as(const struct name *all, size_t n, const char *birth, const char *path, char out[PATH_MAX])
{
    for (size_t i = 0; i < n; i++)
        if (all[i].there && !strcmp(all[i].birth, birth)) {
            join(out, live_root, path, "/", all[i].name);
            return true;
        }
    return false;
}

static void make_folder(const char *path, const char *out)
{
    size_t       n;
    struct name *all = names_of(path, &n);
    char         sub[PATH_MAX], to[PATH_MAX], live[PATH_MAX];

    if (mkdir(out, 0777) && errno != EEXIST) fatal(out);
    for (size_t i = 0; i < n; i++) {
        bool changed = all[i].durable != all[i].there;
        bool kept = changed ? chance() == all[i].there : true; /* a new name: kept by chance; a lost one: not yet lost by chance */
        if (!kept) continue;
        join(to, out, "", "/", all[i].name);
        if (!access(to, F_OK)) continue; /* the other file of that name was chosen */
        join(sub, path, "", "/", all[i].name);
        if (all[i].birth[0] == 'd')
            make_folder(sub, to);
        else
            make_file(lives_as(all, n, all[i].birth, path, live) ? live : NULL, all[i].birth, to);
    }
    for (size_t i = 0; i < n; i++) { /* a rename loses the old file or keeps it, but a name that was durable and is there never vanishes */
        join(to, out, "", "/", all[i].name);
        if (!all[i].durable || !access(to, F_OK)) continue;
        bool replaced = false;
        for (size_t k = 0; k < n; k++) replaced |= k != i && !strcmp(all[k].name, all[i].name);
        if (replaced) make_file(lives_as(all, n, all[i].birth, path, live) ? live : NULL, all[i].birth, to);
    }
    free(all);
}

/* ---- OUT is durable as it stands ---- */

static void remember(const char *root, const char *path, const char *shadow)
{
    char           here[PATH_MAX], list[PATH_MAX], to[PATH_MAX], from[PATH_MAX], birth[64];
    struct dirent *entry;

    join(here, root, path, "", "");
    names_path(path, shadow, list);
    DIR  *d = opendir(here);
    FILE *out = fopen(list, "w");
    if (!d || !out) fatal(list);
    while ((entry = readdir(d))) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        if (birth_of(dirfd(d), entry->d_name, birth)) fatal(entry->d_name);
        fprintf(out, "%s %s\n", birth, entry->d_name);
        join(from, path, "", "/", entry->d_name);
        if (birth[0] == 'd') {
            remember(root, from, shadow);
            continue;
        }
        size_t   n;
        join(from, here, "", "/", entry->d_name);
        join(to, shadow, "", "/", birth);
        uint8_t *bytes = slurp(from, &n);
        FILE    *f = fopen(to, "wb");
        if (!f || fwrite(bytes, 1, n, f) != n || fclose(f)) fatal(to);
        free(bytes);
    }
    closedir(d);
    if (fclose(out)) fatal(list);
}

int main(int argc, char **argv)
{
    if (argc != 6) {
        fprintf(stderr, "usage: collapse LIVE SHADOW OUT SEED NEW\n");
        return 2;
    }
    live_root = argv[1];
    shadow_root = argv[2];
    state = strtoull(argv[4], NULL, 10);
    make_folder("", argv[3]);
    if (mkdir(argv[5], 0777)) fatal(argv[5]);
    remember(argv[3], "", argv[5]);
    return 0;
}
