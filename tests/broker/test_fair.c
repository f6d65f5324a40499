/* test_fair.c - L9 to L11 of the plan, by simulation: the real queue, rates, roster and dispatcher; workers and time are made up.
 * Events come in the order of time: a batch ends, its worker is free, what fits is leased. Nothing here waits. */
#include "tests/broker/pure.h"

#include <stdlib.h>

#define CLIENTS 20

struct flight { /* what a worker is at */
    int64_t        end_ms;
    struct worker *worker;
    struct task   *task[BATCH_MAX];
    size_t         n;
};

struct sim {
    struct pure    p;
    struct flight  flight[64];
    size_t         n_flights;
    int64_t        now_ms;
    double         had_ms[CLIENTS + 1], class_ms[CLASS_BULK + 1]; /* of workers, by client (its number) and class */
    uint64_t       n_batches, n_made;
    int64_t        longest_wait_ms;
    double (*ms)(const struct task *t, const struct worker *w); /* how long one takes there; a batch takes as long as its sum x 0.7 */
    void (*on_done)(struct sim *s, struct task *t);
    int64_t        wait_sum_ms[CLIENTS + 1]; /* from SUBMIT to the image */
    uint64_t       n_waits[CLIENTS + 1];
};

static double by_cost(const struct task *t, const struct worker *w)
{
    return 10.0 * t->lot->cost * (w->name[0] == 's' ? 3 : 1);
}

static int client_of(const struct task *t)
{
    return (int)strtol(task_job(t)->share->key.client + 1, NULL, 10);
}

static void deal(struct sim *s)
{
    struct pair pair;

    while (pure_next(&s->p, s->now_ms, &pair)) {
        struct flight *f = &s->flight[s->n_flights++];
        double         ms = 0;

        assert_true(s->n_flights < 64);
        queue_begun(&s->p.queue, &pair.turn); /* these workers hold no more than they work on */
        *f = (struct flight){.worker = pair.worker, .n = 1 + pair.n_also, .task = {pair.task}};
        for (size_t i = 0; i < pair.n_also; i++) f->task[i + 1] = pair.also[i];
        for (size_t i = 0; i < f->n; i++) ms += s->ms(f->task[i], f->worker);
        if (f->n > 1) ms *= 0.7;
        f->end_ms = s->now_ms + (int64_t)ms;
        s->n_batches++;
    }
}

/* The next flight lands. False: none is in the air. */
static bool land(struct sim *s)
{
    size_t        at = 0;
    struct flight f;

    if (!s->n_flights) return false;
    for (size_t i = 1; i < s->n_flights; i++)
        if (s->flight[i].end_ms < s->flight[at].end_ms) at = i;
    f = s->flight[at];
    s->flight[at] = s->flight[--s->n_flights];
    s->now_ms = f.end_ms;
    for (size_t i = 0; i < f.n; i++) {
        struct task *t = f.task[i];
        double       usual_ms = t->grant->usual_ms, ms = s->ms(t, f.worker) * (f.n > 1 ? 0.7 : 1);

        rates_learn(&s->p.rates, worker_kind(f.worker), str_of("turbo"), t->lot->cost, (uint32_t)ms);
        queue_settle(&s->p.queue, t, rates_worth_ms(&s->p.rates, str_of("turbo"), t->lot->cost, usual_ms, (uint32_t)ms));
        s->had_ms[client_of(t)] += ms;
        s->class_ms[task_job(t)->share->key.job_class] += ms;
        s->n_made++;
        s->wait_sum_ms[client_of(t)] += s->now_ms - task_job(t)->created_wall_ms;
        s->n_waits[client_of(t)]++;
        if (s->now_ms - task_job(t)->created_wall_ms > s->longest_wait_ms) s->longest_wait_ms = s->now_ms - task_job(t)->created_wall_ms;
        pure_end(&s->p, t, TASK_DONE);
        if (s->on_done) s->on_done(s, t);
    }
    for (struct worker *w = s->p.roster.worker; w; w = w->next) w->seen_ms = s->now_ms;
    queue_age(&s->p.queue);
    return true;
}

static void run(struct sim *s, int64_t until_ms)
{
    deal(s);
    while (s->n_flights && s->now_ms < until_ms) {
        land(s);
        deal(s);
    }
}

static void open_sim(struct sim *s, int n_workers, uint32_t max_batch)
{
    memset(s, 0, sizeof *s);
    s->ms = by_cost;
    pure_open(&s->p);
    for (int i = 0; i < n_workers; i++) {
        struct worker *w = pure_worker(&s->p, max_batch, "turbo", NULL, 0);

        w->max_batch = max_batch;
        if (i % 2) {
            w->name[0] = 's'; /* a slow one, of another kind */
            snprintf(w->about, sizeof w->about, "slow");
        }
    }
}

static struct job *submit(struct sim *s, int client, uint32_t n, enum job_class c, int32_t px)
{
    char        name[16];
    struct spec spec = pure_spec(px, name);
    struct job *j;

    snprintf(name, sizeof name, "c%d", client);
    j = pure_of(&s->p, n, name, c, &spec, 0);
    j->created_wall_ms = s->now_ms;
    return j;
}

static double mean_wait(const struct sim *s, int client)
{
    return (double)s->wait_sum_ms[client] / (double)s->n_waits[client];
}

