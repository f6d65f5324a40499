/* engine_child.c - the engine's process: what the supervisor says goes to the group of ranks (group.c), what they and the writing thread (writer.c) say
 * goes to the supervisor. Believes: this thread does nothing but listen, so a cancellation waits for one step at most, and loads are told in time.
 * Invariants: E1 every TASK is answered by exactly one RESULT or FAILED, or by this process's death.  E2 PIXELS says that the next TASK may come.
 * Not here: leases, retries (worker.c), who computes what (group.c). */
#include "worker/engine_child.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "worker/conf.h"
#include "worker/group.h"
#include "worker/link.h"
#include "worker/writer.h"

#define SAY_LOADING_MS 200
#define SAY_RANKS_MS   1000
#define TRANSFER_MS    30000 /* between ranks: milliseconds, when nothing is wrong */

struct engine_child {
    struct place   place;
    struct group  *group;
    struct writer *writer;
    int64_t        loading_ms, said_ms; /* LOADING, first and last */
    int64_t        ranks_ms;            /* RANKS, last */
    char           payload[LINK_PAYLOAD_MAX];
};

static void gone(void) /* nobody is left to hear anything */
{
    _exit(0);
}

static void say(struct link_head *h, struct str payload, int fd)
{
    struct err e = {0};

    if (link_send(ENGINE_CHILD_FD, h, payload, fd, false, &e) == ERR_IO) gone();
}

static void say_failed(uint64_t task, uint64_t epoch, int code, const char *words)
{
    struct link_head h = {.kind = LINK_FAILED, .task = task, .epoch = epoch, .code = code};

    say(&h, str_of(words), -1);
}

/* ---- what the ranks say ---- */

