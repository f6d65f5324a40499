/* faulty_worker.c - zfarm-worker with faults put in by its own calls (linked with --wrap=engine_denoise): for 24-faults.sh and tests/chaos.
 *
 *   FAULTS=DIR faulty_worker [the options of zfarm-worker]          faulty_worker --has-gpu: status 0 or 77
 *
 * The seed of a task names its fault, which happens once: DIR/<seed> says that it has. 66601: a kernel reads where nothing is (a sticky error of
 * the device); 66602: the engine hangs; 66603: a weight becomes NaN; 66604: all memory of the GPU is taken by another; 66605: as 66601, every time;
 * 66606: the engine's process dies of SIGSEGV, every time. SLOW_MS=N: every task takes so much longer, asleep: leases that live long cost no CPU.
 * PATIENCE_MS=N: what the watchdog gives a stage that nobody has measured.
 * HOLD=FILE: while FILE holds a number, a task of that seed or a later one stands still after its first step (FILE.SEED says that it does), alive and
 * listening for a cancel: so a scenario does what it does in the middle of a task, however fast or slow the machine is. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/inside.h"
#include "kernels/ops.h"
#include "worker/conf.h"
#include "worker/engine_child.h"
#include "worker/worker.h"

enum { BAD_ADDRESS = 66601, HANG, NOT_A_NUMBER, NO_MEMORY, ALWAYS_BAD, CRASH };

int __real_engine_denoise(struct engine *g, const struct embed *pos, const struct embed *neg, const struct gen *gen, const struct gen_hooks *h,
                          struct latent **out, struct err *e);
int __wrap_engine_denoise(struct engine *g, const struct embed *pos, const struct embed *neg, const struct gen *gen, const struct gen_hooks *h,
                          struct latent **out, struct err *e);

/* True the first time only, over all processes. */
static bool first(uint64_t seed)
{
    char path[512];
    int  fd;

    if (seed == ALWAYS_BAD || seed == CRASH) return true;
    if (seed < BAD_ADDRESS || seed > NO_MEMORY || !getenv("FAULTS")) return false;
    snprintf(path, sizeof path, "%s/%llu", getenv("FAULTS"), (unsigned long long)seed);
    fd = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
    if (fd >= 0) close(fd);
    return fd >= 0;
}

static void bad_address(struct dev *d)
{
    struct tensor x = {.type = DTYPE_F32, .rank = 1, .dim = {1 << 20}, .pitch = 1, .data = (void *)(uintptr_t)0x1000, .dev = d};

    op_axpy(d, &x, 1.0f, &x);
}

/* The bias of the patches: every token passes it. Its bytes are kept in old. */
static void poison(struct engine *g, char old[65536], bool back)
{
    struct tensor *b = &g->dit->x_b;
    size_t         bytes = dtype_row_bytes(b->type, tensor_count(b));
    char           ones[65536];

    if (bytes > sizeof ones) abort();
    memset(ones, 0xff, sizeof ones);
    if (!back) dev_get(g->d, b, old, bytes, NULL);
    dev_put(g->d, b, back ? old : ones, bytes, NULL);
}

/* ---- tasks that are held ---- */
struct held_task {
    const struct gen_hooks *hooks;
    uint64_t                seed;
    bool                    said;
};

static bool is_held(uint64_t seed)
{
    FILE              *f = fopen(getenv("HOLD"), "r");
    unsigned long long from;
    bool               held = f && fscanf(f, "%llu", &from) == 1 && seed >= from;

    if (f) fclose(f);
    return held;
}

static void say_held(struct held_task *s)
{
    char path[512];
    int  fd;

    snprintf(path, sizeof path, "%s.%llu", getenv("HOLD"), (unsigned long long)s->seed);
    fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    if (fd >= 0) close(fd);
    s->said = true;
}

static int on_step(void *ctx, int done, int n_steps)
{
    struct held_task *s = ctx;
    int          rc = s->hooks->on_step(s->hooks->ctx, done, n_steps);

    while (rc == 0 && done == 1 && is_held(s->seed)) {
        if (!s->said) say_held(s);
        usleep(20000);
        rc = s->hooks->on_step(s->hooks->ctx, done, n_steps); /* to the watchdog it moves */
    }
    return rc;
}

static int denoise(struct engine *g, const struct embed *pos, const struct embed *neg, const struct gen *gen, const struct gen_hooks *h, struct latent **out,
                   struct err *e)
{
    struct held_task      held = {.hooks = h, .seed = gen->seed};
    struct gen_hooks hooks = {&held, on_step};

    return __real_engine_denoise(g, pos, neg, gen, getenv("HOLD") && h && h->on_step ? &hooks : h, out, e);
}

int __wrap_engine_denoise(struct engine *g, const struct embed *pos, const struct embed *neg, const struct gen *gen, const struct gen_hooks *h,
                          struct latent **out, struct err *e)
{
    static char   old[65536];
    struct tensor hog[64];
    struct dev   *other = NULL;
    int           n = 0, rc;

    if (getenv("SLOW_MS")) usleep((useconds_t)strtoul(getenv("SLOW_MS"), NULL, 10) * 1000);
    if (!first(gen->seed)) return denoise(g, pos, neg, gen, h, out, e);
    if (gen->seed == BAD_ADDRESS || gen->seed == ALWAYS_BAD) bad_address(g->d);
    if (gen->seed == CRASH) {
        signal(SIGSEGV, SIG_DFL); /* a sanitizer would make an exit of it */
        raise(SIGSEGV);
    }
    if (gen->seed == HANG)
        for (;;) pause();
    if (gen->seed == NOT_A_NUMBER) poison(g, old, false);
    if (gen->seed == NO_MEMORY && dev_open(&other, g->d->name, NULL, NULL) == 0) {
        dev_trim(g->d);
        for (size_t step = (size_t)8 << 30; step >= (size_t)2 << 20 && n < 64;) {
            int64_t bytes = (int64_t)step;
            if (dev_alloc(other, DTYPE_U8, 1, &bytes, &hog[n], NULL)) step /= 2;
            else n++;
        }
    }
    rc = __real_engine_denoise(g, pos, neg, gen, h, out, e);
    if (gen->seed == NOT_A_NUMBER) poison(g, old, true);
    while (n) dev_free(other, &hog[--n]);
    dev_close(other);
    return rc;
}

static int has_gpu(void)
{
    struct dev *d = NULL;
    struct err  e = {0};

    if (dev_open(&d, "cuda:0", NULL, &e)) {
        printf("%s\n", e.text);
        return 77;
    }
    dev_close(d);
    return 0;
}

int main(int argc, char **argv)
{
    struct worker_conf conf;
    struct err         e = {0};

    if (argc == 2 && strcmp(argv[1], "--has-gpu") == 0) return has_gpu();
    if (engine_child_is(argc, argv)) return engine_child_main(argc, argv);
    worker_conf_init(&conf);
    worker_conf_parse(&conf, argc, argv);
    log_name_set("worker");
    if (getenv("PATIENCE_MS")) conf.watch.first_ms = strtol(getenv("PATIENCE_MS"), NULL, 10);
    if (worker_run(&conf, &e) == 0) return 0;
    fprintf(stderr, "faulty_worker: %s\n", e.text);
    return 1;
}
