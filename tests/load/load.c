/* load.c - how much the broker takes: its real process, and in this one process as many clients and workers as wanted.
 *
 *   load --broker build/bin/zfarm-broker [--clients N --workers N --slots N --tasks N --items N --bytes N ...]     (--help lists all)
 *
 * A bench, not a test: it prints figures, and fails only when the farm lost, doubled or garbled something. Clients submit jobs, follow
 * them by EVENTS, take the bytes (with the event, or by FETCH), check them against their SHA-256 and collect; workers answer a lease with
 * bytes that name its task, at once or after --sleep. run.sh makes the plan's L1 to L7 of it. TMPDIR chooses the disk.
 * One thread: sockets are watched by epoll, and each is read until it is empty after every event and every send (ZMQ_FD tells edges). */
#include "tests/load/load.h"

#include <argp.h>
#include <assert.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zmq.h>

#include "base/clock.h"
#include "base/hash.h"
#include "proto/keyring.h"

/* ---- the broker ---- */
static int64_t broker_start(struct load *l)
{
    char    fd[16], line[300];
    int     ready[2];
    int64_t began_us = now_us();
    ssize_t n;

    if (pipe(ready)) abort();
    snprintf(fd, sizeof fd, "%d", ready[1]);
    l->broker_pid = fork();
    if (l->broker_pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(ready[0]);
        if (l->o.keys) setenv("ZFARM_KEYS", l->keys, 1);
        execl(l->o.broker, l->o.broker, "--listen", l->endpoint, "--data", l->data, "--retention", l->o.retention, "--remember", l->o.remember, "--ready-fd", fd, "--log-level",
              l->o.log, "--crash-guard", "0", NULL);
        _exit(127);
    }
    close(ready[1]);
    n = read(ready[0], line, sizeof line - 1);
    line[n > 0 ? n : 0] = 0;
    close(ready[0]);
    if (n <= 0) load_fail("the broker did not start");
    snprintf(l->endpoint, sizeof l->endpoint, "%.*s", (int)strcspn(line, "\n"), line); /* the port it was given */
    return now_us() - began_us;
}

static void broker_end(struct load *l, int signo)
{
    int status;

    kill(l->broker_pid, signo);
    if (waitpid(l->broker_pid, &status, 0) != l->broker_pid) abort();
    if (signo == SIGTERM && status) load_fail("the broker ended with status %d", status);
}

/* Of /proc/PID/status, in KiB. */
long proc_kb(pid_t pid, const char *name)
{
    char  path[64], line[200];
    long  kb = 0;
    FILE *f;

    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, name, strlen(name)) == 0) kb = strtol(line + strlen(name) + 1, NULL, 10);
    if (f) fclose(f);
    return kb;
}

static double cpu_s(pid_t pid)
{
    char   path[64], text[1000] = "";
    char  *at;
    long   ticks[2] = {0};
    size_t n;
    FILE  *f;

    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    f = fopen(path, "r");
    n = f ? fread(text, 1, sizeof text - 1, f) : 0;
    if (f) fclose(f);
    text[n] = 0;
    at = strrchr(text, ')'); /* the 12th and 13th words behind it */
    for (int i = 0; at && i < 12; i++) at = strchr(at + 1, ' ');
    if (at) ticks[0] = strtol(at, &at, 10);
    if (at) ticks[1] = strtol(at, &at, 10);
    return (double)(ticks[0] + ticks[1]) / (double)sysconf(_SC_CLK_TCK);
}

int n_files(pid_t pid)
{
    char  cmd[100], line[32] = "";
    FILE *f;

    snprintf(cmd, sizeof cmd, "ls /proc/%d/fd | wc -l", (int)pid);
    f = popen(cmd, "r");
    if (!f || !fgets(line, sizeof line, f)) abort();
    pclose(f);
    return (int)strtol(line, NULL, 10);
}

