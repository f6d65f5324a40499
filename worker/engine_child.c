/* engine_child.c - tasks, one after the other, on the engine's thread (this one); written meanwhile by another (writer.c).
 * Believes: the link is read between steps, so a cancellation waits for one step at most.
 * Invariants: E1 every TASK is answered by exactly one RESULT or FAILED, or by this process's death.  E2 PIXELS says that the next TASK may come.
 * Not here: leases, retries (worker.c), what a task computes (picture.c). */
#include "worker/engine_child.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "engine/engine.h"
#include "worker/conf.h"
#include "worker/link.h"
#include "worker/picture.h"
#include "worker/selftest.h"
#include "worker/writer.h"

#define SAY_LOADING_MS 200

struct engine_child {
    struct engine               *engine;
    const struct engine_profile *profile;
    struct writer               *writer;
    struct picture              *making;  /* NULL between tasks */
    enum stage                   stage;   /* of it */
    int64_t                      loading_ms, said_ms; /* LOADING, first and last */
    char                         payload[LINK_PAYLOAD_MAX];
};

/* For the crash handler, which has no context: the task on the device. */
static volatile uint64_t making_task, making_epoch;

static void gone(void) /* nobody is left to hear anything */
{
    _exit(0);
}

static void say(struct link_head *h, struct str payload, int fd)
{
    struct err e = {0};

    if (link_send(ENGINE_CHILD_FD, h, payload, fd, false, &e) == ERR_IO) gone();
}

static void say_failed(const struct picture *p, int code, const struct err *e)
{
    struct link_head h = {.kind = LINK_FAILED, .task = p->task, .epoch = p->epoch, .code = code};

    say(&h, str_of(e->text), -1);
}

static void on_stage(void *ctx, const struct picture *p, enum stage stage, int step)
{
    struct link_head h = {.kind = LINK_STEP, .task = p->task, .epoch = p->epoch, .stage = stage, .step = (uint32_t)step,
                          .steps = (uint32_t)p->gen.n_steps};

    ((struct engine_child *)ctx)->stage = stage;
    say(&h, (struct str){0}, -1);
}

static void on_loading(void *ctx, int64_t done_bytes, int64_t all_bytes, const char *what)
{
    struct engine_child *c = ctx;
    struct link_head     h = {.kind = LINK_LOADING};
    int64_t              now = now_ms();
    bool                 ready = done_bytes == all_bytes && strcmp(what, "ready") == 0;
    char                 text[200];

    if (!c->loading_ms) c->loading_ms = now;
    if (now - c->said_ms < SAY_LOADING_MS && !ready) return;
    c->said_ms = now;
    h.permille = ready ? 1000 : all_bytes > 0 ? (uint32_t)(done_bytes * 1000 / all_bytes) : 0;
    snprintf(text, sizeof text, "%.100s", what);
    if (done_bytes > 0)
        snprintf(text, sizeof text, "%.100s, %.2f of %.2f GB, %.1f GB/s", what, (double)done_bytes / 1e9, (double)all_bytes / 1e9,
                 (double)done_bytes / 1e6 / (double)(now > c->loading_ms ? now - c->loading_ms : 1));
    say(&h, str_of(text), -1);
}

static void cancel(struct engine_child *c, const struct link_head *h)
{
    if (c->making && c->making->task == h->task && c->making->epoch == h->epoch) c->making->canceled = true;
    else writer_cancel(c->writer, h->task, h->epoch);
}

/* Between steps: is there a CANCEL, or nobody any more? */
static bool on_step(void *ctx, struct picture *p, int done)
{
    struct engine_child *c = ctx;
    struct link_head     h;
    struct err           e = {0};
    int                  fd, rc;

    on_stage(c, p, STAGE_DENOISE, done);
    while ((rc = link_recv(ENGINE_CHILD_FD, &h, c->payload, &fd, true, &e)) == 1) {
        if (fd >= 0) close(fd);
        if (h.kind == LINK_QUIT) gone();
        if (h.kind == LINK_CANCEL) cancel(c, &h);
    }
    if (rc == ERR_IO) gone();
    return p->canceled;
}

/* On the writer's thread. */
static void on_written(void *ctx, struct picture *p, int rc, const struct err *e)
{
    (void)ctx;
    if (rc) say_failed(p, rc, e);
    else say(&p->h, (struct str){0}, p->fd);
    picture_free(p);
}

static void run_task(struct engine_child *c, const struct link_head *in)
{
    const struct picture_hooks hooks = {c, on_stage, on_step};
    struct link_head           pixels = {.kind = LINK_PIXELS, .task = in->task, .epoch = in->epoch};
    struct picture            *p;
    struct err                 e = {0};
    int                        rc = picture_open(&p, in->task, in->epoch, (struct str){c->payload, in->payload_bytes}, &e);

    if (!p) {
        struct link_head h = {.kind = LINK_FAILED, .task = in->task, .epoch = in->epoch, .code = rc};
        say(&h, str_of(e.text), -1);
        return;
    }
    c->making = p;
    making_epoch = p->epoch;
    making_task = p->task;
    if (!rc) rc = picture_make(p, c->engine, &hooks, &e);
    c->making = NULL;
    making_task = 0;
    if (!rc) {
        writer_put(c->writer, p);
        say(&pixels, (struct str){0}, -1);
        return;
    }
    if (rc == ERR_IO) rc = ERR_DEVICE; /* a file of the model was cut: this engine would fail whatever comes next */
    if (rc == ERR_DEVICE) writer_free(c->writer); /* what was made before is good */
    if (rc == ERR_DEVICE) err_in(&e, "stage %s, engine status %d", stage_name(c->stage), ENGINE_EXIT_DEVICE);
    say_failed(p, rc, &e);
    if (rc == ERR_DEVICE) _exit(ENGINE_EXIT_DEVICE); /* after that, nothing the device says can be believed */
    picture_free(p);
}

