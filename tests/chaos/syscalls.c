/* syscalls.c - syscalls BINDIR [ROUNDS [SEED]]: the n-th call of the broker's disk fails, for every n up to 500 (failing.c has the layer). RELIABILITY.md s.6.3 P2.
 *
 * A round is one n, one way to fail (EIO once, EIO from then on, ENOSPC once, from then on, a short write) and one end (kill -9, or the power cut of powerloss.c): 5,000 in
 * all, taken in an order drawn from SEED. In it the real broker, on a folder of its own, a client and a worker, both played here: ten jobs of four images, two of them files
 * and two rows, and of what they are told they keep a history. When the broker has ended, or fallen silent, or the work is done, it is ended; then it must start on what is
 * left, without the layer, and everything it acknowledged must be there: jobs by their keys, results DONE with their bytes, cancels, collections; and all the rest is made.
 * Fails when a broker ends by anything but its own decision (74, or 1 before it listens), or the history does not hold. */
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/file.h"
#include "tests/chaos/failing.h"
#include "tests/chaos/sides.h"
#include "tests/tmp.h"

#define CALLS       500
#define JOBS        10
#define TASKS       4      /* images of a job: of 40 bytes, 5 and 70 KB and 300 KB: rows, and files that are written at once or as they come */
#define SILENCE_MS  700    /* in which a broker whose disk has failed may not answer: it tries again twice a second */
#define QUIET_MS    5000   /* a worker hears nothing of its results: then EVENTS is asked */
#define PATIENCE_MS 60000  /* before that, and with a sound disk */
#define ROOM_BYTES  (56u << 20)
#define CANCELED    JOBS   /* the job that nobody can make, and that is canceled */

enum way { EIO_ONCE, EIO_ON, ENOSPC_ONCE, ENOSPC_ON, SHORT_ONCE, N_WAYS };
static const char *const way_as[N_WAYS] = {"eio", "eio", "enospc", "enospc", "short"};
static const bool        way_on[N_WAYS] = {false, true, false, true, false};

struct told { /* what one job's owner and worker were told */
    uint64_t job; /* SUBMIT_OK */
    bool     canceled;
    bool     done[TASKS], collected[TASKS]; /* RESULT_OK, HAVE, or an event; COLLECTED_OK */
};

struct round {
    unsigned     n;
    enum way     way;
    bool         power;
    struct told  told[JOBS + 1], *submits; /* whose SUBMIT_OK comes: its worker may be told of results in the same turn */
    size_t       n_refused; /* results of this job */
    bool         stranger;  /* the worker was silent for too long */
    int64_t      said_ms;
    bool         layered; /* the disk fails, or will */
    int64_t      heard_ms; /* since then silence counts */
    char        *part; /* of a FETCH by chunks */
    size_t       n_part;
    pid_t        pid;
    bool         over; /* the broker ended by itself */
    int          status;
};

static struct tmp           disk;
static char                 bin[300], data[300], shadow[300], endpoint[320], layers[1400];
static struct failing_said *said;
static struct round         r;
static unsigned long        n_ended, n_jobs, n_results, n_collected, n_canceled; /* brokers that gave up; what was acknowledged */
static struct side          client = {.role = ROLE_CLIENT, .name = "client"}, worker = {.role = ROLE_WORKER, .name = "worker", .capacity = TASKS};

static void side_fail(const char *what, const char *why)
{
    printf("FAILED: call %u, %s%s, then %s (the layer failed %u of %u calls, first %s): %s: %s\n", r.n, way_as[r.way], way_on[r.way] ? " from then on" : "",
           r.power ? "a power cut" : "kill -9", said->n_failed, said->n_calls, said->n_failed ? said->what : "none", what, why);
    fflush(stdout);
    if (r.pid > 0) kill(r.pid, SIGKILL);
    _exit(1); /* its folder stays */
}

static struct str image_of(uint64_t task)
{
    static const size_t size[TASKS] = {40, 5000, 70000, 300000};

    return side_image(task, size[(task & 0xfffff) % TASKS]);
}

static struct told *told_of(uint64_t task, size_t *index)
{
    *index = task & 0xfffff;
    for (size_t i = 0; i <= JOBS; i++)
        if (r.told[i].job == task >> 20 && *index < TASKS) return &r.told[i];
    return NULL;
}

static void is_done(uint64_t task)
{
    size_t       index;
    struct told *t = told_of(task, &index);

    if (t) t->done[index] = true;
}

