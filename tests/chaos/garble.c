/* garble.c - garble BROKER [FLIPS [SEED]]: one random bit of the header, the body or the chunk of every message that two peers with good keys send. RELIABILITY.md s.6.3 C2.
 *
 * The real broker with CURVE keys. Mallory, a client, floods it with all of a client's messages and some of a worker's; a garbling worker takes leases like the other one, and sends
 * HELLO, READY, BEAT, OFFER, OFFERS and CHUNK with a bit flipped before it says each as it is. Beside them Alice has job after job of four images made and fetches every
 * byte. Fails when an image of hers has other bytes than its task's, a job of hers does not end, she or the good worker hear an error, or the broker ends.
 * A flip that crc32c cannot see, because it is in the header (correlation, flags, minor), leaves a good message: counted as taken. */
#include <inttypes.h>
#include <signal.h>
#include <zmq.h>

#include "proto/keyring.h"
#include "proto/wire.h"
#include "tests/chaos/sides.h"
#include "tests/tmp.h"

#define PATIENCE_MS 60000
#define TASKS       4    /* of a job: 300 and 2048 bytes, 70 and 300 KB */
#define UNANSWERED  200  /* messages of Mallory's: then she listens first */
#define AT_ONCE     16
#define CODES       12

static struct tmp tmp;
static char       endpoint[300] = "tcp://127.0.0.1:*", data[300], keys[300];
static pid_t      broker;
static uint64_t   state, n_flips, n_error[CODES], n_taken, n_jobs, n_images, n_again;
static bool       begun; /* the honest have met the broker */

static void side_fail(const char *what, const char *why)
{
    printf("FAILED after %" PRIu64 " flips: %s: %s\n", n_flips, what, why);
    fflush(stdout);
    if (broker > 0) kill(broker, SIGKILL);
    _exit(1);
}

static bool side_gone(void)
{
    if (waitpid(broker, NULL, WNOHANG) == broker) side_fail("the broker", "it ended");
    return false;
}

static uint64_t dice(uint64_t n) /* splitmix64 */
{
    uint64_t z = state += 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (z ^ z >> 31) % n;
}

static struct str image_of(uint64_t task)
{
    static const size_t size[TASKS] = {300, 2048, 70000, 300000};

    return side_image(task, size[(task & 0xfffff) % TASKS]);
}

/* ---- Alice, and the good worker ---- */
static struct side alice = {.role = ROLE_CLIENT, .name = "alice"}, good = {.role = ROLE_WORKER, .name = "good", .capacity = 2};
static struct {
    struct item item;
    uint64_t    job, key, correlation;
    bool        done[TASKS];
    uint32_t    n_done, fetching;
    char        part[300000];
    size_t      n_part;
} hers;

static void say(struct side *s, struct msg *m)
{
    if (!side_say(s, m, PATIENCE_MS)) side_fail(s->name, "the broker takes nothing");
}

static void alice_asks(void)
{
    struct msg m = {.kind = MSG_EVENTS, .events = {.job = hers.job, .limit = EVENTS_MAX, .wait_ms = 2000}};

    if (!hers.job) m = side_submit(&hers.item, TASKS, ++hers.key);
    else if (hers.n_done == TASKS) {
        m = (struct msg){.kind = MSG_FETCH, .fetch = {.task = hers.job << 20 | hers.fetching, .kind = PART_IMAGE, .credit_bytes = CREDIT_MAX_BYTES, .transfer = hers.key << 8 | hers.fetching}};
        hers.n_part = 0;
    }
    hers.correlation = m.correlation = ++alice.correlation;
    say(&alice, &m);
}

static void alice_has(void)
{
    struct str want = image_of(hers.job << 20 | hers.fetching);

    if (hers.n_part < want.len) return;
    if (hers.n_part != want.len || memcmp(hers.part, want.at, want.len) != 0) side_fail("alice", "an image has other bytes than its task's");
    n_images++;
    if (++hers.fetching == TASKS) {
        uint64_t   task[TASKS];
        struct msg m = {.kind = MSG_COLLECTED, .collected = {.task = task, .n_tasks = TASKS}};

        for (uint32_t i = 0; i < TASKS; i++) task[i] = hers.job << 20 | i;
        say(&alice, &m);
        n_jobs++;
        hers.job = hers.n_done = hers.fetching = 0;
        memset(hers.done, 0, sizeof hers.done);
    }
    alice_asks();
}