static const char *said(const char *arg)
{
    return *arg ? arg : NULL;
}

static int open_engine(struct engine_child *c, char **argv, struct err *e)
{
    struct engine_opts o = {.model_dir = said(argv[2]), .device = argv[3], .parts = ENGINE_BOTH, .on_progress = on_loading, .ctx = c,
                            .dit = said(argv[7]), .text_encoder = said(argv[8]), .vae = said(argv[9]), .tokenizer = said(argv[10]),
                            .profile = said(argv[11])};
    int64_t            threads;
    int                rc;

    o.precision = !strcmp(argv[4], "f32") ? ENGINE_F32 : !strcmp(argv[4], "bf16") ? ENGINE_BF16 : ENGINE_AUTO;
    if (str_to_i64(str_of(argv[5]), &threads) || threads < 0 || threads > 4096) return err_set(e, ERR_ARG, "threads \"%s\"", argv[5]);
    o.n_threads = (int)threads;
    if (said(argv[12]) && (rc = worker_conf_budget(argv[12], &o.vram_budget_bytes, e))) return rc;
    return engine_open(&c->engine, &o, e);
}

static void say_opened(struct engine_child *c)
{
    struct link_model m = {.steps = c->profile->n_steps, .own_px = c->profile->own_px, .guidance = c->profile->guidance};
    struct link_head  h = {.kind = LINK_OPENED};

    memcpy(m.profile, c->profile->name, sizeof m.profile);
    memcpy(m.device, c->profile->device, sizeof m.device);
    memcpy(m.about, c->profile->about, sizeof m.about);
    memcpy(m.digest, c->profile->digest, sizeof m.digest);
    m.profile[sizeof m.profile - 1] = m.device[sizeof m.device - 1] = m.about[sizeof m.about - 1] = 0;
    say(&h, (struct str){(const char *)&m, sizeof m}, -1);
}

static int self_test(struct engine_child *c, struct err *e)
{
    int64_t from = now_ms();
    uint8_t sha[32];
    char    text[SHA256_HEX];
    int     rc = selftest_run(c->engine, sha, e);

    if (rc) return rc;
    hex_of(sha, 8, text); /* the same after every restart on the same device */
    log_info("self_test", "device=%s pixels=%s took_ms=%lld", engine_profile(c->engine)->device, text, (long long)(now_ms() - from));
    return 0;
}

bool engine_child_is(int argc, char **argv)
{
    return argc == ENGINE_CHILD_ARGC && strcmp(argv[1], ENGINE_CHILD_ARG) == 0;
}

/* ---- last words ---- */

static struct sigaction before[NSIG];

/* Says which task the crashing thread had, then lets the signal do what it would have done. */
static void on_crash(int signo)
{
    uint64_t epoch, task = writer_task(&epoch);

    if (!task) { /* the engine's thread, or one of those that compute for it */
        task = making_task;
        epoch = making_epoch;
    }
    if (task) link_last_words(ENGINE_CHILD_FD, task, epoch);
    sigaction(signo, &before[signo], NULL);
    raise(signo);
}

static void watch_crashes(void)
{
    static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
    struct sigaction a = {.sa_handler = on_crash};

    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) sigaction(signals[i], &a, &before[signals[i]]);
}

/* Tasks until the link closes or says QUIT. */
static void serve(struct engine_child *c)
{
    struct link_head h;
    struct err       e = {0};
    int              rc, fd;

    while ((rc = link_recv(ENGINE_CHILD_FD, &h, c->payload, &fd, false, &e)) != ERR_IO) {
        if (fd >= 0) close(fd);
        if (rc == 1 && h.kind == LINK_QUIT) return;
        if (rc == 1 && h.kind == LINK_TASK) run_task(c, &h);
        else if (rc == 1 && h.kind == LINK_CANCEL) cancel(c, &h);
        else if (rc < 0) log_warn("link", "why=\"%s\"", e.text);
    }
}

int engine_child_main(int argc, char **argv)
{
    struct engine_child *c = calloc(1, sizeof *c);
    enum log_level       level;
    struct err           e = {0};
    int                  rc;

    if (!c || !engine_child_is(argc, argv)) return 1;
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* a parent that died before this line left a closed link */
    log_name_set("engine");
    if (log_level_parse(argv[6], &level)) log_level_set(level);
    watch_crashes();
    rc = open_engine(c, argv, &e);
    if (!rc) rc = self_test(c, &e);
    if (!rc) rc = writer_open(&c->writer, on_written, c, &e);
    if (rc) {
        struct link_head h = {.kind = LINK_OPEN_FAILED, .code = rc};
        say(&h, str_of(e.text), -1);
    } else {
        c->profile = engine_profile(c->engine);
        if (c->profile->plan[0]) log_info("vram", "device=%s plan=\"%s\"", c->profile->device, c->profile->plan);
        say_opened(c);
        serve(c);
    }
    writer_free(c->writer);
    engine_free(c->engine);
    free(c);
    return rc ? ENGINE_EXIT_OPEN : 0;
}