static void on_stage(void *ctx, const struct picture *p, enum stage stage, int step)
{
    struct link_head h = {.kind = LINK_STEP, .task = p->task, .epoch = p->epoch, .stage = stage, .step = (uint32_t)step,
                          .steps = (uint32_t)p->gen.n_steps, .rank = (uint32_t)p->rank};

    (void)ctx;
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

static void on_pixels(void *ctx, struct picture *p)
{
    struct engine_child *c = ctx;
    struct link_head     pixels = {.kind = LINK_PIXELS, .task = p->task, .epoch = p->epoch};

    writer_put(c->writer, p);
    say(&pixels, (struct str){0}, -1);
}

static void on_failed(void *ctx, struct picture *p, int rc, const struct err *e)
{
    (void)ctx;
    say_failed(p->task, p->epoch, rc, e->text);
    picture_free(p);
}

/* After that, nothing a device says can be believed. */
static void on_lost(void *ctx, struct picture *p, const struct err *e)
{
    struct engine_child *c = ctx;
    struct err           why = *e;

    writer_flush(c->writer); /* what was made before is good */
    err_in(&why, "stage %s, engine status %d", stage_name(p->stage), ENGINE_EXIT_DEVICE);
    say_failed(p->task, p->epoch, ERR_DEVICE, why.text);
    group_abort(c->group, why.text);
    _exit(ENGINE_EXIT_DEVICE);
}

/* On the writer's thread. */
static void on_written(void *ctx, struct picture *p, int rc, const struct err *e)
{
    (void)ctx;
    if (rc) say_failed(p->task, p->epoch, rc, e->text);
    else say(&p->h, (struct str){0}, p->fd);
    picture_free(p);
}

/* ---- open ---- */

static const char *said(const char *arg)
{
    return *arg ? arg : NULL;
}

static int open_group(struct engine_child *c, char **argv, struct err *e)
{
    const struct group_hooks hooks = {c, on_loading, on_stage, on_pixels, on_failed, on_lost};
    struct group_conf        conf = {.place = &c->place, .transfer_ms = TRANSFER_MS};
    struct engine_opts      *o = &conf.engine;
    int64_t                  threads;
    int                      rc;

    *o = (struct engine_opts){.model_dir = said(argv[2]), .device = argv[3], .dit = said(argv[7]), .text_encoder = said(argv[8]), .vae = said(argv[9]),
                              .tokenizer = said(argv[10]), .profile = said(argv[11])};
    o->precision = !strcmp(argv[4], "f32") ? ENGINE_F32 : !strcmp(argv[4], "bf16") ? ENGINE_BF16 : ENGINE_AUTO;
    if (str_to_i64(str_of(argv[5]), &threads) || threads < 0 || threads > 4096) return err_set(e, ERR_ARG, "threads \"%s\"", argv[5]);
    o->n_threads = (int)threads;
    if (said(argv[12]) && (rc = worker_conf_budget(argv[12], &o->vram_budget_bytes, e))) return rc;
    if ((rc = place_parse(&c->place, argv[13], e)) || (rc = writer_open(&c->writer, on_written, c, e))) return rc;
    return group_open(&c->group, &conf, &hooks, e);
}

/* "..., text on cpu, image on cuda:0 over host copies" behind what a rank says of itself. */
static void describe(const struct engine_child *c, char *about, size_t cap)
{
    char   line[PLACE_LINE_BYTES];
    size_t len = strlen(about);

    if (c->place.n_image && len < cap)
        snprintf(about + len, cap - len, ", %s over %s", place_line(&c->place, line), group_link_about(c->group));
}

static void say_opened(struct engine_child *c)
{
    const struct engine_profile *profile = group_profile(c->group);
    struct link_model            m = {.steps = profile->n_steps, .own_px = profile->own_px, .guidance = profile->guidance,
                                      .n_ranks = (uint32_t)group_ranks(c->group)};
    struct link_head             h = {.kind = LINK_OPENED};

    memcpy(m.profile, profile->name, sizeof m.profile);
    memcpy(m.device, profile->device, sizeof m.device);
    memcpy(m.about, profile->about, sizeof m.about);
    memcpy(m.digest, profile->digest, sizeof m.digest);
    m.profile[sizeof m.profile - 1] = m.device[sizeof m.device - 1] = m.about[sizeof m.about - 1] = 0;
    describe(c, m.about, sizeof m.about);
    for (uint32_t i = 0; i < m.n_ranks; i++) {
        const struct engine_profile *rank = group_rank_profile(c->group, (int)i);

        snprintf(m.rank[i].device, sizeof m.rank[i].device, "%s", rank->device);
        m.rank[i].parts = place_parts(&c->place, (int)i);
        if (rank->plan[0]) log_info("vram", "device=%s plan=\"%s\"", rank->device, rank->plan);
    }
    say(&h, (struct str){(const char *)&m, sizeof m}, -1);
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

    if (!task) task = group_task(&epoch);
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

/* ---- what the supervisor says ---- */

static void say_ranks(struct engine_child *c)
{
    struct link_ranks r = {.n_ranks = (uint32_t)group_ranks(c->group)};
    struct link_head  h = {.kind = LINK_RANKS};
    struct group_load load[PLACE_RANKS_MAX];

    group_loads(c->group, load);
    for (uint32_t i = 0; i < r.n_ranks; i++) r.rank[i] = (struct link_load){load[i].used_bytes, load[i].total_bytes, load[i].busy_permille, 0};
    if (link_send(ENGINE_CHILD_FD, &h, (struct str){(const char *)&r, sizeof r}, -1, true, NULL) == ERR_IO) gone(); /* a supervisor that is behind gets the next */
}

static void take_task(struct engine_child *c, const struct link_head *in)
{
    struct picture *p;
    struct err      e = {0};
    int             rc = picture_open(&p, in->task, in->epoch, (struct str){c->payload, in->payload_bytes}, &e);

    if (!rc) rc = group_put(c->group, p, &e);
    if (!rc) return;
    say_failed(in->task, in->epoch, rc, e.text);
    picture_free(p);
}

static void hear(struct engine_child *c, const struct link_head *h)
{
    if (h->kind == LINK_TASK) take_task(c, h);
    if (h->kind == LINK_CANCEL && !group_cancel(c->group, h->task, h->epoch)) writer_cancel(c->writer, h->task, h->epoch);
}

/* Until the link closes or says QUIT. */
static void serve(struct engine_child *c)
{
    struct pollfd    at = {.fd = ENGINE_CHILD_FD, .events = POLLIN};
    struct link_head h;
    int              rc = 0, fd;

    while (rc != ERR_IO) {
        struct err e = {0};
        int64_t    now = now_ms(), left = c->ranks_ms + SAY_RANKS_MS - now;

        if (left <= 0) {
            say_ranks(c);
            c->ranks_ms = now;
            left = SAY_RANKS_MS;
        }
        if (poll(&at, 1, (int)left) <= 0) continue;
        rc = link_recv(ENGINE_CHILD_FD, &h, c->payload, &fd, true, &e);
        if (fd >= 0) close(fd);
        if (rc == 1 && h.kind == LINK_QUIT) return;
        if (rc == 1) hear(c, &h);
        else if (rc < 0 && rc != ERR_IO) log_warn("link", "why=\"%s\"", e.text);
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
    rc = open_group(c, argv, &e);
    if (rc) {
        struct link_head h = {.kind = LINK_OPEN_FAILED, .code = rc};
        say(&h, str_of(e.text), -1);
    } else {
        say_opened(c);
        serve(c);
        if (!group_idle(c->group)) gone(); /* nobody waits for what is at hand */
    }
    writer_free(c->writer);
    group_free(c->group);
    free(c);
    return rc ? ENGINE_EXIT_OPEN : 0;
}
