/* disk.c - what the disk itself does, beside every figure: fdatasync of 4 KiB, and files of 2 MiB made durable one by one and side by side. */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "tests/load/load.h"

#define SYNCS       2000
#define FILES       96
#define FILE_BYTES  (2 << 20)
#define FILE_THREADS 16

static int by_value(const void *a, const void *b)
{
    const int64_t *x = a, *y = b;

    return *x < *y ? -1 : *x > *y;
}

static void syncs(const char *dir)
{
    static int64_t us[SYNCS];
    char           path[400], page[4096] = {1};
    int            fd;

    snprintf(path, sizeof path, "%s/sync", dir);
    fd = open(path, O_WRONLY | O_CREAT, 0666);
    for (int i = 0; i < SYNCS; i++) {
        int64_t began = now_us();

        if (pwrite(fd, page, sizeof page, (off_t)i * 4096) != 4096 || fdatasync(fd)) load_fail("the disk does not take 4 KiB");
        us[i] = now_us() - began;
    }
    close(fd);
    qsort(us, SYNCS, sizeof *us, by_value);
    printf("fdatasync of 4 KiB, %d times: p50 %.2f ms, p99 %.2f ms\n", SYNCS, (double)us[SYNCS / 2] / 1000, (double)us[SYNCS * 99 / 100] / 1000);
}

struct share {
    const char *dir;
    int         from, step;
};

/* As broker/spool.c does it: written, synced, named, the folder synced. */
static void *files(void *arg)
{
    const struct share *s = arg;
    char               *bytes = calloc(1, FILE_BYTES), temp[420], path[420];

    for (int i = s->from; i < FILES; i += s->step) {
        int fd, dir;

        memcpy(bytes, &i, sizeof i);
        snprintf(temp, sizeof temp, "%s/%d.tmp", s->dir, i);
        snprintf(path, sizeof path, "%s/%d-%d", s->dir, s->step, i);
        fd = open(temp, O_WRONLY | O_CREAT, 0666);
        dir = open(s->dir, O_RDONLY | O_DIRECTORY);
        if (!bytes || fd < 0 || dir < 0 || write(fd, bytes, FILE_BYTES) != FILE_BYTES || fsync(fd) || rename(temp, path) || fsync(dir))
            load_fail("the disk does not take 2 MiB");
        close(fd);
        close(dir);
    }
    free(bytes);
    return NULL;
}

void disk_print(void)
{
    struct tmp   t;
    pthread_t    thread[FILE_THREADS];
    struct share share[FILE_THREADS];

    tmp_open(&t);
    syncs(t.dir);
    for (int n = 1; n <= FILE_THREADS; n *= FILE_THREADS) {
        int64_t began = now_us();

        for (int i = 0; i < n; i++) {
            share[i] = (struct share){t.dir, i, n};
            if (pthread_create(&thread[i], NULL, files, &share[i])) abort();
        }
        for (int i = 0; i < n; i++) pthread_join(thread[i], NULL);
        printf("files of 2 MiB made durable by %d thread%s: %.0f files/s\n", n, n > 1 ? "s" : "", FILES * 1e6 / (double)(now_us() - began));
    }
    tmp_close(&t);
}