/* ---- sockets ---- */
static void tie_connect(struct tie *t)
{
    struct load       *l = t->load;
    struct err         e = {0};
    struct epoll_event ev = {.events = EPOLLIN | EPOLLET, .data.ptr = t};
    size_t             len = sizeof t->fd;

    if (peer_connect_as(&t->peer, l->endpoint, !l->o.keys ? NULL : t->role == ROLE_WORKER ? &l->worker_key : &l->client_key, &e)) load_fail("%s", e.text);
    if (zmq_getsockopt(peer_socket(t->peer), ZMQ_FD, &t->fd, &len)) abort();
    if (epoll_ctl(l->epoll, EPOLL_CTL_ADD, t->fd, &ev)) abort();
}

static void say_hello(struct tie *t, struct held *held, size_t n_held)
{
    const struct opts *o = &t->load->o;
    struct msg         m = {.kind = MSG_HELLO, .correlation = 1, .hello = {.role = t->role, .major = WIRE_MAJOR, .minor = WIRE_MINOR, .version = str_of("load")}};
    struct model_info  model = {.name = str_of("turbo"), .profile = str_of("turbo"), .steps = 8};

    m.hello.name = str_of(t->name);
    memcpy(m.hello.instance, t->instance, KEY_BYTES);
    if (t->role == ROLE_WORKER) {
        m.hello.capacity = (uint32_t)o->slots;
        m.hello.max_batch = (uint32_t)(o->slots < BATCH_MAX ? o->slots : BATCH_MAX);
        m.hello.model = &model;
        m.hello.n_models = 1;
        m.hello.held = held;
        m.hello.n_held = n_held;
    }
    tie_send(t, &m);
}

void tie_open(struct load *l, struct tie *t, tie_f *on, enum role role)
{
    t->load = l;
    t->on = on;
    t->role = role;
    random_bytes(t->instance, KEY_BYTES);
    snprintf(t->name, sizeof t->name, "%s%zu@load:1", role == ROLE_WORKER ? "worker" : "client", l->n_ties);
    tie_connect(t);
    l->tie[l->n_ties++] = t;
    say_hello(t, NULL, 0);
}

void tie_again(struct tie *t, struct held *held, size_t n_held)
{
    epoll_ctl(t->load->epoll, EPOLL_CTL_DEL, t->fd, NULL);
    peer_close(t->peer);
    tie_connect(t);
    say_hello(t, held, n_held);
}

void tie_send(struct tie *t, const struct msg *m)
{
    struct err e = {0};
    int64_t    until = now_ms() + 30000;
    int        rc;

    while ((rc = peer_send(t->peer, NULL, m, &e)) == ERR_BUSY && now_ms() < until) {
        t->load->n_waits++;
        sleep_ms(1);
    }
    if (rc) load_fail("sending %s: %s", msg_kind_name(m->kind), e.text);
    t->hot = true; /* sending may have eaten the edge */
    t->load->n_hot++;
    t->load->n_messages++;
}

static void tie_read(struct tie *t)
{
    struct load *l = t->load;
    struct err   e = {0};
    struct msg   m;
    int          rc;

    t->hot = false;
    for (;;) {
        arena_reset(&l->in, 0);
        rc = peer_recv(t->peer, &l->in, NULL, &m, &e);
        if (rc == ERR_BUSY) break;
        if (rc) load_fail("receiving: %s", e.text);
        l->n_messages++;
        if (m.kind == MSG_ERROR && m.error.code != WIRE_BUSY && m.error.code != WIRE_NOT_FOUND)
            load_fail("the broker says: %.*s", (int)m.error.text.len, m.error.text.at);
        t->on(t, &m);
    }
    t->on(t, NULL);
}

/* The clients leave: what they submitted is the workers' and the broker's. */
static void ties_close(struct load *l)
{
    for (size_t i = 0; i < l->n_ties; i++) {
        epoll_ctl(l->epoll, EPOLL_CTL_DEL, l->tie[i]->fd, NULL);
        peer_close(l->tie[i]->peer);
    }
    l->n_ties = l->n_hot = 0;
    l->client = NULL;
}

