/* child.c - one engine process at a time. Believes: the child may crash, hang, or send nonsense; none of that reaches the session.
 * Invariants: C1 there is at most one child.  C2 on_died comes exactly once per child.  C3 messages sent before a death are heard before it.
 *             C4 a task given to it is BUSY's, then among `writing`, until it is answered or the child dies. */
#include "worker/child.h"

#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "worker/engine_child.h"

#define PX_PER_PATIENCE (256 * 256)
#define SAY_LOADING_MS  2000
#define MESSAGES_MAX    64 /* of one turn */

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
    char                       threads[16];
    char                      *argv[] = {(char *)(uintptr_t)"zfarm-worker", (char *)(uintptr_t)ENGINE_CHILD_ARG, or_empty(conf->model_dir),
                                         (char *)(uintptr_t)conf->device, (char *)(uintptr_t)conf->precision, threads,
                                         (char *)(uintptr_t)levels[conf->log_level], or_empty(conf->dit), or_empty(conf->text_encoder),
                                         or_empty(conf->vae), or_empty(conf->tokenizer), or_empty(conf->profile),
                                         or_empty(conf->vram_budget), NULL};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t          attr;
    sigset_t                   none, all;
    int                        rc;

    snprintf(threads, sizeof threads, "%d", conf->n_threads);
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

static void blame(struct child *c, uint64_t task)
{
    struct child_death *d = &c->death;

    if (d->n_blamed < sizeof d->blamed / sizeof *d->blamed) d->blamed[d->n_blamed++] = task;
}

/* It left no words about whose fault it was. */
static void blame_guess(struct child *c)
{
    if (c->death.n_blamed) return;
    if (c->state == CHILD_BUSY) blame(c, c->task);
    else
        for (size_t i = 0; i < c->n_writing; i++) blame(c, c->writing[i].task);
}

static struct child_writing *writing(struct child *c, uint64_t task, uint64_t epoch)
{
    for (size_t i = 0; i < c->n_writing; i++)
        if (c->writing[i].task == task && c->writing[i].epoch == epoch) return &c->writing[i];
    return NULL;
}

/* A task is answered: it was on the device, or was being written. False: it was neither. */
static bool answered(struct child *c, const struct link_head *h)
{
    struct child_writing *w = writing(c, h->task, h->epoch);

    if (w) *w = c->writing[--c->n_writing];
    else if (c->state == CHILD_BUSY && h->task == c->task && h->epoch == c->epoch) c->state = CHILD_READY;
    else return false;
    return true;
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
    memcpy(&c->model, c->payload, sizeof c->model);
    c->model.profile[sizeof c->model.profile - 1] = c->model.device[sizeof c->model.device - 1] = 0;
    c->model.about[sizeof c->model.about - 1] = 0;
    c->opened_once = c->is_open = true;
    c->state = CHILD_READY;
    c->events.on_opened(c->ctx, now);
}

static void stepped(struct child *c, const struct link_head *h, int64_t now)
{
    if (h->stage == STAGE_DENOISE && c->stage == STAGE_DENOISE && h->step == c->step + 1 && c->px > 0) {
        double ms = (double)(now - c->moved_ms) / (double)c->px;
        c->step_ms_per_px = c->step_ms_per_px > 0 ? 0.7 * c->step_ms_per_px + 0.3 * ms : ms;
    }
    c->stage = (enum stage)h->stage;
    c->step = h->step;
    c->steps = h->steps;
    c->moved_ms = now;
    c->events.on_step(c->ctx, h, now);
}

static void pixels(struct child *c, const struct link_head *h, int64_t now)
{
    if (c->n_writing == CHILD_WRITING_MAX) {
        end(c, SIGKILL, "the engine makes pictures without writing them");
        return;
    }
    c->writing[c->n_writing++] = (struct child_writing){c->task, c->epoch, c->px, now};
    c->state = CHILD_READY;
    c->events.on_pixels(c->ctx, h, now);
}

static void hear(struct child *c, const struct link_head *h, int bytes_fd, int64_t now)
{
    bool ours = c->state == CHILD_BUSY && h->task == c->task && h->epoch == c->epoch;

    if (ours || c->state == CHILD_LOADING) c->heard_ms = now;
    switch (h->kind) {
    case LINK_LOADING:
        if (c->state == CHILD_LOADING) loading_said(c, h, now);
        return;
    case LINK_OPENED:
        if (c->state == CHILD_LOADING) opened(c, now);
        return;
    case LINK_OPEN_FAILED:
        if (c->state != CHILD_LOADING) return;
        end(c, SIGKILL, c->payload); /* it is ending by itself */
        return;
    case LINK_STEP:
        if (ours) stepped(c, h, now);
        return;
    case LINK_PIXELS:
        if (ours) pixels(c, h, now);
        return;
    case LINK_CRASHED: /* the last words before a signal */
        if ((ours || writing(c, h->task, h->epoch)) && c->death.n_blamed == 0) blame(c, h->task);
        return;
    case LINK_RESULT:
        if (!answered(c, h)) return;
        c->backoff_ms = c->conf->watch.backoff_ms;
        c->events.on_result(c->ctx, h, bytes_fd, now);
        return;
    case LINK_FAILED:
        if (!answered(c, h)) return;
        if (h->code == ERR_DEVICE) { /* it ends itself now; if it cannot, it is ended */
            c->state = CHILD_DYING;
            snprintf(c->words, sizeof c->words, "%.300s", c->payload);
            c->kill_ms = now + c->conf->watch.kill_ms;
        }
        c->events.on_failed(c->ctx, h, c->payload, now);
        return;
    default: return;
    }
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
        if (h.kind != LINK_OPENED)
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
    int pair[2], rc;

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
    c->n_writing = 0;
    c->death = (struct child_death){0};
    c->words[0] = 0;
    c->heard_ms = now_ms;
    c->kill_ms = INT64_MAX;
    log_info("engine_start", "pid=%ld model=\"%s\" device=%s", (long)c->pid, c->conf->model_dir ? c->conf->model_dir : c->conf->dit, c->conf->device);
    return 0;
}

