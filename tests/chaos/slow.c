/* slow.c - slow BROKER [TASKS [SLOW [NOISE_KIB]]]: clients that read 1 KiB a second while others work. RELIABILITY.md s.6.3 A1.
 *
 * The real broker on loopback; ten clients and four workers, all played here, make TASKS (10,000) images of 2 KiB, each client asking for its events as they come; twice:
 * without anybody slow, and beside SLOW (8) clients on bare TCP sockets with small buffers that read 1 KiB a second. Half of those ask politely, EVENTS of all jobs with the images
 * inside, one at a time; the others never wait: EVENTS, SHOW and JOBS twenty times a second, whatever is not read yet. Who takes nothing for ZMQ_TCP_MAXRT may be cut off, and comes
 * again. Says what the broker's memory grew by in both, and how
 * long the others' questions took. Fails when a slow client costs more than 1 MiB and its largest answer (another MiB: the broker cannot know what an answer will be), when an image is
 * lost, or when the others wait for a second. */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>

#include "proto/wire.h"
#include "tests/chaos/sides.h"
#include "tests/tmp.h"

#define OTHERS      10
#define WORKERS     4
#define SLOW_MAX    64
#define JOB_TASKS   50
#define IMAGE_BYTES 2048
#define RUDE_MS     50
#define PATIENCE_MS 60000
#define EACH_KIB    2048 /* what a slow client may cost */
#define NOISE_KIB   4096 /* unsaid: of the allocator, and of what the second half's jobs take beyond the first's */

static struct tmp  tmp;
static char        endpoint[300] = "tcp://127.0.0.1:*", data[300];
static pid_t       broker;
static int64_t    *ask_us;
static size_t      n_ask, cap_ask;

static void side_fail(const char *what, const char *why)
{
    printf("FAILED: %s: %s\n", what, why);
    fflush(stdout);
    if (broker > 0) kill(broker, SIGKILL);
    _exit(1);
}

/* ---- the others ---- */
struct other { /* one client's open job */
    struct side     side;
    struct item     item;
    uint64_t        job, cursor, correlation;
    uint32_t        n_done;
    int64_t         asked_us;
    enum msg_kind   asked;
};

static struct other other[OTHERS];
static struct side  worker[WORKERS];
static size_t       n_given, n_wanted, n_made;
static uint64_t     next_key;

static bool side_gone(void)
{
    if (waitpid(broker, NULL, WNOHANG) == broker) side_fail("the broker", "it ended");
    return false;
}

static void worker_hears(struct side *s, const struct msg *m)
{
    struct offer offer[OFFERS_MAX];
    static char  bytes[OFFERS_MAX][IMAGE_BYTES];
    struct msg   reply = {.kind = MSG_OFFERS, .offers = {.offer = offer}};
    const struct lease *l = m->kind == MSG_LEASE ? &m->lease : m->kind == MSG_LEASES ? m->leases.lease : NULL;

    if (!l) return;
    reply.offers.n_offers = m->kind == MSG_LEASE ? 1 : m->leases.n_leases;
    for (size_t i = 0; i < reply.offers.n_offers; i++) {
        memcpy(bytes[i], side_image(l[i].task, IMAGE_BYTES).at, IMAGE_BYTES);
        offer[i] = side_offer(&l[i], (struct str){bytes[i], IMAGE_BYTES}, true);
    }
    if (!side_say(s, &reply, PATIENCE_MS)) side_fail("a worker", "the broker takes nothing");
}

static void say_next(struct other *o)
{
    struct msg m = {0};

    if (!o->job) {
        if (n_given >= n_wanted) return;
        n_given += JOB_TASKS;
        m = side_submit(&o->item, JOB_TASKS, ++next_key);
    } else {
        m = (struct msg){.kind = MSG_EVENTS, .events = {.job = o->job, .cursor = o->cursor, .limit = EVENTS_MAX, .wait_ms = 5000, .inline_bytes = IMAGE_BYTES}};
    }
    o->asked = m.kind;
    o->asked_us = now_us();
    o->correlation = m.correlation = ++o->side.correlation;
    if (!side_say(&o->side, &m, PATIENCE_MS)) side_fail("a client", "the broker takes nothing");
}

static void took(int64_t us)
{
    if (n_ask == cap_ask) {
        cap_ask = cap_ask ? 2 * cap_ask : 4096;
        ask_us = realloc(ask_us, cap_ask * sizeof *ask_us);
        if (!ask_us) abort();
    }
    ask_us[n_ask++] = us;
}

