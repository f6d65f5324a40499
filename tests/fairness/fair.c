/* fair.c - L9 to L11 of the plan on a real broker: fake workers that take the time an image would, clients who ask for more than they can get.
 *   fair          prints the figures; run.sh adds what machine and disk it was. Not a test: on a busy machine the clock is not the broker's fault. */
#include <stdatomic.h>
#include <sys/mman.h>

#include "tests/broker/actors.h"

#define WORKERS_N   4
#define BATCH_GAIN  0.7 /* a batch takes so much of what its images would take alone */

static double ms_per_unit = 2.5; /* 256 x 256 pixels, 8 steps: 20 ms */

static struct tally {
    atomic_ulong n_batches, n_batched;
} *tally; /* shared with the workers */

struct held_lease {
    struct lease l;
    bool         running;
};

static double ms_of(const struct lease *l)
{
    return ms_per_unit * 8 * l->spec.width_px * l->spec.height_px / 65536.0;
}

/* Makes the first leases of one batch, or the first alone, then offers them; until killed. */
static void work(const char *endpoint, int who, uint32_t capacity, uint32_t max_batch)
{
    struct actor       w;
    char               name[16];
    struct held_lease *held = calloc(LEASES_MAX, sizeof *held);
    struct progress   *p = calloc(LEASES_MAX, sizeof *p);
    size_t             n = 0, n_running = 0;
    int64_t            end_ms = 0, beat_ms = 0;
    struct msg         m;
    double             took_ms = 0;

    snprintf(name, sizeof name, "w%d", who);
    actor_open(&w, endpoint, ROLE_WORKER);
    w.name = name;
    w.capacity = capacity;
    w.max_batch = max_batch;
    actor_hello(&w, NULL, 0);
    for (;;) {
        int64_t now = now_ms();

        if (n_running && now >= end_ms) {
            for (size_t i = 0; i < n_running; i++) {
                char       bytes[16];
                struct msg offer = {.kind = MSG_OFFER};

                snprintf(bytes, sizeof bytes, "%llu", (unsigned long long)held[i].l.task);
                offer.offer = offer_of(&held[i].l, str_of(bytes), (struct str){0});
                offer.offer.took_ms = (uint32_t)took_ms;
                offer.offer.bytes[0] = str_of(bytes);
                actor_send(&w, &offer);
            }
            memmove(held, held + n_running, (n - n_running) * sizeof *held);
            n -= n_running;
            n_running = 0;
        }
        if (!n_running && n) {
            for (took_ms = 0; n_running < n && (!n_running || (held[0].l.batch && held[n_running].l.batch == held[0].l.batch)); n_running++) took_ms += ms_of(&held[n_running].l);
            if (n_running > 1) took_ms *= BATCH_GAIN;
            end_ms = now + (int64_t)took_ms;
            atomic_fetch_add(&tally->n_batches, 1);
            atomic_fetch_add(&tally->n_batched, n_running);
            beat_ms = 0; /* it has begun: say so */
        }
        if (now - beat_ms >= 1000) {
            struct msg b = {.kind = MSG_BEAT, .beat = {.seq = ++w.beat, .progress = p, .n_progress = n}};

            for (size_t i = 0; i < n; i++)
                p[i] = (struct progress){.job = held[i].l.job, .task = held[i].l.task, .epoch = held[i].l.epoch, .stage = i < n_running ? STAGE_TEXT : STAGE_WAITING, .steps = 8};
            beat_ms = now;
            actor_send(&w, &b);
        }
        if (!w.n_stash) {
            arena_reset(&w.arena, 0);
            actor_read(&w, n_running ? (end_ms > now ? end_ms - now : 0) : 200);
        }
        while (actor_find(&w, 0, 0, &m)) {
            if (m.kind == MSG_LEASE && n < LEASES_MAX) held[n++].l = m.lease;
            for (size_t i = 0; m.kind == MSG_BEAT_OK && i < m.beat_ok.n_recall + m.beat_ok.n_cancel; i++) {
                const struct held *h = i < m.beat_ok.n_recall ? &m.beat_ok.recall[i] : &m.beat_ok.cancel[i - m.beat_ok.n_recall];

                for (size_t k = n_running; k < n; k++)
                    if (held[k].l.task == h->task && held[k].l.epoch == h->epoch) {
                        actor_send(&w, &(struct msg){.kind = MSG_RELEASE, .release = {h->task, h->epoch, str_of("not begun")}});
                        memmove(held + k, held + k + 1, (--n - k) * sizeof *held);
                        break;
                    }
            }
        }
    }
}

