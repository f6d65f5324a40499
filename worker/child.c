/* child.c - one engine process at a time. Believes: the child may crash, hang, or send nonsense; none of that reaches the session.
 * Invariants: C1 there is at most one child.  C2 on_died comes exactly once per child.  C3 messages sent before a death are heard before it.
 *             C4 a task given to it is among its flights until it is answered or the child dies. */
#include "worker/child.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "worker/engine_child.h"

#define SAY_LOADING_MS 2000
#define MESSAGES_MAX   64 /* of one turn */

extern char **environ;

void child_init(struct child *c, const struct worker_conf *conf, struct loop *l, const struct child_events *events, void *ctx)
{
    memset(c, 0, sizeof *c);
    c->conf = conf;
    c->loop = l;
    c->events = *events;
    c->ctx = ctx;
    c->fd = -1;
    c->backoff_ms = conf->watch.backoff_ms;
}

static char *or_empty(const char *text)
{
    return (char *)(uintptr_t)(text ? text : "");
}

static int spawn(const struct worker_conf *conf, int link_fd, pid_t *pid)
{
    static const char *const   levels[] = {"debug", "info", "warn", "error", "none"};
    char                       threads[16], line[PLACE_LINE_BYTES];
    char                      *argv[] = {(char *)(uintptr_t)"zfarm-worker", (char *)(uintptr_t)ENGINE_CHILD_ARG, or_empty(conf->model_dir),
                                         (char *)(uintptr_t)conf->device, (char *)(uintptr_t)conf->precision, threads,
                                         (char *)(uintptr_t)levels[conf->log_level], or_empty(conf->dit), or_empty(conf->text_encoder),
                                         or_empty(conf->vae), or_empty(conf->tokenizer), or_empty(conf->profile),
                                         or_empty(conf->vram_budget), line, NULL};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t          attr;
    sigset_t                   none, all;
    int                        rc;

    snprintf(threads, sizeof threads, "%d", conf->n_threads);
    place_line(&conf->place, line);
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attr);
    posix_spawnattr_setsigmask(&attr, &none); /* ours are blocked for the signalfd */
    posix_spawnattr_setsigdefault(&attr, &all);
    posix_spawnattr_setpgroup(&attr, 0); /* a ^C is the supervisor's: it decides what is still finished */
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
    rc = posix_spawn_file_actions_adddup2(&actions, link_fd, ENGINE_CHILD_FD);
    if (!rc) rc = posix_spawn_file_actions_addclosefrom_np(&actions, ENGINE_CHILD_FD + 1);
    if (!rc) rc = posix_spawn(pid, "/proc/self/exe", &actions, &attr, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attr);
    return rc;
}

static void unlink_fd(struct child *c)
{
    if (c->fd < 0) return;
    loop_fd_gone(c->loop, c->fd);
    close(c->fd);
    c->fd = -1;
}

/* ---- tasks in it ---- */

/* It left no words about whose fault it was. */
static void blame_guess(struct child *c)
{
    if (c->death.n_blamed == 0) c->death.n_blamed = flights_blame(&c->flights, c->death.blamed);
}

static void blame(struct child *c, uint64_t task)
{
    if (c->death.n_blamed) return;
    c->death.blamed[0] = task;
    c->death.n_blamed = 1;
}

/* A task is answered. False: it was none of its. */
static bool answered(struct child *c, const struct link_head *h)
{
    struct flight *f = flights_find(&c->flights, h->task, h->epoch);

    if (f) flights_drop(&c->flights, f);
    return f != NULL;
}

/* The process is to end: with a cause that no signal number would tell. */
static void end(struct child *c, int signo, const char *words)
{
    if (c->state == CHILD_DOWN || c->state == CHILD_DYING) return;
    blame_guess(c);
    c->state = CHILD_DYING;
    snprintf(c->words, sizeof c->words, "%.*s", (int)sizeof c->words - 1, words);
    kill(c->pid, signo);
    c->kill_ms = INT64_MAX;
}

static void loading_said(struct child *c, const struct link_head *h, int64_t now)
{
    if (now - c->said_ms < SAY_LOADING_MS && h->permille < 1000) return;
    c->said_ms = now;
    log_info("loading", "done=%u%% what=\"%.100s\"", h->permille / 10, c->payload);
}