int child_task(struct child *c, uint64_t task, uint64_t epoch, struct str item, int64_t px, int64_t now_ms, struct err *e)
{
    struct link_head h = {.kind = LINK_TASK, .task = task, .epoch = epoch};
    int              rc;

    if (c->state != CHILD_READY) return err_set(e, ERR_STATE, "the engine is not ready");
    if ((rc = link_send(c->fd, &h, item, -1, true, e))) return rc;
    c->state = CHILD_BUSY;
    c->task = task;
    c->epoch = epoch;
    c->px = px;
    c->stage = STAGE_TEXT;
    c->step = c->steps = 0;
    c->moved_ms = c->heard_ms = now_ms;
    return 0;
}

void child_cancel(struct child *c, uint64_t task)
{
    struct link_head h = {.kind = LINK_CANCEL, .task = task, .epoch = c->epoch};
    bool             held = c->state == CHILD_BUSY && c->task == task;

    for (size_t i = 0; i < c->n_writing && !held; i++)
        if (c->writing[i].task == task) {
            h.epoch = c->writing[i].epoch;
            held = true;
        }
    if (held && c->fd >= 0) link_send(c->fd, &h, (struct str){0}, -1, true, NULL);
}

/* Of a stage that nobody has measured. */
static int64_t first_ms(const struct child *c, int64_t px)
{
    bool    on_gpu = strncmp(c->model.device, "cuda", 4) == 0;
    int64_t squares = (px + PX_PER_PATIENCE - 1) / PX_PER_PATIENCE;

    return c->conf->watch.first_ms * (on_gpu || squares < 1 ? 1 : squares);
}

int64_t child_patience_ms(const struct child *c)
{
    const struct watch *w = &c->conf->watch;
    int64_t             first = first_ms(c, c->px);
    int64_t             mean5 = (int64_t)(5.0 * c->step_ms_per_px * (double)c->px);

    if (c->state == CHILD_LOADING) return w->load_ms;
    if (c->stage == STAGE_DENOISE && mean5 > 0) first = w->floor_ms;
    return mean5 > first ? mean5 : first;
}

int64_t child_left_ms(const struct child *c)
{
    if (c->state != CHILD_BUSY || c->step_ms_per_px <= 0 || c->steps == 0) return -1;
    return (int64_t)((double)(c->steps - c->step + 1) * c->step_ms_per_px * (double)c->px); /* decoding counts as one step */
}

static void stuck(struct child *c, uint64_t task, const char *words, int64_t now)
{
    log_warn("engine_stuck", "pid=%ld why=\"%s\"", (long)c->pid, words);
    c->stuck = true;
    if (task && c->death.n_blamed == 0) blame(c, task);
    end(c, SIGABRT, words);
    c->kill_ms = now + c->conf->watch.kill_ms;
}

static void watch(struct child *c, int64_t now)
{
    char    words[ERR_TEXT_BYTES];
    int64_t silent = now - c->heard_ms;

    for (size_t i = 0; i < c->n_writing && c->state != CHILD_DYING; i++) {
        int64_t ms = now - c->writing[i].from_ms;

        if (ms <= first_ms(c, c->writing[i].px)) continue;
        snprintf(words, sizeof words, "engine did not write a picture within %lld s", (long long)ms / 1000);
        stuck(c, c->writing[i].task, words, now);
    }
    if ((c->state != CHILD_LOADING && c->state != CHILD_BUSY) || silent <= child_patience_ms(c)) return;
    if (c->state == CHILD_LOADING) snprintf(words, sizeof words, "engine said nothing for %lld s while loading", (long long)silent / 1000);
    else
        snprintf(words, sizeof words, "engine did not move for %lld s in stage %s step %u of %u", (long long)silent / 1000, stage_name(c->stage),
                 c->step, c->steps);
    stuck(c, c->state == CHILD_BUSY ? c->task : 0, words, now);
}

void child_stalled(struct child *c, int64_t gap_ms, int64_t now_ms)
{
    c->heard_ms = c->heard_ms + gap_ms < now_ms ? c->heard_ms + gap_ms : now_ms;
    c->moved_ms = c->moved_ms + gap_ms < now_ms ? c->moved_ms + gap_ms : now_ms;
    for (size_t i = 0; i < c->n_writing; i++)
        c->writing[i].from_ms = c->writing[i].from_ms + gap_ms < now_ms ? c->writing[i].from_ms + gap_ms : now_ms;
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

static bool blamed_is(const struct child *c, uint64_t task)
{
    return c->death.n_blamed && c->death.blamed[0] == task;
}

static void last_words(struct child *c, int status)
{
    char where[80];

    if (c->words[0]) return;
    if (c->state == CHILD_BUSY && blamed_is(c, c->task)) snprintf(where, sizeof where, "in stage %s step %u", stage_name(c->stage), c->step);
    else if (c->n_writing) snprintf(where, sizeof where, "writing a picture");
    else snprintf(where, sizeof where, "%s", c->state == CHILD_LOADING ? "while loading" : "between tasks");
    if (WIFSIGNALED(status))
        snprintf(c->words, sizeof c->words, "engine ended by signal %d %s%s", WTERMSIG(status), where,
                 WTERMSIG(status) == SIGBUS ? ": a file of the model was cut while in use, or its disk failed" : "");
    else snprintf(c->words, sizeof c->words, "engine ended with status %d %s", WEXITSTATUS(status), where);
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
    c->n_writing = 0;
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