static void other_hears(struct side *s, const struct msg *m)
{
    struct other *o = (struct other *)(void *)s;

    if (m->kind == MSG_ERROR) side_fail("a client is told", m->error.text.at);
    if (m->correlation != o->correlation) return;
    if (m->kind == MSG_SUBMIT_OK) {
        took(now_us() - o->asked_us); /* EVENTS are held until there are some: only this is the broker's own time */
        o->job = m->submit_ok.job;
    } else if (m->kind == MSG_EVENTS_OK) {
        o->cursor = m->events_ok.next_cursor;
        for (size_t i = 0; i < m->events_ok.n_events; i++) {
            const struct task_info *t = &m->events_ok.event[i];

            if (t->state != TASK_DONE) continue;
            if (t->bytes[0].len && (t->bytes[0].len != IMAGE_BYTES || memcmp(t->bytes[0].at, side_image(t->task, IMAGE_BYTES).at, IMAGE_BYTES) != 0))
                side_fail("an image", "other bytes than were made");
            o->n_done++;
            n_made++;
        }
        if (o->n_done == JOB_TASKS) o->job = o->cursor = o->n_done = 0;
    } else {
        return;
    }
    say_next(o);
}

/* ---- the slow ones ---- */
struct slow {
    int      fd;
    bool     rude;
    uint64_t read_bytes, left; /* of the frame that is being read */
    uint8_t  head[9];
    size_t   n_head;
    bool     answered; /* a whole message has come */
    bool     cut;      /* off, by the broker */
    uint64_t n_asked, n_cut, correlation;
    int64_t  said_ms;
};

static struct slow slow[SLOW_MAX];
static size_t      n_slow;

static void put(struct slow *s, const void *at, size_t n)
{
    if (send(s->fd, at, n, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)n && errno != EAGAIN && errno != EWOULDBLOCK) s->cut = true;
}

static bool can_put(const struct slow *s)
{
    struct pollfd p = {.fd = s->fd, .events = POLLOUT};

    return poll(&p, 1, 0) == 1 && (p.revents & POLLOUT);
}

/* A message of two frames, as ZMTP 3 writes them. */
static void say_raw(struct slow *s, struct msg *m)
{
    static uint8_t out[4096];
    struct buf     head, body;
    struct err     e;
    size_t         n = 0;

    buf_init(&head, FRAME_HEADER_BYTES);
    buf_init(&body, 2048);
    m->correlation = ++s->correlation;
    if (wire_pack(m, &head, &body, &e)) side_fail("packing", e.text);
    out[n++] = 1; /* more follows */
    out[n++] = (uint8_t)head.len;
    memcpy(out + n, head.at, head.len);
    n += head.len;
    out[n++] = 2; /* the last; long: eight bytes of length */
    for (int i = 7; i >= 0; i--) out[n++] = (uint8_t)((uint64_t)body.len >> (8 * i));
    memcpy(out + n, body.at, body.len);
    n += body.len;
    put(s, out, n);
    s->n_asked++;
    s->answered = false;
    buf_release(&head);
    buf_release(&body);
}

static void slow_open(struct slow *s, bool rude)
{
    static const uint8_t greeting[64] = {0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 3, 1, 'N', 'U', 'L', 'L'};
    static const uint8_t ready[] = "\x04\x1c\x05READY\x0bSocket-Type\x00\x00\x00\x06" "DEALER";
    struct sockaddr_in   at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)strtol(strrchr(endpoint, ':') + 1, NULL, 10))};
    struct msg           hello = {.kind = MSG_HELLO, .hello = {.role = ROLE_CLIENT, .major = WIRE_MAJOR, .minor = WIRE_MINOR, .name = str_of("slow"), .version = str_of("test")}};
    const int            small = 2048;
    uint8_t              page[64 + 2 + 28];

    inet_pton(AF_INET, "127.0.0.1", &at.sin_addr);
    *s = (struct slow){.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), .rude = rude, .read_bytes = s->read_bytes, .n_asked = s->n_asked, .n_cut = s->n_cut};
    if (s->fd < 0 || setsockopt(s->fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small) || connect(s->fd, (struct sockaddr *)&at, sizeof at)) side_fail("a slow client", "no connection");
    put(s, greeting, sizeof greeting);
    put(s, ready, sizeof ready - 1);
    for (size_t n = 0; n < 64 + 2;) {
        ssize_t got = recv(s->fd, page + n, 64 + 2 - n, 0);

        if (got <= 0) side_fail("a slow client", "no handshake");
        n += (size_t)got;
    }
    for (size_t left = page[65]; left;) { /* its READY */
        ssize_t got = recv(s->fd, page, left, 0);

        if (got <= 0) side_fail("a slow client", "no handshake");
        left -= (size_t)got;
    }
    random_bytes(hello.hello.instance, KEY_BYTES);
    say_raw(s, &hello);
}