/* ---- the farm of one experiment ---- */
static struct farm farm;
static pid_t       worker[WORKERS_N];

static void begin(uint32_t capacity, uint32_t max_batch)
{
    farm_open(&farm);
    farm_start(&farm);
    atomic_store(&tally->n_batches, 0);
    atomic_store(&tally->n_batched, 0);
    for (int i = 0; i < WORKERS_N; i++)
        if ((worker[i] = fork()) == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            work(farm.endpoint, i, capacity, max_batch);
        }
    sleep_ms(500);
}

static void end(void)
{
    for (int i = 0; i < WORKERS_N; i++) {
        kill(worker[i], SIGKILL);
        waitpid(worker[i], NULL, 0);
    }
    farm_close(&farm);
}

static void client(struct actor *c, const char *name)
{
    actor_open(c, farm.endpoint, ROLE_CLIENT);
    c->name = name;
    actor_hello(c, NULL, 0);
}

static uint64_t order(struct actor *c, uint32_t n, int32_t px, enum job_class class)
{
    static unsigned n_jobs;
    struct item     it = {.n_images = n};
    struct msg      m = {.kind = MSG_SUBMIT, .submit = {.name = str_of("j"), .n_tasks = n, .item = &it, .n_items = 1, .job_class = class}};

    n_jobs++;
    memcpy(m.submit.key, &n_jobs, sizeof n_jobs);
    spec_init(&it.spec);
    it.spec.prompt = str_of("a cat");
    it.spec.width_px = it.spec.height_px = px;
    return actor_ask(c, &m, MSG_SUBMIT_OK).submit_ok.job;
}

static struct job_info job(struct actor *c, uint64_t id)
{
    return actor_ask(c, &(struct msg){.kind = MSG_JOBS, .jobs = {.job = id, .limit = 1}}, MSG_JOBS_OK).jobs_ok.job[0];
}

/* Orders n images and looks until they are there: the mean time from asking to each image. */
static double mean_wait_ms(struct actor *c, uint32_t n)
{
    int64_t  began = now_ms();
    uint64_t id = order(c, n, 256, CLASS_NORMAL);
    uint32_t seen = 0;
    double   sum = 0;

    while (seen < n) {
        uint32_t done = job(c, id).n_done;

        for (; seen < done; seen++) sum += (double)(now_ms() - began);
        sleep_ms(1);
    }
    return sum / n;
}

static void ten_behind_five_thousand(double ms)
{
    struct actor a, b;
    double       alone[5], beside[5], sum[2] = {0};

    ms_per_unit = ms / 8;
    begin(2, 1);
    client(&a, "a:1");
    client(&b, "b:1");
    mean_wait_ms(&b, 10); /* so that rates are known */
    for (int i = 0; i < 5; i++) sum[0] += alone[i] = mean_wait_ms(&b, 10);
    order(&a, 5000, 256, CLASS_NORMAL);
    sleep_ms(1000);
    for (int i = 0; i < 5; i++) {
        sum[1] += beside[i] = mean_wait_ms(&b, 10);
        sleep_ms(500);
    }
    printf("L9   10 images of %.0f ms of B: %.0f ms each alone, %.0f ms beside 5,000 of A: x %.2f (bar: 2)\n", ms, sum[0] / 5, sum[1] / 5, sum[1] / sum[0]);
    actor_close(&a);
    actor_close(&b);
    end();
}

/* What the broker, the sockets and a busy machine add to each image weighs less in longer ones; a real one takes half a second and more. */
static void l9_short(void)
{
    ten_behind_five_thousand(100);
}

static void l9_long(void)
{
    ten_behind_five_thousand(400);
}