static void alice_hears(struct side *s, const struct msg *m)
{
    struct str bytes = m->kind == MSG_CHUNK ? m->chunk.bytes : m->kind == MSG_FETCH_OK ? m->fetch_ok.bytes : (struct str){0};

    (void)s;
    if (m->kind == MSG_ERROR) side_fail("alice is told", m->error.text.at);
    if (m->kind == MSG_CHUNK || m->kind == MSG_FETCH_OK) {
        if (bytes.len > sizeof hers.part - hers.n_part) side_fail("alice", "an image is too long");
        memcpy(hers.part + hers.n_part, bytes.at ? bytes.at : "", bytes.len);
        hers.n_part += bytes.len;
        if (hers.n_done == TASKS) alice_has();
        return;
    }
    if (m->correlation != hers.correlation) return;
    if (m->kind == MSG_SUBMIT_OK) hers.job = m->submit_ok.job;
    for (size_t i = 0; m->kind == MSG_EVENTS_OK && i < m->events_ok.n_events; i++) {
        const struct task_info *t = &m->events_ok.event[i];

        if (t->state == TASK_FAILED) side_fail("alice", "an image FAILED");
        hers.n_done += t->state == TASK_DONE && !hers.done[t->index];
        hers.done[t->index] |= t->state == TASK_DONE;
    }
    alice_asks();
}

static void upload(struct side *s, const struct offer_ok *o)
{
    struct str bytes = image_of(o->task);

    for (size_t at = 0; at < bytes.len; at += CHUNK_MAX_BYTES) {
        struct msg m = {.kind = MSG_CHUNK, .chunk = {.transfer = o->transfer[0], .offset = at, .bytes = str_sub(image_of(o->task), at, CHUNK_MAX_BYTES)}};

        m.chunk.last = at + m.chunk.bytes.len == bytes.len;
        say(s, &m);
    }
}

static void good_hears(struct side *s, const struct msg *m)
{
    const struct lease *l = m->kind == MSG_LEASE ? &m->lease : m->kind == MSG_LEASES ? m->leases.lease : NULL;
    size_t              n = m->kind == MSG_LEASES ? m->leases.n_leases : l ? 1 : 0;

    if (m->kind == MSG_ERROR) side_fail("the good worker is told", m->error.text.at);
    if (m->kind == MSG_OFFER_OK && m->offer_ok.verdict == OFFER_UPLOAD) upload(s, &m->offer_ok);
    for (size_t i = 0; i < n; i++) {
        struct msg offer = {.kind = MSG_OFFER, .offer = side_offer(&l[i], image_of(l[i].task), (l[i].task & 0xfffff) % TASKS < 2)};

        say(s, &offer);
    }
}

/* ---- one bit ---- */
static void garble(struct side *s, struct msg *m)
{
    static char bytes[CHUNK_MAX_BYTES];
    struct buf  head, body;
    struct err  e;
    size_t      n_chunk = m->kind == MSG_CHUNK ? m->chunk.bytes.len : 0;
    uint64_t    bit;
    void       *socket = peer_socket(s->peer);
    int         rc;

    buf_init(&head, FRAME_HEADER_BYTES);
    buf_init(&body, BODY_BIG_MAX_BYTES);
    m->correlation = ++s->correlation;
    if (wire_pack(m, &head, &body, &e)) side_fail("packing", e.text);
    memcpy(bytes, n_chunk ? m->chunk.bytes.at : "", n_chunk);
    switch (dice(n_chunk ? 3 : body.len ? 2 : 1)) { /* each frame as often as the others */
    case 0: bit = dice(8 * head.len); head.at[bit / 8] = (char)(head.at[bit / 8] ^ 1 << bit % 8); break;
    case 1: bit = dice(8 * body.len); body.at[bit / 8] = (char)(body.at[bit / 8] ^ 1 << bit % 8); break;
    default: bit = dice(8 * n_chunk); bytes[bit / 8] = (char)(bytes[bit / 8] ^ 1 << bit % 8);
    }
    rc = zmq_send(socket, head.at, head.len, ZMQ_DONTWAIT | ZMQ_SNDMORE);
    if (rc >= 0) rc = zmq_send(socket, body.len ? body.at : "", body.len, ZMQ_DONTWAIT | (n_chunk ? ZMQ_SNDMORE : 0));
    if (rc >= 0 && n_chunk) rc = zmq_send(socket, bytes, n_chunk, ZMQ_DONTWAIT);
    n_flips += rc >= 0;
    buf_release(&head);
    buf_release(&body);
}

