/* fake_group.h - an engine child of several devices, without a model: a text rank and image ranks that take turns in one loop and speak link.h.
 * A prompt takes TEXT_MS in the text rank's hands and STEP_MS for each of its steps in an image rank's; its first word is what goes wrong:
 *   "hang": never moves again after step 2   "crash": last words, then abort in step 2   "lost": nobody takes it from the text rank
 *   "stray": says that a rank has it which there is not   "fail": FAILED after step 2   "held": its last step comes when is_held("held") is over
 * Included by test_child_group.c, which is also its supervisor and broker. */
#ifndef TESTS_WORKER_FAKE_GROUP_H
#define TESTS_WORKER_FAKE_GROUP_H

#include <poll.h>

#include "base/arena.h"
#include "proto/wire.h"
#include "worker/engine_child.h"

#define TEXT_MS  10
#define STEP_MS  30
#define RANKS_MS 200

struct job { /* a task in it */
    bool     here;
    uint64_t task, epoch, order;
    char     what[16];
    int      steps, step, rank; /* rank: whose hands; -1: none */
    bool     encoded, canceled;
    int64_t  since_ms;
};

struct fake_group {
    struct place place;
    struct job   job[16];
    uint64_t     n_arrived;
    int64_t      said_ms;
    char         payload[LINK_PAYLOAD_MAX];
};

static void group_say(struct link_head *h, struct str payload, int fd)
{
    if (link_send(ENGINE_CHILD_FD, h, payload, fd, false, NULL)) _exit(0);
}

static void group_step(const struct job *j, enum stage stage, int rank)
{
    struct link_head h = {.kind = LINK_STEP, .task = j->task, .epoch = j->epoch, .stage = stage, .step = (uint32_t)j->step, .steps = (uint32_t)j->steps,
                          .rank = (uint32_t)rank};

    group_say(&h, (struct str){0}, -1);
}

static void group_failed(struct job *j, int code, const char *text)
{
    struct link_head h = {.kind = LINK_FAILED, .task = j->task, .epoch = j->epoch, .code = code};

    group_say(&h, str_of(text), -1);
    j->here = false;
}

static void group_opened(const struct place *p)
{
    struct link_model m = {.profile = "fake", .device = "cpu", .about = "a fake group", .steps = 4, .own_px = 64, .n_ranks = (uint32_t)place_ranks(p)};
    struct link_head  h = {.kind = LINK_OPENED};

    for (int r = 0; r < place_ranks(p); r++) {
        snprintf(m.rank[r].device, sizeof m.rank[r].device, "%s", place_device(p, r));
        m.rank[r].parts = place_parts(p, r);
    }
    group_say(&h, (struct str){(const char *)&m, sizeof m}, -1);
}

static void group_take(struct fake_group *g, const struct link_head *h)
{
    struct job  *j = g->job;
    struct arena a;
    struct item  it;

    while (j->here) j++;
    arena_init(&a, "item", 1 << 16);
    if (j == g->job + sizeof g->job / sizeof *g->job || wire_item_unpack((struct str){g->payload, h->payload_bytes}, &a, &it, NULL)) _exit(3);
    *j = (struct job){.here = true, .task = h->task, .epoch = h->epoch, .order = ++g->n_arrived, .steps = it.spec.steps, .rank = -1};
    snprintf(j->what, sizeof j->what, "%.*s", (int)it.spec.prompt.len, it.spec.prompt.at);
    arena_release(&a);
}

static void group_hear(struct fake_group *g)
{
    struct link_head h;
    int              fd, rc;

    while ((rc = link_recv(ENGINE_CHILD_FD, &h, g->payload, &fd, true, NULL)) == 1) {
        if (h.kind == LINK_TASK) group_take(g, &h);
        for (size_t i = 0; h.kind == LINK_CANCEL && i < sizeof g->job / sizeof *g->job; i++)
            if (g->job[i].here && g->job[i].task == h.task) g->job[i].canceled = true;
    }
    if (rc == ERR_IO) _exit(0);
}