static void l9_twenty_clients(void)
{
    static struct actor c[20];
    uint64_t     id[20];
    double       sum = 0, squares = 0;

    begin(2, 1);
    for (int i = 0; i < 20; i++) {
        char *name = malloc(8);

        snprintf(name, 8, "c%d:1", i);
        client(&c[i], name);
        id[i] = order(&c[i], 2000, 128 + 64 * (i % 3), CLASS_NORMAL);
    }
    sleep_ms(20000);
    for (int i = 0; i < 20; i++) {
        double px = 128 + 64 * (i % 3), had = job(&c[i], id[i]).n_done * px * px;

        sum += had;
        squares += had * had;
    }
    printf("L9   20 equal clients, three sizes: Jain's index %.4f (bar: 0.98)\n", sum * sum / (20 * squares));
    for (int i = 0; i < 20; i++) actor_close(&c[i]);
    end();
}

static void l9_weights_and_l10(void)
{
    struct actor c;
    uint64_t     id[4] = {0};
    double       n[4] = {0}, all = 0;

    begin(2, 1);
    client(&c, "c:1");
    for (int k = CLASS_INTERACTIVE; k <= CLASS_BULK; k++) id[k] = order(&c, 30000, 192, (enum job_class)k);
    sleep_ms(1000);
    for (int k = CLASS_INTERACTIVE; k <= CLASS_BULK; k++) n[k] = -(double)job(&c, id[k]).n_done;
    sleep_ms(25000);
    for (int k = CLASS_INTERACTIVE; k <= CLASS_BULK; k++) all += n[k] += job(&c, id[k]).n_done;
    printf("L9   interactive, normal, bulk: %.1f, %.1f, %.1f %% of %.0f images (8:4:1 is 61.5, 30.8, 7.7; bar: within 5 %% of each)\n", 100 * n[1] / all, 100 * n[2] / all,
           100 * n[3] / all, all);
    actor_ask(&c, &(struct msg){.kind = MSG_CANCEL, .cancel = {id[CLASS_NORMAL]}}, MSG_CANCEL_OK);
    sleep_ms(500);
    for (int k = CLASS_INTERACTIVE; k <= CLASS_BULK; k += 2) n[k] = -(double)job(&c, id[k]).n_done;
    sleep_ms(15000);
    for (int k = CLASS_INTERACTIVE; k <= CLASS_BULK; k += 2) n[k] += job(&c, id[k]).n_done;
    printf("L10  bulk under more urgent work than the farm can do: %.1f %% (bar: 6)\n", 100 * n[CLASS_BULK] / (n[CLASS_BULK] + n[CLASS_INTERACTIVE]));
    actor_close(&c);
    end();
}

static void l11_batches(void)
{
    struct actor c;
    uint64_t     id[4];
    double       n_batches, n_batched;

    begin(16, 8);
    client(&c, "c:1");
    for (int i = 0; i < 4; i++) id[i] = order(&c, 500, 128 + 64 * i, CLASS_NORMAL);
    do sleep_ms(50);
    while (job(&c, id[0]).n_queued + job(&c, id[1]).n_queued + job(&c, id[2]).n_queued + job(&c, id[3]).n_queued > 4 * 8);
    n_batches = (double)atomic_load(&tally->n_batches);
    n_batched = (double)atomic_load(&tally->n_batched);
    printf("L11  four shapes, batches of at most 8 while more than 32 wait: %.2f images each, %.0f %% (bar: 80)\n", n_batched / n_batches, 100 * n_batched / n_batches / 8);
    actor_close(&c);
    end();
}

int main(int argc, char **argv)
{
    static void (*const part[])(void) = {l9_short, l9_long, l9_twenty_clients, l9_weights_and_l10, l11_batches};
    int code = actors_main(argc, argv);

    if (code >= 0) return code;
    tally = mmap(NULL, sizeof *tally, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (tally == MAP_FAILED) return 1;
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (size_t i = 0; i < sizeof part / sizeof *part; i++) { /* each in a process of its own: ZeroMQ's threads do not survive the fork of a worker */
        pid_t pid = fork();
        int   status;

        if (pid == 0) {
            part[i]();
            return 0;
        }
        if (waitpid(pid, &status, 0) != pid || status) return 1;
    }
    return 0;
}