static void count(const struct msg *m)
{
    if (m->kind == MSG_ERROR) n_error[m->error.code < CODES ? m->error.code : 0]++;
    else n_taken++;
}

/* ---- Mallory ---- */
static struct side mallory = {.role = ROLE_CLIENT, .name = "mallory"};
static uint64_t    n_answers, n_asked;
static bool        stranger; /* her session ended: a flip may say BYE */

static void mallory_hears(struct side *s, const struct msg *m)
{
    (void)s;
    n_answers++;
    count(m);
    stranger |= m->kind == MSG_ERROR && m->error.code == WIRE_UNKNOWN_SESSION;
}

static void mallory_asks(void)
{
    static uint64_t key = 1u << 20, task[TASKS];
    struct item     item;
    struct msg      some[] = {side_submit(&item, 1, ++key),
                              {.kind = MSG_EVENTS, .events = {.limit = 9}},
                              {.kind = MSG_JOBS, .jobs = {.limit = 9}},
                              {.kind = MSG_SHOW, .show = {.job = hers.job ? hers.job : 1, .limit = 9}},
                              {.kind = MSG_CANCEL, .cancel = {.job = hers.job ? hers.job : 1}},
                              {.kind = MSG_FETCH, .fetch = {.task = hers.job << 20 | 1, .kind = PART_IMAGE, .credit_bytes = 1000, .transfer = key}},
                              {.kind = MSG_COLLECTED, .collected = {.task = task, .n_tasks = TASKS}},
                              {.kind = MSG_CONTROL, .control = {.verb = CONTROL_REQUEUE, .job = hers.job ? hers.job : 1}},
                              {.kind = MSG_CONTROL, .control = {.verb = CONTROL_DRAIN, .worker = str_of("good")}},
                              {.kind = MSG_CREDIT, .credit = {.transfer = key, .credit_bytes = 1000}},
                              {.kind = MSG_READY, .ready = {.capacity = 4}},
                              {.kind = MSG_BEAT, .beat = {.seq = 1}},
                              {.kind = MSG_WORKERS},
                              {.kind = MSG_HELLO, .hello = {.role = ROLE_CLIENT, .major = WIRE_MAJOR, .minor = WIRE_MINOR, .name = str_of("mallory"), .version = str_of("test")}}};

    item.spec.model = str_of("nobody-has-it");
    for (uint32_t i = 0; i < TASKS; i++) task[i] = (hers.job ? hers.job : 1) << 20 | i;
    garble(&mallory, &some[dice(sizeof some / sizeof *some)]);
    n_asked++;
}

/* ---- the garbling worker ---- */
static struct side bad = {.role = ROLE_WORKER, .name = "bad", .capacity = 2};
static struct lease held[LEASES_MAX];
static size_t       n_held;

static void bad_hears(struct side *s, const struct msg *m)
{
    const struct lease *l = m->kind == MSG_LEASE ? &m->lease : m->kind == MSG_LEASES ? m->leases.lease : NULL;
    size_t              n = m->kind == MSG_LEASES ? m->leases.n_leases : l ? 1 : 0;

    (void)s;
    if (!l) count(m);
    for (size_t i = 0; i < n && n_held < LEASES_MAX; i++) {
        held[n_held] = l[i];
        held[n_held++].spec = (struct spec){0}; /* its texts go with the message */
    }
}

static void bad_hello(void)
{
    n_held = 0; /* what it held goes back, and is leased again */
    side_open(&bad, endpoint);
    if (!side_hello(&bad, PATIENCE_MS)) side_fail("the garbling worker", "no WELCOME");
}