/* One turn: what is readable, then what we spoke to; waits up to wait_ms when there was nothing. */
void load_turn(struct load *l, int wait_ms)
{
    struct epoll_event ev[256];
    int                n;

    if ((l->o.rate || l->o.sleep_ms) && wait_ms > 1) wait_ms = 1; /* what is due is sent when it is due, not when something comes */
    n = epoll_wait(l->epoll, ev, 256, l->n_hot ? 0 : wait_ms);

    for (int i = 0; i < n; i++) ((struct tie *)ev[i].data.ptr)->hot = true;
    l->n_hot = 0;
    for (size_t i = 0; i < l->n_ties; i++)
        if (l->tie[i]->hot) tie_read(l->tie[i]);
    workers_turn(l);
    clients_turn(l);
}

/* ---- figures ---- */
static int by_value(const void *a, const void *b)
{
    const uint32_t *x = a, *y = b;

    return *x < *y ? -1 : *x > *y;
}

void times_put(struct times *t, int64_t us)
{
    if (t->n == t->cap) {
        t->cap = t->cap ? 2 * t->cap : 1024;
        t->us = realloc(t->us, t->cap * sizeof *t->us);
        if (!t->us) abort();
    }
    t->us[t->n++] = us < 0 ? 0 : (uint32_t)us;
}

static void times_print(struct times *t, const char *what)
{
    if (!t->n) return;
    qsort(t->us, t->n, sizeof *t->us, by_value);
    printf("  %s: p50 %.2f ms, p99 %.2f ms, p99.9 %.2f ms, most %.2f ms (n=%zu)\n", what, (double)t->us[t->n / 2] / 1000,
           (double)t->us[t->n * 99 / 100] / 1000, (double)t->us[t->n * 999 / 1000] / 1000, (double)t->us[t->n - 1] / 1000, t->n);
    free(t->us);
    *t = (struct times){0};
}

static double own_cpu_s(void)
{
    return cpu_s(getpid());
}

void load_fail(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    fprintf(stderr, "load: ");
    vfprintf(stderr, fmt, ap);
    fprintf(stderr, "\n");
    va_end(ap);
    exit(1);
}

/* ---- keys ---- */
static void keys_make(struct load *l)
{
    struct keyring r = {0};
    struct key     server;
    struct err     e = {0};
    char           path[400];

    snprintf(l->keys, sizeof l->keys, "%s", l->tmp.dir);
    key_make(&server, "server", KEY_BROKER, NULL);
    key_make(&l->client_key, "clients", KEY_ADMIN, server.public_key);
    key_make(&l->worker_key, "workers", KEY_WORKER, server.public_key);
    snprintf(path, sizeof path, "%s/server.key", l->keys);
    if (key_write(&server, path, &e) || keyring_add(&r, "clients", KEY_ADMIN, l->client_key.public_key, &e) ||
        keyring_add(&r, "workers", KEY_WORKER, l->worker_key.public_key, &e))
        load_fail("%s", e.text);
    snprintf(path, sizeof path, "%s/accounts", l->keys);
    if (keyring_write(&r, path, &e)) load_fail("%s", e.text);
    keyring_release(&r);
}

/* ---- the run ---- */
enum { O_BROKER = 1000, O_CLIENTS, O_WORKERS, O_SLOTS, O_TASKS, O_ITEMS, O_OPEN, O_BYTES, O_SLEEP, O_RATE, O_HOLD, O_RESTART, O_FETCH, O_LOG, O_RETENTION, O_REMEMBER, O_SOAK, O_DISK, O_TCP, O_KEYS };

