/* sides.h - clients and workers played by a test, several in one thread, each told by the test what to do with what it hears; for syscalls.c, garble.c and slow.c.
 *
 *   struct side c = {.role = ROLE_CLIENT, .name = "one", .hears = f};   side_open(&c, endpoint); side_hello(&c, ms);   m = side_ask(&c, &(struct msg){...}, MSG_JOBS_OK, ms)
 *
 * Whoever includes it says what failing means (side_fail()), whether there is anybody to wait for (side_gone()), and what a turn of all its sides is
 * (sides_turn(): true when something was heard). Nothing here asks again. */
#ifndef TESTS_CHAOS_SIDES_H
#define TESTS_CHAOS_SIDES_H

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/hash.h"
#include "proto/peer.h"

#define SIDE_UNUSED      __attribute__((unused))
#define SIDE_ARENA_BYTES (64u << 20)
#define SIDE_NAP_US      100

struct side {
    enum role         role;
    const char       *name;
    const struct key *key; /* NULL: none */
    void (*hears)(struct side *s, const struct msg *m);
    struct peer      *peer;
    struct arena      arena;
    uint8_t           instance[KEY_BYTES];
    uint32_t          capacity;
    uint64_t          correlation;
    struct msg        got; /* the answer to the last question */
    bool              answered;
};

static void side_fail(const char *what, const char *why) __attribute__((noreturn));
static bool side_gone(void);
static bool sides_turn(void);

static void side_late(int signo)
{
    (void)signo;
    side_fail("out of time", "it is not over, and ctest would end it without a word");
}

/* With ZFARM_TEST_S (ctest sets it): fails by then. */
SIDE_UNUSED static void side_deadline(void)
{
    const char *s = getenv("ZFARM_TEST_S");

    signal(SIGALRM, side_late);
    if (s) alarm((unsigned)strtoul(s, NULL, 10));
}

/* A broker of its own on data; line receives what it wrote to its ready-fd, "" when it ended first. before: in the child, or NULL. */
SIDE_UNUSED static pid_t side_broker(char *const argv[], int ready_at, void (*before)(void), char *line, size_t cap)
{
    char    fd[16];
    int     ready[2];
    ssize_t n;
    pid_t   pid;

    if (pipe(ready)) abort();
    pid = fork();
    if (pid == 0) {
        char *args[40] = {0};

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(ready[0]);
        snprintf(fd, sizeof fd, "%d", ready[1]);
        for (int i = 0; argv[i] && i < 39; i++) args[i] = argv[i];
        args[ready_at] = fd;
        if (before) before();
        execv(args[0], args);
        _exit(127);
    }
    close(ready[1]);
    n = read(ready[0], line, cap - 1);
    line[n > 0 ? n : 0] = 0;
    line[strcspn(line, "\n")] = 0;
    close(ready[0]);
    return pid;
}

/* A new connection; what was asked on the old one is not answered any more. */
SIDE_UNUSED static void side_open(struct side *s, const char *endpoint)
{
    struct err e;

    if (!s->arena.base) {
        random_bytes(s->instance, KEY_BYTES);
        if (arena_init(&s->arena, "side", SIDE_ARENA_BYTES)) abort();
    }
    peer_close(s->peer);
    s->answered = false;
    if (peer_connect_as(&s->peer, endpoint, s->key, &e)) side_fail("a socket", e.text);
}

SIDE_UNUSED static bool side_say(struct side *s, struct msg *m, int64_t patience_ms)
{
    struct err e = {0};
    int64_t    until = now_ms() + patience_ms;
    int        rc;

    if (!m->correlation) m->correlation = ++s->correlation;
    while ((rc = peer_send(s->peer, NULL, m, &e)) == ERR_BUSY && now_ms() < until && !side_gone()) usleep(SIDE_NAP_US);
    if (rc && rc != ERR_BUSY) side_fail("sending", e.text);
    return rc == 0;
}