/* One byte stream: flags, length, body. */
static void parse(struct slow *s, const uint8_t *at, size_t n)
{
    while (n) {
        size_t need = s->n_head && (s->head[0] & 2) ? 9 : 2, k;

        if (s->left) {
            k = n < s->left ? n : (size_t)s->left;
            s->left -= k;
            at += k;
            n -= k;
            if (!s->left && !(s->head[0] & 1)) s->answered = true;
            if (!s->left) s->n_head = 0;
            continue;
        }
        s->head[s->n_head++] = *at++;
        n--;
        need = s->head[0] & 2 ? 9 : 2;
        if (s->n_head < need) continue;
        for (size_t i = 1; i < need; i++) s->left = s->left << 8 | s->head[i];
        if (!s->left) {
            if (!(s->head[0] & 1)) s->answered = true;
            s->n_head = 0;
        }
    }
}

static void slow_read(struct slow *s)
{
    uint8_t page[1024];
    ssize_t n = recv(s->fd, page, sizeof page, MSG_DONTWAIT);

    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK)) s->cut = true;
    if (n <= 0) return;
    s->read_bytes += (uint64_t)n;
    parse(s, page, (size_t)n);
}

static void slow_turn(int64_t now)
{
    static int64_t read_ms;

    for (size_t i = 0; i < n_slow; i++) {
        struct slow *s = &slow[i];
        struct msg   ask[3] = {{.kind = MSG_EVENTS, .events = {.limit = EVENTS_MAX, .wait_ms = EVENTS_WAIT_MAX_MS, .inline_bytes = INLINE_MAX_BYTES}},
                               {.kind = MSG_SHOW, .show = {.job = 1, .limit = SHOW_TASKS_MAX}},
                               {.kind = MSG_JOBS, .jobs = {.limit = JOBS_MAX}}};

        if (s->cut) {
            close(s->fd);
            s->n_cut++;
            slow_open(s, s->rude);
        }
        if (s->rude ? now - s->said_ms < RUDE_MS || !can_put(s) : !s->answered) continue;
        s->said_ms = now;
        say_raw(s, &ask[s->rude ? s->n_asked % 3 : 0]);
    }
    if (now - read_ms < 1000) return;
    read_ms = now;
    for (size_t i = 0; i < n_slow; i++) slow_read(&slow[i]);
}

/* ---- the run ---- */
static bool sides_turn(void)
{
    bool any = false;

    for (size_t i = 0; i < OTHERS; i++) {
        arena_reset(&other[i].side.arena, 0);
        any |= side_turn(&other[i].side);
    }
    for (size_t i = 0; i < WORKERS; i++) {
        arena_reset(&worker[i].arena, 0);
        any |= side_turn(&worker[i]);
    }
    slow_turn(now_ms());
    return any;
}

static long rss_kib(void)
{
    char  path[64], line[200];
    long  kib = 0;
    FILE *f;

    snprintf(path, sizeof path, "/proc/%d/status", (int)broker);
    f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f))
        if (!strncmp(line, "VmRSS:", 6)) kib = strtol(line + 6, NULL, 10);
    if (f) fclose(f);
    return kib;
}

static int by_value(const void *a, const void *b)
{
    const int64_t *x = a, *y = b;

    return *x < *y ? -1 : *x > *y;
}

struct figures {
    long   grew_kib;
    double p50_ms, p99_ms, took_s;
};

static struct figures make(size_t n)
{
    struct figures f = {.grew_kib = -rss_kib()};
    int64_t        began = now_ms(), moved = began;
    size_t         seen = n_made;

