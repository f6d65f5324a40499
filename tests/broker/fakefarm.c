/* fakefarm.c - how many jobs a second: a broker, N fake workers, M clients; images of a few bytes, everything durable.
 *
 *   fakefarm [WORKERS [CLIENTS [JOBS [ITEMS [BYTES]]]]]       (8 8 2000 16 2048); TMPDIR chooses the disk
 *
 * A bench, not a test: it prints jobs/s from the first SUBMIT to the last DONE seen, beside fdatasync of the same folder in the same run. */
#include "tests/broker/actors.h"

#include <fcntl.h>

static int by_value(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return x < y ? -1 : x > y;
}

static void print_fdatasync(const char *dir)
{
    enum { N = 200 };
    char    path[400], page[4096] = {1};
    int64_t us[N];
    int     fd;

    snprintf(path, sizeof path, "%s/sync", dir);
    fd = open(path, O_WRONLY | O_CREAT, 0666);
    for (int i = 0; i < N; i++) {
        int64_t began = now_us();

        if (pwrite(fd, page, sizeof page, (off_t)i * 4096) != 4096 || fdatasync(fd)) abort();
        us[i] = now_us() - began;
    }
    close(fd);
    qsort(us, N, sizeof *us, by_value);
    printf("fdatasync 4 KiB: p50 %.2f ms, p99 %.2f ms\n", (double)us[N / 2] / 1000, (double)us[N * 99 / 100] / 1000);
}

/* A worker that is done the moment it is asked; every image has bytes of its own. Until killed. */
static void work(const char *endpoint, uint32_t capacity, size_t n_bytes)
{
    struct actor  w;
    struct msg    m;
    struct lease *held = calloc(LEASES_MAX, sizeof *held);
    char         *bytes = calloc(1, n_bytes + 1);
    int64_t       beat_ms = now_ms();
    size_t        n_held = 0;

    actor_open(&w, endpoint, ROLE_WORKER);
    w.capacity = capacity;
    actor_hello(&w, NULL, 0);
    for (;;) {
        if (!w.n_stash) {
            arena_reset(&w.arena, 0);
            actor_read(&w, 500);
        }
        if (now_ms() - beat_ms > BEAT_MS) {
            struct msg b = {.kind = MSG_BEAT};

            beat_ms = now_ms();
            actor_send(&w, &b);
        }
        if (!actor_find(&w, 0, 0, &m)) continue;
        if (m.kind == MSG_LEASE) {
            struct msg o = {.kind = MSG_OFFER};

            if (n_held == LEASES_MAX) abort();
            held[n_held++] = m.lease;
            memcpy(bytes, &m.lease.task, 8);
            o.offer = offer_of(&m.lease, (struct str){bytes, n_bytes}, (struct str){0});
            actor_send(&w, &o);
        } else if (m.kind == MSG_OFFER_OK && m.offer_ok.verdict == OFFER_UPLOAD) {
            memcpy(bytes, &m.offer_ok.task, 8);
            actor_upload(&w, m.offer_ok.transfer[0], m.offer_ok.credit_bytes, (struct str){bytes, n_bytes}, n_bytes);
        } else if (m.kind == MSG_RESULT_OK) {
            for (size_t i = 0; i < n_held; i++)
                if (held[i].task == m.result_ok.task) held[i] = held[--n_held];
        } else if (m.kind == MSG_ERROR) {
            fprintf(stderr, "worker: %.*s\n", (int)m.error.text.len, m.error.text.at);
        }
    }
}

/* Submits jobs of n_items one after the other, each when the one before is DONE. */
static int order(const char *endpoint, int who, int n_jobs, uint32_t n_items)
{
    struct actor c;
    char         name[40];
    int          n_done = 0;
    uint64_t     cursor = 0;

    actor_open(&c, endpoint, ROLE_CLIENT);
    actor_hello(&c, NULL, 0);
    while (n_done < n_jobs) {
        struct msg got;
        uint64_t   job;

        arena_reset(&c.arena, 0);
        snprintf(name, sizeof name, "%d-%d", who, n_done);
        job = actor_submit(&c, name, n_items, 1, "", MSG_SUBMIT_OK).submit_ok.job;
        do {
            got = actor_events(&c, job, cursor, 30000);
            cursor = got.events_ok.next_cursor;
        } while (got.events_ok.job.n_done < n_items);
        n_done++;
    }
    actor_close(&c);
    return 0;
}

int main(int argc, char **argv)
{
    int         code = actors_main(argc, argv);
    const long  n[5] = {argc > 1 ? strtol(argv[1], NULL, 10) : 8, argc > 2 ? strtol(argv[2], NULL, 10) : 8, argc > 3 ? strtol(argv[3], NULL, 10) : 2000,
                        argc > 4 ? strtol(argv[4], NULL, 10) : 16, argc > 5 ? strtol(argv[5], NULL, 10) : 2048};
    struct farm f;
    pid_t       worker[256], client[256];
    int64_t     began_ms, took_ms;
    int         status, failed = 0;

    if (code >= 0) return code;
    if (n[0] < 1 || n[0] > 256 || n[1] < 1 || n[1] > 256 || n[2] < n[1] || n[3] < 1 || n[3] > SUBMIT_ITEMS_MAX || n[4] < 8 || n[4] > (16 << 20)) return 2;
    farm_open(&f);
    print_fdatasync(f.tmp.dir);
    farm_start(&f);
    for (int i = 0; i < n[0]; i++)
        if ((worker[i] = fork()) == 0) work(f.endpoint, 4, (size_t)n[4]);
    began_ms = now_ms();
    for (int i = 0; i < n[1]; i++)
        if ((client[i] = fork()) == 0) _exit(order(f.endpoint, i, (int)(n[2] / n[1]), (uint32_t)n[3]));
    for (int i = 0; i < n[1]; i++) failed += waitpid(client[i], &status, 0) != client[i] || status != 0;
    took_ms = now_ms() - began_ms;
    printf("%ld workers x 4 slots, %ld clients, %ld jobs of %ld images of %ld bytes: %.1f s, %.0f images/s, %.0f jobs/s, %d failed clients\n", n[0], n[1],
           n[2] / n[1] * n[1], n[3], n[4], (double)took_ms / 1000, (double)(n[2] / n[1] * n[1] * n[3]) * 1000 / (double)took_ms,
           (double)(n[2] / n[1] * n[1]) * 1000 / (double)took_ms, failed);
    for (int i = 0; i < n[0]; i++) {
        kill(worker[i], SIGKILL);
        waitpid(worker[i], &status, 0);
    }
    farm_close(&f);
    return failed != 0;
}