static const struct argp_option options[] = {
    {"broker", O_BROKER, "PROGRAM", 0, "zfarm-broker (beside this program)", 0},
    {"clients", O_CLIENTS, "N", 0, "clients (64)", 0},
    {"workers", O_WORKERS, "N", 0, "workers (64)", 0},
    {"slots", O_SLOTS, "N", 0, "leases a worker may hold (4)", 0},
    {"tasks", O_TASKS, "N", 0, "images in all (100000)", 0},
    {"items", O_ITEMS, "N", 0, "images in one job, each an item of its own (256)", 0},
    {"open", O_OPEN, "N", 0, "jobs, and SUBMITs, that a client has open at once (4)", 0},
    {"bytes", O_BYTES, "N", 0, "of a result (2048)", 0},
    {"sleep", O_SLEEP, "MS", 0, "a worker needs for a task (0)", 0},
    {"rate", O_RATE, "N", 0, "tasks submitted per second, by jobs of one (0: as fast as it goes)", 0},
    {"hold", O_HOLD, NULL, 0, "workers come when everything is submitted", 0},
    {"restart", O_RESTART, NULL, 0, "then kill -9 the broker first, and time its next start", 0},
    {"fetch", O_FETCH, NULL, 0, "FETCH every result instead of taking it with its event", 0},
    {"tcp", O_TCP, NULL, 0, "by tcp://127.0.0.1 (ipc)", 0},
    {"keys", O_KEYS, NULL, 0, "by tcp with CURVE keys: one admin's for all clients, one worker's for all workers", 0},
    {"retention", O_RETENTION, "HOURS", 0, "of the broker (24)", 0},
    {"remember", O_REMEMBER, "HOURS", 0, "of the broker (168)", 0},
    {"soak", O_SOAK, "MINUTES", 0, "with --rate: for so long, with random cancels and reconnects; a line each minute", 0},
    {"disk", O_DISK, NULL, 0, "only say what the disk does", 0},
    {"log", O_LOG, "LEVEL", 0, "of the broker (none)", 0},
    {0},
};

static error_t on_option(int key, char *arg, struct argp_state *state)
{
    struct opts *o = state->input;
    long         n = arg ? strtol(arg, NULL, 10) : 0;

    switch (key) {
    case O_BROKER: o->broker = arg; return 0;
    case O_CLIENTS: o->clients = (int)n; return 0;
    case O_WORKERS: o->workers = (int)n; return 0;
    case O_SLOTS: o->slots = (int)n; return 0;
    case O_TASKS: o->tasks = n; return 0;
    case O_ITEMS: o->items = n; return 0;
    case O_OPEN: o->open = (int)n; return 0;
    case O_BYTES: o->bytes = n; return 0;
    case O_SLEEP: o->sleep_ms = (int)n; return 0;
    case O_RATE: o->rate = (int)n; return 0;
    case O_HOLD: o->hold = true; return 0;
    case O_RESTART: o->hold = o->restart = true; return 0;
    case O_TCP: o->tcp = true; return 0;
    case O_KEYS: o->tcp = o->keys = true; return 0;
    case O_FETCH: o->fetch = true; return 0;
    case O_RETENTION: o->retention = arg; return 0;
    case O_REMEMBER: o->remember = arg; return 0;
    case O_SOAK: o->soak_min = (int)n; return 0;
    case O_LOG: o->log = arg; return 0;
    case O_DISK: disk_print(); exit(0);
    default: return ARGP_ERR_UNKNOWN;
    }
}

static void check_opts(const struct opts *o)
{
    if (o->clients < 1 || o->clients > 4000 || o->workers < 0 || o->workers > 1024 || o->slots < 1 || o->slots > LEASES_MAX) load_fail("so many actors are not had");
    if (o->tasks < o->clients || o->tasks > 10000000 || o->items < 1 || o->items > JOB_TASKS_MAX || o->open < 1 || o->open > OPEN_MAX) load_fail("such jobs are not had");
    if (o->soak_min && (o->soak_min < 0 || o->soak_min > 600 || o->rate < 1 || o->hold || !o->workers)) load_fail("--soak wants --rate, and workers from the beginning");
    if (o->bytes < 16 || o->bytes > BYTES_MAX || (o->rate && o->items != 1)) load_fail("16 to %d bytes; --rate wants --items 1", BYTES_MAX);
}

static void print_broker(const struct load *l, double took_s)
{
    double broker = cpu_s(l->broker_pid), own = own_cpu_s();

    printf("  broker: %.2f s of CPU (%.0f%% of a core), %ld MiB resident at most, %d files open; clients and workers: %.2f s of CPU; %" PRIu64
           " messages, %" PRIu64 " waits for a full queue\n",
           broker, 100 * broker / took_s, proc_kb(l->broker_pid, "VmHWM:") / 1024, n_files(l->broker_pid), own, l->n_messages, l->n_waits);
}