    n_wanted = n_given + n;
    n_ask = 0;
    for (size_t i = 0; i < OTHERS; i++) say_next(&other[i]);
    while (n_made < n_wanted) {
        if (!sides_turn()) usleep(SIDE_NAP_US);
        if (n_made != seen) moved = now_ms();
        seen = n_made;
        side_gone();
        if (now_ms() - moved > PATIENCE_MS) side_fail("the others", "they wait for ever");
    }
    for (int64_t until = now_ms() + 3000; n_slow && now_ms() < until; usleep(1000)) slow_turn(now_ms()); /* they may go on asking */
    f.took_s = (double)(now_ms() - began) / 1000;
    f.grew_kib += rss_kib();
    qsort(ask_us, n_ask, sizeof *ask_us, by_value);
    f.p50_ms = (double)ask_us[n_ask / 2] / 1000;
    f.p99_ms = (double)ask_us[n_ask * 99 / 100] / 1000;
    return f;
}

int main(int argc, char **argv)
{
    size_t tasks = argc > 2 ? (size_t)strtoul(argv[2], NULL, 10) : 10000, n = argc > 3 ? (size_t)strtoul(argv[3], NULL, 10) : 8;
    long   noise_kib = argc > 4 ? strtol(argv[4], NULL, 10) : NOISE_KIB;
    char   line[300];
    char  *args[] = {argc > 1 ? argv[1] : "", "--ready-fd", "", "--listen", endpoint, "--data", data, "--log-level", "none", "--crash-guard", "0", NULL};
    struct figures calm, with;
    uint64_t       n_asked = 0, n_read = 0, n_cut = 0;
    long           most_kib;

    if (argc < 2 || argc > 5 || tasks < JOB_TASKS || tasks > 1000000 || n < 1 || n > SLOW_MAX) {
        fprintf(stderr, "usage: slow BROKER [TASKS [SLOW [NOISE_KIB]]]\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    side_deadline();
    tmp_open(&tmp);
    snprintf(data, sizeof data, "%.250s/data", tmp.dir);
    broker = side_broker(args, 2, NULL, line, sizeof line);
    if (!line[0]) side_fail(argv[1], "it did not start");
    snprintf(endpoint, sizeof endpoint, "%.299s", line);
    for (size_t i = 0; i < WORKERS + OTHERS; i++) {
        struct side *s = i < WORKERS ? &worker[i] : &other[i - WORKERS].side;

        *s = (struct side){.role = i < WORKERS ? ROLE_WORKER : ROLE_CLIENT, .name = "other", .capacity = 16};
        side_open(s, endpoint);
    }
    for (size_t i = 0; i < WORKERS + OTHERS; i++) {
        struct side *s = i < WORKERS ? &worker[i] : &other[i - WORKERS].side;

        if (!side_hello(s, PATIENCE_MS)) side_fail("HELLO", "no WELCOME");
        s->hears = i < WORKERS ? worker_hears : other_hears;
    }
    make(tasks / 4); /* what memory is taken once is taken */
    calm = make(tasks);
    for (; n_slow < n; n_slow++) slow_open(&slow[n_slow], n_slow % 2);
    with = make(tasks);
    for (size_t i = 0; i < n_slow; i++) {
        n_asked += slow[i].n_asked;
        n_read += slow[i].read_bytes;
        n_cut += slow[i].n_cut;
    }
    most_kib = (long)n * EACH_KIB + noise_kib + (calm.grew_kib > 0 ? calm.grew_kib : 0);
    printf("%zu images by %d clients: alone %.1f s, %ld KiB more memory, a question p50 %.2f ms, p99 %.2f ms; beside %zu slow ones %.1f s, %ld KiB (%.0f KiB for each of them; at most %d), p50 %.2f ms, "
           "p99 %.2f ms; the slow asked %" PRIu64 " times, read %" PRIu64 " KiB and were cut off %" PRIu64 " times\n", tasks, OTHERS, calm.took_s, calm.grew_kib, calm.p50_ms, calm.p99_ms, n, with.took_s, with.grew_kib,
           (double)(with.grew_kib - calm.grew_kib) / (double)n, EACH_KIB, with.p50_ms, with.p99_ms, n_asked, n_read / 1024, n_cut);
    if (with.grew_kib > most_kib) side_fail("memory", "a slow client costs more than it may");
    kill(broker, SIGTERM);
    waitpid(broker, NULL, 0);
    for (size_t i = 0; i < OTHERS; i++) peer_close(other[i].side.peer);
    for (size_t i = 0; i < WORKERS; i++) peer_close(worker[i].peer);
    peer_shutdown();
    tmp_close(&tmp);
    return 0;
}