/* ---- the broker ---- */
static void lay(void)
{
    char text[32], asan[300];
    int  nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);

    dup2(nowhere, 2); /* what it says of its disk is meant so */
    snprintf(text, sizeof text, "%u", r.n);
    snprintf(asan, sizeof asan, "%s:verify_asan_link_order=0", getenv("ASAN_OPTIONS") ? getenv("ASAN_OPTIONS") : ""); /* its library comes behind ours */
    setenv("ASAN_OPTIONS", asan, 1);
    setenv("LD_PRELOAD", layers, 1);
    setenv("FAILING_ROOT", data, 1);
    setenv("FAILING_AT", text, 1);
    setenv("FAILING_AS", way_as[r.way], 1);
    setenv("FAILING_ON", way_on[r.way] ? "1" : "0", 1);
    setenv("POWERLOSS_ROOT", data, 1);
    setenv("POWERLOSS_SHADOW", shadow, 1);
}

/* True when it listens; false: it ended. */
static bool broker_start(bool failing)
{
    char  program[320], line[400];
    char *argv[] = {program, "--ready-fd", "", "--listen", endpoint, "--data", data, "--log-level", "none", "--crash-guard", "0", NULL};

    snprintf(program, sizeof program, "%s/zfarm-broker", bin);
    r.over = false;
    r.pid = side_broker(argv, 2, failing ? lay : NULL, line, sizeof line);
    return line[0];
}

/* Has it ended? By its own decision, or we fail. */
static bool broker_over(bool ready, bool wait)
{
    char text[64];

    if (r.over) return true;
    if (waitpid(r.pid, &r.status, wait ? 0 : WNOHANG) != r.pid) return false;
    r.pid = 0;
    r.over = true;
    snprintf(text, sizeof text, "%s %d", WIFEXITED(r.status) ? "exit code" : "signal", WIFEXITED(r.status) ? WEXITSTATUS(r.status) : WTERMSIG(r.status));
    if (!WIFEXITED(r.status) || (WEXITSTATUS(r.status) != 74 && (ready || WEXITSTATUS(r.status) != 1))) side_fail("the broker's end", text);
    return true;
}

/* Nobody to wait for: it ended, or its disk has failed and it says nothing. */
static bool side_gone(void)
{
    if (broker_over(true, false)) return true;
    if (!r.layered || !said->n_failed) r.heard_ms = now_ms();
    return now_ms() - r.heard_ms > SILENCE_MS;
}

static bool sides_turn(void)
{
    bool any = side_turn(&client);

    any |= side_turn(&worker);
    if (any) r.heard_ms = now_ms();
    return any;
}

/* ---- two who speak with it ---- */
static void work_on(const struct lease *l)
{
    struct msg m = {.kind = MSG_OFFER, .offer = side_offer(l, image_of(l->task), (l->task & 0xfffff) < 2)};

    side_say(&worker, &m, PATIENCE_MS);
}

static void upload(const struct offer_ok *o)
{
    struct str bytes = image_of(o->task);

    for (size_t at = 0; at < bytes.len; at += CHUNK_MAX_BYTES) {
        struct msg m = {.kind = MSG_CHUNK, .chunk = {.transfer = o->transfer[0], .offset = at, .bytes = str_sub(bytes, at, CHUNK_MAX_BYTES)}};

        m.chunk.last = at + m.chunk.bytes.len == bytes.len;
        side_say(&worker, &m, PATIENCE_MS);
    }
}

static void worker_hears(struct side *s, const struct msg *m)
{
    (void)s;
    switch (m->kind) {
    case MSG_LEASE: work_on(&m->lease); break;
    case MSG_LEASES:
        for (size_t i = 0; i < m->leases.n_leases; i++) work_on(&m->leases.lease[i]);
        break;
    case MSG_OFFER_OK:
        if (m->offer_ok.verdict == OFFER_UPLOAD) upload(&m->offer_ok);
        if (m->offer_ok.verdict == OFFER_HAVE) is_done(m->offer_ok.task);
        break;
    case MSG_RESULT_OK: is_done(m->result_ok.task); break;
    case MSG_ERROR: /* it is offered no more in this round */
        r.n_refused++;
        r.stranger |= m->error.code == WIRE_UNKNOWN_SESSION;
        break;
    default: break;
    }
}

static void client_hears(struct side *s, const struct msg *m)
{
    (void)s;
    if (m->kind == MSG_SUBMIT_OK && r.submits) r.submits->job = m->submit_ok.job;
    if (m->kind != MSG_CHUNK) return;
    if (m->chunk.offset != r.n_part || r.n_part + m->chunk.bytes.len > 300000) side_fail("a download", "a chunk out of its place");
    memcpy(r.part + r.n_part, m->chunk.bytes.at, m->chunk.bytes.len);
    r.n_part += m->chunk.bytes.len;
}