/* Reads what is there. */
SIDE_UNUSED static bool side_turn(struct side *s)
{
    struct msg m;
    struct err e = {0};
    int        rc;
    bool       any = false;

    while ((rc = peer_recv(s->peer, &s->arena, NULL, &m, &e)) != ERR_BUSY) {
        if (rc) side_fail("receiving", e.text);
        any = true;
        if (m.correlation && m.correlation == s->correlation && !s->answered) {
            s->answered = true;
            s->got = m;
        }
        if (s->hears) s->hears(s, &m);
    }
    return any;
}

/* Turns until *done; false: silence for patience_ms, or nobody there. */
SIDE_UNUSED static bool sides_until(const bool *done, int64_t patience_ms)
{
    int64_t heard_ms = now_ms();

    while (!*done) {
        if (sides_turn()) heard_ms = now_ms();
        else if (now_ms() - heard_ms > patience_ms || side_gone()) return *done;
        else usleep(SIDE_NAP_US);
    }
    return true;
}

/* The answer of this kind; NULL: silence, an end, or a refusal (then s->got is ERROR). Valid until the next question. */
SIDE_UNUSED static const struct msg *side_ask(struct side *s, struct msg *m, enum msg_kind want, int64_t patience_ms)
{
    arena_reset(&s->arena, 0);
    m->correlation = ++s->correlation;
    s->answered = false;
    s->got.kind = 0;
    if (!side_say(s, m, patience_ms) || !sides_until(&s->answered, patience_ms)) return NULL;
    return s->got.kind == want ? &s->got : NULL;
}

SIDE_UNUSED static bool side_hello(struct side *s, int64_t patience_ms)
{
    struct model_info model = {.name = str_of("turbo"), .profile = str_of("turbo"), .steps = 8};
    struct msg        m = {.kind = MSG_HELLO, .hello = {.role = s->role, .major = WIRE_MAJOR, .minor = WIRE_MINOR, .name = str_of(s->name), .version = str_of("test")}};

    memcpy(m.hello.instance, s->instance, KEY_BYTES);
    if (s->role == ROLE_WORKER) {
        m.hello.capacity = s->capacity;
        m.hello.model = &model;
        m.hello.n_models = 1;
    }
    return side_ask(s, &m, MSG_WELCOME, patience_ms);
}

/* One item of n_images; its key is made of k. item must live as long as the message. */
SIDE_UNUSED static struct msg side_submit(struct item *item, uint32_t n_images, uint64_t k)
{
    struct msg m = {.kind = MSG_SUBMIT, .submit = {.n_tasks = n_images, .item = item, .n_items = 1}};

    *item = (struct item){.n_images = n_images};
    spec_init(&item->spec);
    item->spec.prompt = str_of("a cat");
    item->spec.width_px = item->spec.height_px = 64;
    memcpy(m.submit.key, &k, sizeof k);
    memset(m.submit.key + sizeof k, 7, KEY_BYTES - sizeof k);
    return m;
}

/* What a task's image is: n bytes made of its number. The buffer is the next call's, too. */
SIDE_UNUSED static struct str side_image(uint64_t task, size_t n)
{
    static uint8_t bytes[(1 << 20) + 8];
    uint64_t       z = task;

    if (n > sizeof bytes - 8) abort();
    for (size_t i = 0; i < n; i += 8) {
        z = z * 6364136223846793005u + 1442695040888963407u;
        memcpy(bytes + i, &z, 8);
    }
    return (struct str){(const char *)bytes, n};
}

SIDE_UNUSED static struct offer side_offer(const struct lease *l, struct str bytes, bool inside)
{
    struct offer o = {.task = l->task, .epoch = l->epoch, .width_px = 64, .height_px = 64, .took_ms = 1, .n_parts = 1};

    o.part[0] = (struct part){.kind = PART_IMAGE, .size_bytes = bytes.len};
    sha256_of(bytes.at, bytes.len, o.part[0].sha256);
    if (inside) o.bytes[0] = bytes;
    return o;
}

#endif