static void run_all(struct load *l)
{
    int64_t began_us = now_us(), until, drain_us = began_us, restart_us;
    double  s;

    clients_open(l);
    if (!l->o.hold) workers_open(l);
    if (l->o.hold) {
        while (l->n_acked < l->o.tasks) load_turn(l, 100);
        s = (double)(now_us() - began_us) / 1e6;
        printf("  submitted: %ld tasks in %.2f s = %.0f tasks/s; broker %ld MiB resident\n", l->o.tasks, s, (double)l->o.tasks / s, proc_kb(l->broker_pid, "VmRSS:") / 1024);
        times_print(&l->submit, "SUBMIT to SUBMIT_OK");
        if (l->o.restart) {
            broker_end(l, SIGKILL);
            ties_close(l);
            restart_us = broker_start(l);
            printf("  kill -9, started again: ready after %.2f s, %ld MiB resident\n", (double)restart_us / 1e6, proc_kb(l->broker_pid, "VmRSS:") / 1024);
        }
        drain_us = now_us();
        workers_open(l);
    }
    until = l->o.restart ? now_ms() + 5000 : INT64_MAX; /* after a restart a few seconds of work tell enough */
    while (l->o.workers && l->n_collected < l->o.tasks && now_ms() < until) load_turn(l, 100);
    if (!l->o.workers) {
        print_broker(l, (double)(now_us() - began_us) / 1e6);
        return;
    }
    s = (double)(now_us() - drain_us) / 1e6;
    printf("  %ld tasks done, fetched and collected in %.2f s = %.0f tasks/s, %.0f jobs/s; %ld lost, %ld twice, %ld garbled\n", l->n_collected, s,
           (double)l->n_collected / s, (double)l->n_jobs_over / s, l->o.restart ? 0 : l->o.tasks - l->n_collected, l->n_twice, l->n_garbled);
    if (l->o.restart) printf("  %" PRIu64 " leases given in the seconds after it\n", l->n_leases);
    times_print(&l->submit, "SUBMIT to SUBMIT_OK");
    times_print(&l->dispatch, "dispatch (task queued and a slot free, to LEASE here)");
    print_broker(l, (double)(now_us() - began_us) / 1e6);
    if (l->n_twice || l->n_garbled) exit(1);
}

int main(int argc, char **argv)
{
    static const struct argp argp = {.options = options, .parser = on_option, .doc = "How much the broker takes."};
    static struct load       l;
    char                     cmd[400], beside[4096];
    ssize_t                  n = readlink("/proc/self/exe", beside, sizeof beside - 20);

    l.o = (struct opts){.clients = 64, .workers = 64, .slots = 4, .tasks = 100000, .items = 256, .open = 4, .bytes = 2048, .retention = "24", .remember = "168", .log = "none"};
    argp_parse(&argp, argc, argv, 0, NULL, &l.o);
    if (l.o.soak_min > 0 && l.o.rate > 0) l.o.tasks = (long)l.o.soak_min * 60 * l.o.rate;
    check_opts(&l.o);
    if (n < 0) abort();
    beside[n] = 0;
    snprintf(strrchr(beside, '/'), 20, "/zfarm-broker");
    if (!l.o.broker) l.o.broker = beside;
    setvbuf(stdout, NULL, _IOLBF, 0);
    tmp_open(&l.tmp);
    snprintf(l.data, sizeof l.data, "%s/data", l.tmp.dir);
    snprintf(l.endpoint, sizeof l.endpoint, "ipc://%s/sock", l.tmp.dir);
    if (l.o.tcp) snprintf(l.endpoint, sizeof l.endpoint, "tcp://127.0.0.1:*");
    if (l.o.keys) keys_make(&l);
    l.epoll = epoll_create1(EPOLL_CLOEXEC);
    if (l.epoll < 0 || arena_init(&l.in, "load", MSG_ARENA_BYTES)) abort();
    broker_start(&l);
    if (l.o.soak_min) soak(&l);
    else run_all(&l);
    broker_end(&l, l.o.restart ? SIGKILL : SIGTERM);
    snprintf(cmd, sizeof cmd, "rm -rf %s", l.tmp.dir); /* sockets die with the process */
    return system(cmd) != 0;
}