static struct msg submit_of(size_t at, struct item *item)
{
    struct msg m = side_submit(item, TASKS, at + 1);

    if (at == CANCELED) item->spec.model = str_of("nobody-has-it");
    return m;
}

static size_t n_done(const struct told *t)
{
    size_t n = 0;

    for (size_t i = 0; i < TASKS; i++) n += t->done[i];
    return n;
}

/* The bytes of a DONE image must be its own: wrong ones are never served, whatever the disk does. False: not had now. */
static bool fetch(uint64_t task, int64_t patience_ms)
{
    static uint64_t transfer;
    struct str      want;
    struct msg      m = {.kind = MSG_FETCH, .fetch = {.task = task, .kind = PART_IMAGE, .credit_bytes = CREDIT_MAX_BYTES, .transfer = ++transfer}};
    const struct msg *ok;
    int64_t           stop = now_ms() + patience_ms;

    r.n_part = 0;
    r.heard_ms = now_ms();
    ok = side_ask(&client, &m, MSG_FETCH_OK, patience_ms);
    if (!ok) return false;
    want = image_of(task);
    if (ok->fetch_ok.bytes.len) {
        r.n_part = ok->fetch_ok.bytes.len;
        memcpy(r.part, ok->fetch_ok.bytes.at, r.n_part);
    }
    while (r.n_part < want.len && now_ms() < stop && !side_gone())
        if (!sides_turn()) usleep(SIDE_NAP_US);
    if (r.n_part < want.len) return false;
    want = image_of(task);
    if (r.n_part != want.len || memcmp(r.part, want.at, want.len) != 0) side_fail("a download", "other bytes than were delivered");
    return true;
}

/* ---- while the disk fails ---- */
static const struct msg *ask(struct msg *m, enum msg_kind want)
{
    r.heard_ms = now_ms();
    return side_ask(&client, m, want, PATIENCE_MS);
}

static bool collect(struct told *t)
{
    uint64_t   task[2] = {t->job << 20, t->job << 20 | 2}; /* a row and a file */
    struct msg m = {.kind = MSG_COLLECTED, .collected = {.task = task, .n_tasks = 2}};

    if (!t->done[0] || !t->done[2]) return true;
    if (!ask(&m, MSG_COLLECTED_OK)) return client.got.kind == MSG_ERROR;
    t->collected[0] = t->collected[2] = true;
    return true;
}

static bool cancel(struct told *t)
{
    struct item item;
    struct msg  m = submit_of(CANCELED, &item), c = {.kind = MSG_CANCEL};

    if (!ask(&m, MSG_SUBMIT_OK)) return client.got.kind == MSG_ERROR;
    c.cancel.job = t->job = client.got.submit_ok.job;
    t->canceled = ask(&c, MSG_CANCEL_OK) != NULL;
    return t->canceled || client.got.kind == MSG_ERROR;
}

/* One job from its SUBMIT to its collection. False: the broker is silent or gone. */
static bool one_job(size_t at)
{
    struct told *t = &r.told[at];
    struct item  item;
    struct msg   m = submit_of(at, &item), events = {.kind = MSG_EVENTS, .events = {.limit = EVENTS_MAX, .inline_bytes = INLINE_MAX_BYTES}};
    int64_t      heard_ms;
    bool         submitted;

    r.submits = t;
    r.n_refused = 0;
    submitted = ask(&m, MSG_SUBMIT_OK);
    r.submits = NULL;
    if (!submitted) return client.got.kind == MSG_ERROR;
    events.events.job = t->job;
    for (r.heard_ms = heard_ms = now_ms(); n_done(t) + r.n_refused < TASKS && now_ms() - heard_ms < QUIET_MS && !side_gone();) {
        if (sides_turn()) heard_ms = now_ms();
        else usleep(SIDE_NAP_US);
    }
    if (r.over) return false;
    if (!ask(&events, MSG_EVENTS_OK)) return false;
    for (size_t i = 0; i < client.got.events_ok.n_events; i++)
        if (client.got.events_ok.event[i].state == TASK_DONE) is_done(client.got.events_ok.event[i].task);
    if (t->done[1 + 2 * (at % 2)] && !fetch(t->job << 20 | (1 + 2 * (at % 2)), PATIENCE_MS) && broker_over(true, false)) return false;
    if (at == 3 && !cancel(&r.told[CANCELED])) return false;
    return collect(t);
}

