/* load.h - between load.c (the run), clients.c and workers.c: the load generator's own state. */
#ifndef TESTS_LOAD_H
#define TESTS_LOAD_H

#include <inttypes.h>
#include <stdarg.h>
#include <sys/types.h>

#include "base/arena.h"
#include "proto/peer.h"
#include "tests/tmp.h"

#define OPEN_MAX  64
#define BYTES_MAX (16 << 20)
#define TIES_MAX  5100

struct opts {
    const char *broker, *log, *retention, *remember;
    int         clients, workers, slots, open, sleep_ms, rate, soak_min;
    long        tasks, items, bytes;
    bool        hold, restart, fetch, tcp, keys;
};

struct load;
struct tie;
typedef void tie_f(struct tie *t, const struct msg *m); /* m NULL: all that was there has been read */

struct tie { /* one socket */
    struct load *load;
    struct peer *peer;
    int          fd;
    bool         hot; /* may have something to read */
    tie_f       *on;
    enum role    role;
    char         name[40];
    uint8_t      instance[KEY_BYTES];
};

struct times {
    uint32_t *us;
    size_t    n, cap;
};

struct load {
    struct opts    o;
    struct tmp     tmp;
    char           data[300], endpoint[300], keys[300]; /* keys: their folder, with --keys */
    struct key     client_key, worker_key;
    pid_t          broker_pid;
    int            epoll;
    struct tie    *tie[TIES_MAX];
    size_t         n_ties, n_hot;
    struct arena   in;
    struct client *client;
    struct worker *worker;
    long           n_given, n_acked, n_collected, n_canceled, n_twice, n_garbled, n_jobs_over; /* tasks, of all clients */
    uint64_t       n_messages, n_waits, n_leases;
    int64_t        pace_us; /* of --rate: when the next task is due */
    struct times   submit, dispatch;
    int64_t       *queued_us; /* of --rate: by job, when its SUBMIT_OK came */
    uint64_t       queued_cap;
};

void disk_print(void); /* disk.c */
void load_fail(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));
void load_turn(struct load *l, int wait_ms);
void tie_open(struct load *l, struct tie *t, tie_f *on, enum role role);
void tie_again(struct tie *t, struct held *held, size_t n_held); /* the same, on a new connection, which begins with its HELLO */
void tie_send(struct tie *t, const struct msg *m);
void times_put(struct times *t, int64_t us);

void soak(struct load *l); /* soak.c */
long proc_kb(pid_t pid, const char *name);
int  n_files(pid_t pid);

bool client_cancel_one(struct load *l, int i, uint32_t dice); /* some open job of client i. False: it has none that may be */
bool client_again(struct load *l, int i); /* False: it waits for an answer that it would not ask for again */
void worker_again(struct load *l, int i);

void clients_open(struct load *l);
void clients_turn(struct load *l);
void workers_open(struct load *l);
void workers_turn(struct load *l);

/* The bytes that a worker makes of a task: they begin with its number. */
struct str load_bytes(struct load *l, uint64_t task);

#endif