static void opened(struct child *c, int64_t now)
{
    struct link_model *m = &c->model;

    memcpy(m, c->payload, sizeof *m);
    m->profile[sizeof m->profile - 1] = m->device[sizeof m->device - 1] = m->about[sizeof m->about - 1] = 0;
    if (m->n_ranks > PLACE_RANKS_MAX) {
        end(c, SIGKILL, "the engine names more devices than there can be");
        return;
    }
    for (uint32_t i = 0; i < m->n_ranks; i++) m->rank[i].device[sizeof m->rank[i].device - 1] = 0;
    flights_opened(&c->flights, m);
    c->loads = (struct link_ranks){0};
    c->loads_new = false;
    c->opened_once = c->is_open = true;
    c->state = CHILD_UP;
    c->events.on_opened(c->ctx, now);
}

static void loads_said(struct child *c)
{
    struct link_ranks said;

    memcpy(&said, c->payload, sizeof said);
    for (uint32_t i = 0; i < said.n_ranks && i < PLACE_RANKS_MAX; i++)
        if (said.rank[i].busy_permille > 1000 || said.rank[i].used_bytes > RANK_MEMORY_BYTES || said.rank[i].total_bytes > RANK_MEMORY_BYTES) said.n_ranks = 0;
    if (said.n_ranks == 0 || said.n_ranks != c->model.n_ranks) {
        log_warn("engine_ranks", "why=\"what it says of its devices cannot be\"");
        return;
    }
    for (uint32_t i = 0; i < said.n_ranks; i++)
        log_debug("load", "rank=%u device=%s busy_permille=%u used_bytes=%" PRIu64 " total_bytes=%" PRIu64, i, c->model.rank[i].device,
                  said.rank[i].busy_permille, said.rank[i].used_bytes, said.rank[i].total_bytes);
    c->loads = said;
    c->loads_new = true;
}

static void pixels(struct child *c, struct flight *f, const struct link_head *h, int64_t now)
{
    if (flights_writing(&c->flights) == FLIGHT_WRITING_MAX) {
        end(c, SIGKILL, "the engine makes pictures without writing them");
        return;
    }
    flights_pixels(&c->flights, f, now);
    c->events.on_pixels(c->ctx, h, now);
}

static void failed(struct child *c, const struct link_head *h, int64_t now)
{
    if (h->code == ERR_DEVICE) { /* it ends itself now; if it cannot, it is ended */
        c->state = CHILD_DYING;
        snprintf(c->words, sizeof c->words, "%.300s", c->payload);
        c->kill_ms = now + c->conf->watch.kill_ms;
    }
    c->events.on_failed(c->ctx, h, c->payload, now);
}

/* Of one task. */
static void hear_of(struct child *c, struct flight *f, const struct link_head *h, int bytes_fd, int64_t now)
{
    switch (h->kind) {
    case LINK_STEP:
        if (f->writing) return;
        if (flights_step(&c->flights, f, h, now)) c->events.on_step(c->ctx, h, now);
        else end(c, SIGKILL, "the engine has a task on a device that it did not name");
        return;
    case LINK_PIXELS:
        if (!f->writing) pixels(c, f, h, now);
        return;
    case LINK_CRASHED: blame(c, h->task); return; /* the last words before a signal */
    case LINK_RESULT:
        flights_written(&c->flights, f, now);
        answered(c, h);
        c->backoff_ms = c->conf->watch.backoff_ms;
        c->events.on_result(c->ctx, h, bytes_fd, now);
        return;
    case LINK_FAILED:
        answered(c, h);
        failed(c, h, now);
        return;
    default: return;
    }
}

static void hear(struct child *c, const struct link_head *h, int bytes_fd, int64_t now)
{
    struct flight *f = flights_find(&c->flights, h->task, h->epoch);

    if (f) {
        hear_of(c, f, h, bytes_fd, now);
        return;
    }
    if (h->kind == LINK_RANKS && c->state == CHILD_UP) loads_said(c);
    if (c->state != CHILD_LOADING) return;
    c->heard_ms = now;
    if (h->kind == LINK_LOADING) loading_said(c, h, now);
    if (h->kind == LINK_OPENED) opened(c, now);
    if (h->kind == LINK_OPEN_FAILED) end(c, SIGKILL, c->payload); /* it is ending by itself */
}