/* L9: A has 5,000 images in the farm, B comes a second later with 10: it waits at most twice as long as alone. */
static void test_ten_behind_five_thousand(void **state)
{
    static struct sim s;
    double            alone_ms, beside_ms;

    (void)state;
    open_sim(&s, 4, 1);
    submit(&s, 2, 10, CLASS_NORMAL, 256);
    run(&s, INT64_MAX);
    alone_ms = mean_wait(&s, 2);
    pure_close(&s.p);
    open_sim(&s, 4, 1);
    submit(&s, 1, 5000, CLASS_NORMAL, 256);
    run(&s, 1000);
    submit(&s, 2, 10, CLASS_NORMAL, 256);
    run(&s, INT64_MAX);
    beside_ms = mean_wait(&s, 2);
    print_message("L9: B's images wait %.0f ms alone, %.0f ms beside 5,000 others: x %.2f\n", alone_ms, beside_ms, beside_ms / alone_ms);
    assert_true(beside_ms <= 2 * alone_ms);
    assert_int_equal(s.n_made, 5010);
    pure_close(&s.p);
}

/* L9: twenty clients with images of five sizes, on fast and slow workers: Jain's index of the time they got. */
static void test_twenty_equal_clients(void **state)
{
    static struct sim s;
    double            sum = 0, squares = 0, jain;

    (void)state;
    open_sim(&s, 10, 1);
    for (int i = 0; i < CLIENTS; i++)
        for (int k = 0; k <= i % 3; k++) submit(&s, i, 2000, CLASS_NORMAL, 256 + 64 * (i % 5)); /* some have three jobs, some one */
    run(&s, 400000);
    for (int i = 0; i < CLIENTS; i++) {
        sum += s.had_ms[i];
        squares += s.had_ms[i] * s.had_ms[i];
    }
    jain = sum * sum / (CLIENTS * squares);
    print_message("L9: Jain's index over 20 clients: %.4f\n", jain);
    assert_true(jain >= 0.98);
    pure_close(&s.p);
}

/* L9: 8:4:1 within 5 %, by time, with sizes that differ by class. */
static void test_weights(void **state)
{
    static struct sim s;
    double            all = 0;
    const double      want[] = {0, 8.0 / 13, 4.0 / 13, 1.0 / 13};

    (void)state;
    open_sim(&s, 6, 1);
    for (int c = CLASS_INTERACTIVE; c <= CLASS_BULK; c++)
        for (int i = 0; i < 3; i++) submit(&s, i, 9000, (enum job_class)c, 192 + 64 * c);
    run(&s, 500000);
    for (int c = CLASS_INTERACTIVE; c <= CLASS_BULK; c++) all += s.class_ms[c];
    for (int c = CLASS_INTERACTIVE; c <= CLASS_BULK; c++) {
        double part = s.class_ms[c] / all;

        print_message("L9: %s got %.2f %% of the time (%.2f %% is its part)\n", job_class_name((enum job_class)c), 100 * part, 100 * want[c]);
        assert_true(part >= 0.95 * want[c] && part <= 1.05 * want[c]);
    }
    pure_close(&s.p);
}

/* L10: urgent work for 110 % of the farm, for ever; bulk still gets its part. */
static void more_urgent(struct sim *s, struct task *t)
{
    static double due_ms;

    if (task_job(t)->share->key.job_class != CLASS_INTERACTIVE) return;
    if (s->n_made < 10) due_ms = 0;
    for (due_ms += 1.1; due_ms >= 1; due_ms--) submit(s, (int)(s->n_made % 5), 1, CLASS_INTERACTIVE, 256);
}

static void test_bulk_under_overload(void **state)
{
    static struct sim s;
    double            part;

    (void)state;
    open_sim(&s, 4, 1);
    for (int i = 0; i < 40; i++) submit(&s, i % 5, 1, CLASS_INTERACTIVE, 256);
    submit(&s, 7, 3000, CLASS_BULK, 256);
    s.on_done = more_urgent;
    run(&s, 200000);
    part = s.class_ms[CLASS_BULK] / (s.class_ms[CLASS_BULK] + s.class_ms[CLASS_INTERACTIVE]);
    print_message("L10: bulk got %.2f %% of the farm's time under urgent work for 110 %% of it\n", 100 * part);
    assert_true(part >= 0.06);
    pure_close(&s.p);
}

/* L11: four shapes in turn from several clients, batches up to 8: how full they are while more than four batches wait; nobody waits more
 * than twice as long as in the order of arrival. */
static void test_batches_are_full(void **state)
{
    static struct sim s;
    uint64_t          n_batches, n_made;
    int64_t           fifo_ms = 0;

    (void)state;
    for (int pass = 0; pass < 2; pass++) {
        open_sim(&s, 4, pass ? 8 : 1);
        for (int i = 0; i < 400; i++) submit(&s, i % 5, 1, i % 9 ? CLASS_NORMAL : CLASS_BULK, 192 + 64 * (i % 4));
        if (!pass) { /* one by one: its longest wait stands for the order of arrival */
            run(&s, INT64_MAX);
            fifo_ms = s.longest_wait_ms;
            pure_close(&s.p);
        }
    }
    while (deal(&s), s.p.queue.n_ready > 4 * 8 && land(&s)) continue;
    n_batches = s.n_batches;
    n_made = 400 - s.p.queue.n_ready;
    print_message("L11: %.2f images a batch of at most 8 (%.0f %%) while more than 32 wait\n", (double)n_made / (double)n_batches,
                  100.0 * (double)n_made / (double)n_batches / 8);
    assert_true((double)n_made / (double)n_batches >= 0.8 * 8);
    run(&s, INT64_MAX);
    assert_int_equal(s.n_made, 400);
    print_message("L11: the longest wait is %lld ms, one by one %lld ms\n", (long long)s.longest_wait_ms, (long long)fifo_ms);
    assert_true(s.longest_wait_ms <= 2 * fifo_ms);
    pure_close(&s.p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ten_behind_five_thousand), cmocka_unit_test(test_twenty_equal_clients), cmocka_unit_test(test_weights),
        cmocka_unit_test(test_bulk_under_overload),      cmocka_unit_test(test_batches_are_full),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