/* A worker that says nothing for seconds gets nothing; this machine may be slow. */
static void stay(void)
{
    struct msg ready = {.kind = MSG_READY, .ready = {.capacity = TASKS}};

    if (r.stranger) {
        r.stranger = false;
        side_open(&worker, endpoint);
        if (!side_hello(&worker, PATIENCE_MS)) side_fail("the worker, again", "no WELCOME");
    }
    if (now_ms() - r.said_ms < 1000) return;
    r.said_ms = now_ms();
    side_say(&worker, &ready, PATIENCE_MS);
}

static void while_it_fails(void)
{
    bool ready = broker_start(true);

    r.layered = true;
    if (!ready) {
        broker_over(false, true);
        return;
    }
    side_open(&client, endpoint);
    side_open(&worker, endpoint);
    if (side_hello(&client, PATIENCE_MS) && side_hello(&worker, PATIENCE_MS))
        for (size_t at = 0; at < JOBS && one_job(at);) at++;
    if (broker_over(true, false)) return;
    kill(r.pid, SIGKILL);
    waitpid(r.pid, NULL, 0);
    r.pid = 0;
}

static void cut_power(void)
{
    char  program[400], seed[32], after[300], again[300];
    int   status;
    pid_t pid;

    snprintf(program, sizeof program, "%s/collapse", bin);
    snprintf(seed, sizeof seed, "%u", r.n * 16 + (unsigned)r.way);
    snprintf(after, sizeof after, "%.250s/after", disk.dir);
    snprintf(again, sizeof again, "%.250s/again", disk.dir);
    pid = fork();
    if (pid == 0) {
        execl(program, "collapse", data, shadow, after, seed, again, NULL);
        _exit(127);
    }
    if (waitpid(pid, &status, 0) != pid || status) side_fail("collapse", "it failed");
    if (file_remove_tree(data, NULL) || file_remove_tree(again, NULL) || rename(after, data)) side_fail("the folder after the cut", "it cannot be put in its place");
}

/* ---- and afterwards ---- */
static void must(bool ok, const char *what, size_t at, size_t task)
{
    char text[120];

    if (ok) return;
    snprintf(text, sizeof text, "job %zu, image %zu%s%.*s", at, task, client.got.kind == MSG_ERROR ? ": " : "",
             client.got.kind == MSG_ERROR ? (int)(client.got.error.text.len < 80 ? client.got.error.text.len : 80) : 0,
             client.got.kind == MSG_ERROR ? client.got.error.text.at : "");
    side_fail(what, text);
}

static void count_history(void)
{
    for (size_t at = 0; at <= JOBS; at++) {
        n_jobs += r.told[at].job != 0;
        n_canceled += r.told[at].canceled;
        for (size_t i = 0; i < TASKS; i++) {
            n_results += r.told[at].done[i];
            n_collected += r.told[at].collected[i];
        }
    }
}

/* Everything that was told before is so. Meanwhile the worker works. */
static void check_history(void)
{
    struct told before[JOBS + 1];

    memcpy(before, r.told, sizeof before);
    for (size_t at = 0; at <= JOBS; at++) {
        struct told *t = &r.told[at];
        struct item  item;
        struct msg   m = submit_of(at, &item), show = {.kind = MSG_SHOW, .show = {.limit = TASKS}};
        uint64_t     acked = before[at].job;

        stay();
        if (!acked && at == CANCELED) continue; /* it would wait for ever */
        must(side_ask(&client, &m, MSG_SUBMIT_OK, PATIENCE_MS), "submitting again", at, 0);
        t->job = show.show.job = client.got.submit_ok.job;
        if (acked) must(client.got.submit_ok.duplicate && t->job == acked, "an acknowledged job is not known", at, 0);
        must(side_ask(&client, &show, MSG_SHOW_OK, PATIENCE_MS) && client.got.show_ok.n_tasks == TASKS, "a job's images", at, 0);
        for (size_t i = 0; i < TASKS; i++) {
            const struct task_info *x = &client.got.show_ok.task[i].info;

            if (before[at].done[i]) must(x->state == TASK_DONE, "a result that was acknowledged is not DONE", at, i);
            if (before[at].collected[i]) must(x->collected, "a collection that was acknowledged is forgotten", at, i);
            if (before[at].canceled) must(x->state == TASK_CANCELED, "a cancel that was acknowledged is forgotten", at, i);
            t->done[i] |= x->state == TASK_DONE;
        }
    }
}