/* Up to MESSAGES_MAX messages; false when the link is closed or no longer makes sense. */
static bool drain(struct child *c, int64_t now)
{
    for (int i = 0; i < MESSAGES_MAX && c->fd >= 0; i++) {
        struct link_head h;
        struct err       e = {0};
        int              bytes_fd, rc = link_recv(c->fd, &h, c->payload, &bytes_fd, true, &e);

        if (rc == 0) return true;
        if (rc < 0) {
            if (rc == ERR_PROTO) end(c, SIGKILL, e.text);
            return false;
        }
        c->payload[h.payload_bytes] = 0;
        if (h.kind != LINK_OPENED && h.kind != LINK_RANKS)
            for (uint32_t k = 0; k < h.payload_bytes; k++)
                if (!c->payload[k]) c->payload[k] = '?';
        hear(c, &h, bytes_fd, now);
        if (bytes_fd >= 0) close(bytes_fd);
    }
    return true;
}

static void on_link(void *ctx, int fd, int64_t now)
{
    struct child *c = ctx;

    (void)fd;
    if (drain(c, now)) return;
    unlink_fd(c);
    child_reap(c, now);
    if (c->pid > 0 && c->state != CHILD_DYING) c->kill_ms = now + c->conf->watch.kill_ms; /* closed, yet alive: not for long */
}

int child_start(struct child *c, int64_t now_ms, struct err *e)
{
    char line[PLACE_LINE_BYTES];
    int  pair[2], rc;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair)) return err_errno(e, ERR_IO, "a link to the engine");
    rc = spawn(c->conf, pair[1], &c->pid);
    close(pair[1]);
    if (rc) {
        close(pair[0]);
        c->pid = 0;
        errno = rc;
        return err_errno(e, ERR_IO, "starting the engine process");
    }
    c->fd = pair[0];
    if (loop_fd(c->loop, c->fd, on_link, c)) return err_set(e, ERR_LIMIT, "no room in the loop for the engine");
    c->state = CHILD_LOADING;
    c->stuck = c->is_open = false;
    c->flights.n = 0;
    c->death = (struct child_death){0};
    c->words[0] = 0;
    c->heard_ms = now_ms;
    c->kill_ms = INT64_MAX;
    log_info("engine_start", "pid=%ld model=\"%s\" device=\"%s\"", (long)c->pid, c->conf->model_dir ? c->conf->model_dir : c->conf->dit,
             c->conf->place.n_image ? place_line(&c->conf->place, line) : c->conf->device);
    return 0;
}

bool child_has_room(const struct child *c)
{
    return c->state == CHILD_UP && flights_making(&c->flights) < (size_t)place_tasks(&c->conf->place);
}

int child_task(struct child *c, uint64_t task, uint64_t epoch, struct str item, int64_t px, int64_t now_ms, struct err *e)
{
    struct link_head h = {.kind = LINK_TASK, .task = task, .epoch = epoch};
    int              rc;

    if (!child_has_room(c)) return err_set(e, ERR_STATE, "the engine has no room for a task");
    if ((rc = link_send(c->fd, &h, item, -1, true, e))) return rc;
    if (!flights_put(&c->flights, task, epoch, px, c->conf->place.n_image == 0, now_ms)) assert(!"more tasks in flight than can be");
    return 0;
}

void child_cancel(struct child *c, uint64_t task)
{
    struct link_head h = {.kind = LINK_CANCEL, .task = task};

    for (size_t i = 0; i < c->flights.n && c->fd >= 0; i++)
        if (c->flights.row[i].task == task) {
            h.epoch = c->flights.row[i].epoch;
            link_send(c->fd, &h, (struct str){0}, -1, true, NULL);
        }
}

int64_t child_left_ms(const struct child *c, uint64_t task)
{
    return c->state == CHILD_UP ? flights_left_ms(&c->flights, task) : -1;
}

