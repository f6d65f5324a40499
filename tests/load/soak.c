/* soak.c - hours of the same: work at a fixed rate, a job canceled now and then, a connection closed and begun anew; a line each minute of what the
 * broker takes. What must stay flat is judged by soak.sh; here only what was lost, doubled or garbled counts. RELIABILITY.md s.6.1 L12. */
#include <stdio.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/hash.h"
#include "tests/load/load.h"

#define CANCEL_MS  250 /* on average a job each, canceled somewhere between its SUBMIT and its end */
#define AGAIN_MS   500 /* a connection each, of a client or a worker in turn */
#define LAST_S     120 /* for what is still open at the end */

struct tally {
    long n_canceled, n_clients, n_workers; /* asked to be canceled; connections begun anew */
};

static uint64_t file_bytes(const struct load *l, const char *name)
{
    char        path[400];
    struct stat st;

    snprintf(path, sizeof path, "%s/%s", l->data, name);
    return stat(path, &st) == 0 ? (uint64_t)st.st_size : 0;
}

static void print_minute(const struct load *l, const struct tally *t, int minute)
{
    printf("  %4d %9ld %9ld %8ld %7ld %7ld %9.2f %6d %8.1f %8.1f\n", minute, l->n_acked, l->n_collected, l->n_canceled, t->n_clients, t->n_workers,
           (double)proc_kb(l->broker_pid, "VmRSS:") / 1024, n_files(l->broker_pid), (double)file_bytes(l, "journal.db-wal") / 1048576,
           (double)file_bytes(l, "journal.db") / 1048576);
}

static int64_t some_ms(int mean_ms)
{
    return 1 + (int64_t)(random_u64() % (2 * (uint64_t)mean_ms));
}

/* What is due: a cancel, a connection that ends. */
static void disturb(struct load *l, struct tally *t, int64_t now)
{
    static int64_t cancel_ms, again_ms;
    uint64_t       dice = random_u64();

    if (now >= cancel_ms) {
        cancel_ms = now + some_ms(CANCEL_MS);
        t->n_canceled += client_cancel_one(l, (int)(dice % (uint64_t)l->o.clients), (uint32_t)(dice >> 32));
    }
    if (now < again_ms) return;
    again_ms = now + some_ms(AGAIN_MS);
    if (dice >> 63) {
        worker_again(l, (int)(dice % (uint64_t)l->o.workers));
        t->n_workers++;
    } else {
        t->n_clients += client_again(l, (int)(dice % (uint64_t)l->o.clients));
    }
}

void soak(struct load *l)
{
    struct tally t = {0};
    int64_t      began = now_ms(), until = began + l->o.soak_min * 60000LL;
    int          minute = 0;

    printf("  %4s %9s %9s %8s %7s %7s %9s %6s %8s %8s\n", "min", "submitted", "collected", "canceled", "clients", "workers", "RSS MiB", "files", "WAL MiB", "db MiB");
    clients_open(l);
    workers_open(l);
    while (l->n_collected + l->n_canceled < l->o.tasks && now_ms() < until + LAST_S * 1000) {
        int64_t now = now_ms();

        load_turn(l, 20);
        if (now < until) disturb(l, &t, now);
        else l->o.tasks = l->n_given; /* no more */
        if (now < began + (minute + 1) * 60000LL) continue;
        print_minute(l, &t, ++minute);
        l->submit.n = l->dispatch.n = 0; /* their times of an hour are nobody's */
    }
    printf("  %ld jobs asked for, %ld done and collected, %ld canceled (%ld asked to be); %ld clients and %ld workers began anew; %ld lost, %ld twice, %ld garbled\n",
           l->o.tasks, l->n_collected, l->n_canceled, t.n_canceled, t.n_clients, t.n_workers, l->o.tasks - l->n_collected - l->n_canceled, l->n_twice, l->n_garbled);
    if (l->n_collected + l->n_canceled != l->o.tasks || l->n_twice || l->n_garbled) load_fail("something was lost, doubled or garbled");
}