/* And the rest is made. */
static void check_end(void)
{
    for (size_t at = 0; at < JOBS; at++) {
        int64_t until_ms = now_ms() + PATIENCE_MS;

        while (n_done(&r.told[at]) < TASKS && now_ms() < until_ms) {
            if (!sides_turn()) usleep(SIDE_NAP_US);
            stay();
        }
        must(n_done(&r.told[at]) == TASKS, "an image is not made", at, 0);
        for (size_t i = 0; i < TASKS; i++) must(fetch(r.told[at].job << 20 | i, PATIENCE_MS), "a result is not served", at, i);
    }
}

static void round_run(void)
{
    memset(said, 0, sizeof *said);
    if (mkdir(shadow, 0777)) side_fail("a folder", "it cannot be made");
    snprintf(layers, sizeof layers, "%s/failing.so%s%s%s", bin, r.power ? " " : "", r.power ? bin : "", r.power ? "/powerloss.so" : "");
    while_it_fails();
    r.layered = false;
    n_ended += r.over;
    if (r.power && access(data, F_OK) == 0) cut_power();
    if (!broker_start(false)) {
        r.pid = 0;
        side_fail("the next start", "refused");
    }
    side_open(&client, endpoint);
    side_open(&worker, endpoint);
    if (!side_hello(&client, PATIENCE_MS) || !side_hello(&worker, PATIENCE_MS)) side_fail("the next start", "no WELCOME");
    count_history();
    check_history();
    check_end();
    kill(r.pid, SIGKILL);
    waitpid(r.pid, NULL, 0);
    if (file_remove_tree(data, NULL) || file_remove_tree(shadow, NULL)) side_fail("a folder", "it cannot be removed");
}

static unsigned long number(const char *text)
{
    char         *end;
    unsigned long n = strtoul(text, &end, 10);

    return *text && !*end ? n : 0;
}

static void folders(void)
{
    char path[400];
    int  fd;

    if (!tmp_open_small(&disk, ROOM_BYTES)) tmp_open(&disk); /* in memory when we may mount: a round is a start and a collapse, each of a whole folder */
    snprintf(data, sizeof data, "%.250s/data", disk.dir);
    snprintf(shadow, sizeof shadow, "%.250s/shadow", disk.dir);
    snprintf(endpoint, sizeof endpoint, "ipc://%.250s/sock", disk.dir);
    snprintf(path, sizeof path, "%.250s/said", disk.dir);
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, sizeof *said)) abort();
    said = mmap(NULL, sizeof *said, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (said == MAP_FAILED) abort();
    close(fd);
    setenv("FAILING_SAID", path, 1);
}

int main(int argc, char **argv)
{
    enum { ALL = CALLS * N_WAYS * 2, STRIDE = 2003 }; /* a prime that does not divide ALL: every combination once */
    unsigned long rounds = argc > 2 ? number(argv[2]) : ALL, seed = argc > 3 ? number(argv[3]) : 1;
    unsigned long n_failed = 0;
    int64_t       began = now_ms();

    if (argc < 2 || argc > 4 || rounds < 1 || rounds > ALL || !realpath(argv[1], bin)) {
        fprintf(stderr, "usage: syscalls BINDIR [ROUNDS (1..%d) [SEED]]\n", ALL);
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    side_deadline();
    folders();
    client.hears = client_hears;
    worker.hears = worker_hears;
    r.part = malloc(300000);
    if (!r.part) abort();
    for (unsigned long k = 0; k < rounds; k++) {
        unsigned long x = (seed + k * STRIDE) % ALL;
        struct round  next = {.n = (unsigned)(x / (N_WAYS * 2)) + 1, .way = (enum way)(x / 2 % N_WAYS), .power = x % 2, .part = r.part};

        r = next;
        round_run();
        n_failed += said->n_failed > 0;
        if ((k + 1) % 500 == 0) printf("  %lu rounds, %.0f s\n", k + 1, (double)(now_ms() - began) / 1000);
    }
    peer_close(client.peer);
    peer_close(worker.peer);
    printf("%lu rounds in %.0f s: a call failed in %lu of them, the broker ended by itself in %lu; acknowledged %lu jobs, %lu results, %lu collections, %lu cancels: lost 0; "
           "wrong bytes served 0; starts refused afterwards 0\n", rounds, (double)(now_ms() - began) / 1000, n_failed, n_ended, n_jobs, n_results, n_collected, n_canceled);
    if (n_failed * 10 < rounds * 9) {
        printf("FAILED: the load made too few calls: most rounds failed nothing\n");
        return 1;
    }
    munmap(said, sizeof *said);
    tmp_close(&disk);
    return 0;
}