static void stuck(struct child *c, const char *words, int64_t now)
{
    log_warn("engine_stuck", "pid=%ld why=\"%s\"", (long)c->pid, words);
    c->stuck = true;
    end(c, SIGABRT, words);
    c->kill_ms = now + c->conf->watch.kill_ms;
}

static void watch(struct child *c, int64_t now)
{
    const struct flight *f;
    char                 words[ERR_TEXT_BYTES];

    if (c->state == CHILD_LOADING && now - c->heard_ms > c->conf->watch.load_ms) {
        snprintf(words, sizeof words, "engine said nothing for %lld s while loading", (long long)(now - c->heard_ms) / 1000);
        stuck(c, words, now);
    }
    if (c->state != CHILD_UP || !(f = flights_stuck(&c->flights, &c->conf->watch, now, words))) return;
    blame(c, f->task);
    stuck(c, words, now);
}

void child_stalled(struct child *c, int64_t gap_ms, int64_t now_ms)
{
    c->heard_ms = c->heard_ms + gap_ms < now_ms ? c->heard_ms + gap_ms : now_ms;
    flights_stalled(&c->flights, gap_ms, now_ms);
}

void child_tick(struct child *c, int64_t now_ms)
{
    struct err e = {0};

    watch(c, now_ms);
    if (c->pid > 0 && now_ms >= c->kill_ms) {
        kill(c->pid, SIGKILL);
        log_warn("engine_kill", "pid=%ld", (long)c->pid);
        c->kill_ms = INT64_MAX;
    }
    if (c->state == CHILD_DOWN && c->opened_once && now_ms >= c->restart_ms) {
        c->n_restarts++;
        if (child_start(c, now_ms, &e)) {
            log_error("engine_start", "why=\"%s\"", e.text);
            c->restart_ms = now_ms + c->backoff_ms;
        }
    }
}

/* Where the first of those blamed was, when the engine died with tasks in it. */
static void where(const struct child *c, char text[80])
{
    const struct flights *fs = &c->flights;

    for (size_t i = 0; i < fs->n; i++)
        if (c->death.n_blamed && fs->row[i].task == c->death.blamed[0]) {
            flights_where(fs, &fs->row[i], text);
            return;
        }
    snprintf(text, 80, "%s", c->state == CHILD_LOADING ? "while loading" : "between tasks");
}

static void last_words(struct child *c, int status)
{
    char text[80];

    if (c->words[0]) return;
    where(c, text);
    if (WIFSIGNALED(status))
        snprintf(c->words, sizeof c->words, "engine ended by signal %d %s%s", WTERMSIG(status), text,
                 WTERMSIG(status) == SIGBUS ? ": a file of the model was cut while in use, or its disk failed" : "");
    else snprintf(c->words, sizeof c->words, "engine ended with status %d %s", WEXITSTATUS(status), text);
}

void child_reap(struct child *c, int64_t now_ms)
{
    int status;

    if (c->pid <= 0 || waitpid(c->pid, &status, WNOHANG) != c->pid) return;
    for (int i = 0; i < MESSAGES_MAX && c->fd >= 0 && drain(c, now_ms); i++) continue; /* what it said before it died */
    unlink_fd(c);
    if (c->state != CHILD_DYING) blame_guess(c);
    last_words(c, status);
    c->death.stuck = c->stuck;
    c->death.words = c->words;
    c->flights.n = 0;
    c->pid = 0;
    c->state = CHILD_DOWN;
    c->restart_ms = now_ms + c->backoff_ms;
    if (c->opened_once) log_warn("engine_end", "why=\"%s\" again_in_ms=%lld", c->words, (long long)c->backoff_ms);
    c->backoff_ms = c->backoff_ms * 2 < c->conf->watch.backoff_max_ms ? c->backoff_ms * 2 : c->conf->watch.backoff_max_ms;
    c->events.on_died(c->ctx, &c->death, now_ms);
}

void child_stop(struct child *c)
{
    if (c->pid > 0) {
        kill(c->pid, SIGKILL);
        while (waitpid(c->pid, NULL, 0) < 0 && errno == EINTR) continue;
        c->pid = 0;
    }
    unlink_fd(c);
    c->state = CHILD_DOWN;
}