/* A lease from its first garbled word to its result. */
static void bad_works(void)
{
    struct lease      l = held[0];
    struct str        bytes = image_of(l.task);
    bool              small = (l.task & 0xfffff) % TASKS < 2;
    struct progress   p = {.task = l.task, .epoch = l.epoch, .stage = STAGE_DENOISE};
    struct model_info model = {.name = str_of("turbo"), .profile = str_of("turbo"), .steps = 8};
    struct held       h = {l.task, l.epoch};

    for (int i = 0; i < 12; i++) {
        struct offer offer = side_offer(&l, image_of(l.task), small);
        struct msg   some[] = {{.kind = MSG_OFFER, .offer = offer},
                               {.kind = MSG_READY, .ready = {.capacity = 2}},
                               {.kind = MSG_BEAT, .beat = {.seq = 1, .progress = &p, .n_progress = 1}},
                               {.kind = MSG_HELLO, .hello = {.role = ROLE_WORKER, .major = WIRE_MAJOR, .minor = WIRE_MINOR, .name = str_of("bad"), .version = str_of("test"),
                                                             .capacity = 2, .model = &model, .n_models = 1, .held = &h, .n_held = 1}},
                               {.kind = MSG_OFFERS, .offers = {.offer = &offer, .n_offers = 1}}};

        memcpy(some[3].hello.instance, bad.instance, KEY_BYTES);
        garble(&bad, &some[dice(small ? 5 : 4)]);
    }
    for (int tries = 0;; tries++) {
        struct msg        m = {.kind = MSG_OFFER, .offer = side_offer(&l, image_of(l.task), small)};
        const struct msg *ok;
        struct offer_ok   go;

        if (tries == 20) side_fail("the garbling worker", "its result is not taken");
        n_again += tries > 0;
        ok = side_ask(&bad, &m, MSG_OFFER_OK, PATIENCE_MS);
        if (!ok && bad.got.kind == MSG_ERROR && bad.got.error.code == WIRE_UNKNOWN_SESSION) {
            bad_hello();
            return;
        }
        if (!ok && bad.got.kind == MSG_ERROR) continue;
        if (!ok || ok->offer_ok.verdict != OFFER_UPLOAD) break; /* RESULT_OK, or it is known already */
        go = ok->offer_ok;
        for (size_t at = 0; at < bytes.len; at += CHUNK_MAX_BYTES) {
            struct msg c = {.kind = MSG_CHUNK, .chunk = {.transfer = go.transfer[0], .offset = at}};

            for (int i = 0; i < 6; i++) {
                c.chunk.bytes = str_sub(image_of(l.task), at, CHUNK_MAX_BYTES);
                c.chunk.last = at + c.chunk.bytes.len == bytes.len;
                c.correlation = 0;
                if (i < 5) garble(&bad, &c);
                else say(&bad, &c);
            }
        }
        /* whether it came whole, the next offer tells: HAVE */
    }
    memmove(held, held + 1, --n_held * sizeof *held);
}

/* ---- the run ---- */
static bool sides_turn(void)
{
    struct side *all[] = {&alice, &good, &mallory, &bad};
    bool         any = false;

    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        if (!all[i]->peer) continue;
        if (begun && all[i] != &bad) arena_reset(&all[i]->arena, 0); /* bad asks, and keeps its answer */
        any |= side_turn(all[i]);
    }
    if (!begun) return any;
    if (stranger) {
        side_open(&mallory, endpoint);
        stranger = begun = false; /* her WELCOME is kept till then */
        if (!side_hello(&mallory, PATIENCE_MS)) side_fail("mallory", "no WELCOME");
        begun = true;
        n_asked = n_answers;
    }
    for (int i = 0; i < AT_ONCE && n_asked - n_answers < UNANSWERED; i++) mallory_asks();
    if (n_asked - n_answers >= UNANSWERED && !any) n_asked = n_answers; /* some are never answered */
    return any;
}