/* The next for a rank: the oldest that nobody has in hand and that is as far as that. */
static void group_pick(struct fake_group *g, int rank, int64_t now)
{
    struct job *next = NULL;

    for (size_t i = 0; i < sizeof g->job / sizeof *g->job; i++) {
        struct job *j = &g->job[i];

        if (!j->here) continue;
        if (j->rank == rank) return; /* it is busy */
        if (j->rank < 0 && j->encoded == (rank > 0) && strcmp(j->what, "lost|encoded") && (!next || j->order < next->order)) next = j;
    }
    if (!next) return;
    next->rank = rank;
    next->since_ms = now;
    group_step(next, rank ? STAGE_DENOISE : STAGE_TEXT, strcmp(next->what, "stray") || !rank ? rank : 7);
}

static void group_done(struct job *j)
{
    static const uint8_t png[] = "not really a picture";
    struct str           part = {(const char *)png, sizeof png};
    struct link_head     pixels = {.kind = LINK_PIXELS, .task = j->task, .epoch = j->epoch};
    struct link_head     h = {.kind = LINK_RESULT, .task = j->task, .epoch = j->epoch, .width_px = 64, .height_px = 48, .n_parts = 1,
                              .part_bytes = {sizeof png}};
    int                  fd = link_bytes_seal(&part, 1, NULL);

    group_say(&pixels, (struct str){0}, -1);
    sha256_of(png, sizeof png, h.part_sha256[0]);
    group_say(&h, (struct str){0}, fd);
    close(fd);
    j->here = false;
}

static void group_move(struct job *j, int64_t now)
{
    if (j->rank < 0 || now - j->since_ms < (j->rank ? STEP_MS : TEXT_MS)) return;
    j->since_ms = now;
    if (j->rank == 0) {
        j->encoded = true;
        j->rank = -1;
        if (!strcmp(j->what, "lost")) snprintf(j->what, sizeof j->what, "lost|encoded");
        group_step(j, STAGE_WAITING, 0);
        return;
    }
    if (j->step == 2 && !strcmp(j->what, "hang")) return;
    if (j->step == 2 && !strcmp(j->what, "crash")) {
        link_last_words(ENGINE_CHILD_FD, j->task, j->epoch);
        abort();
    }
    if (j->canceled) group_failed(j, ERR_CANCELED, "canceled after a step");
    else if (j->step == 2 && !strcmp(j->what, "fail")) group_failed(j, ERR_NAN, "not finite");
    else if (j->step == j->steps) group_done(j);
    else {
        if (j->step < j->steps - 1 || strcmp(j->what, "held") || !is_held("held")) j->step++;
        group_step(j, STAGE_DENOISE, j->rank);
    }
}

static void group_load(struct fake_group *g, int64_t now)
{
    struct link_ranks r = {.n_ranks = (uint32_t)place_ranks(&g->place)};
    struct link_head  h = {.kind = LINK_RANKS};

    if (now - g->said_ms < RANKS_MS) return;
    g->said_ms = now;
    for (uint32_t i = 0; i < r.n_ranks; i++) r.rank[i] = (struct link_load){.used_bytes = i + 1, .total_bytes = 100, .busy_permille = 10 * i};
    group_say(&h, (struct str){(const char *)&r, sizeof r}, -1);
}

static int fake_group_main(int argc, char **argv)
{
    struct fake_group *g = calloc(1, sizeof *g);
    struct err         e = {0};

    if (argc != ENGINE_CHILD_ARGC || place_parse(&g->place, argv[ENGINE_CHILD_ARGC - 1], &e)) return 1;
    group_opened(&g->place);
    for (;;) {
        struct pollfd p = {.fd = ENGINE_CHILD_FD, .events = POLLIN};
        int64_t       now;

        poll(&p, 1, 5);
        now = now_ms();
        group_hear(g);
        for (int r = 0; r <= g->place.n_image; r++) group_pick(g, r, now);
        for (size_t i = 0; i < sizeof g->job / sizeof *g->job; i++)
            if (g->job[i].here) group_move(&g->job[i], now);
        group_load(g, now);
    }
}

#endif