static void keys_make(void)
{
    static struct key key[4];
    static const struct {
        const char   *name;
        enum key_role role;
        struct side  *side;
    } who[4] = {{"alice", KEY_CLIENT, &alice}, {"good", KEY_WORKER, &good}, {"mallory", KEY_CLIENT, &mallory}, {"bad", KEY_WORKER, &bad}};
    struct keyring r = {0};
    struct key     server;
    struct err     e = {0};
    char           path[400];

    snprintf(keys, sizeof keys, "%s", tmp.dir);
    key_make(&server, "server", KEY_BROKER, NULL);
    snprintf(path, sizeof path, "%s/server.key", keys);
    if (key_write(&server, path, &e)) side_fail(path, e.text);
    for (size_t i = 0; i < 4; i++) {
        key_make(&key[i], who[i].name, who[i].role, server.public_key);
        who[i].side->key = &key[i];
        if (keyring_add(&r, who[i].name, who[i].role, key[i].public_key, &e)) side_fail(who[i].name, e.text);
    }
    snprintf(path, sizeof path, "%s/accounts", keys);
    if (keyring_write(&r, path, &e)) side_fail(path, e.text);
    keyring_release(&r);
}

int main(int argc, char **argv)
{
    uint64_t flips = argc > 2 ? strtoull(argv[2], NULL, 10) : 100000;
    char     line[300];
    char    *args[] = {argc > 1 ? argv[1] : "", "--ready-fd", "", "--listen", endpoint, "--data", data, "--keys", keys, "--log-level", "none", "--crash-guard", "0", NULL};
    int64_t  began = now_ms(), moved = began;
    uint64_t seen = 0;
    int      status;

    state = argc > 3 ? strtoull(argv[3], NULL, 10) : 1;
    if (argc < 2 || argc > 4 || flips < 1) {
        fprintf(stderr, "usage: garble BROKER [FLIPS [SEED]]\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    side_deadline();
    tmp_open(&tmp);
    snprintf(data, sizeof data, "%.250s/data", tmp.dir);
    keys_make();
    broker = side_broker(args, 2, NULL, line, sizeof line);
    if (!line[0]) side_fail(argv[1], "it did not start");
    snprintf(endpoint, sizeof endpoint, "%.299s", line);
    for (struct side *all[] = {&alice, &good, &mallory, &bad}, **s = all; s < all + 4; s++) {
        side_open(*s, endpoint);
        if (!side_hello(*s, PATIENCE_MS)) side_fail((*s)->name, "no WELCOME");
    }
    alice.hears = alice_hears;
    good.hears = good_hears;
    mallory.hears = mallory_hears;
    bad.hears = bad_hears;
    begun = true;
    alice_asks();
    while (n_flips < flips || n_jobs < 3) {
        if (n_held) bad_works();
        else if (!sides_turn()) usleep(SIDE_NAP_US);
        side_gone();
        if (n_images != seen) moved = now_ms();
        seen = n_images;
        if (now_ms() - moved > PATIENCE_MS) side_fail("alice", "she waits for ever");
    }
    printf("%" PRIu64 " flips in %.0f s beside %" PRIu64 " jobs of alice, whose %" PRIu64 " images are right: answered PROTOCOL %" PRIu64 ", INVALID %" PRIu64 ", UNSUPPORTED %" PRIu64 ", NOT_FOUND %" PRIu64
           ", DENIED %" PRIu64 ", VERSION %" PRIu64 ", other errors %" PRIu64 ", taken as good %" PRIu64 "; a result was offered again %" PRIu64 " times\n",
           n_flips, (double)(now_ms() - began) / 1000, n_jobs, n_images, n_error[WIRE_PROTOCOL], n_error[WIRE_INVALID], n_error[WIRE_UNSUPPORTED], n_error[WIRE_NOT_FOUND],
           n_error[WIRE_DENIED], n_error[WIRE_VERSION], n_error[WIRE_UNKNOWN_SESSION] + n_error[WIRE_CONFLICT] + n_error[WIRE_BUSY] + n_error[WIRE_QUOTA] + n_error[WIRE_INTERNAL],
           n_taken, n_again);
    kill(broker, SIGTERM);
    if (waitpid(broker, &status, 0) != broker || status) side_fail("the broker", "it did not end in order");
    for (struct side *all[] = {&alice, &good, &mallory, &bad}, **s = all; s < all + 4; s++) peer_close((*s)->peer);
    peer_shutdown();
    tmp_close(&tmp);
    return 0;
}
