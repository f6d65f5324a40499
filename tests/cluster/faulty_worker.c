/* faulty_worker.c - zfarm-worker with faults put in by its own calls (linked with --wrap=engine_denoise): for 24-faults.sh and tests/chaos.
 *
 *   FAULTS=DIR faulty_worker [the options of zfarm-worker]          faulty_worker --has-gpu: status 0 or 77
 *
 * The seed of a task names its fault, which happens once: DIR/<seed> says that it has. 66601: a kernel reads where nothing is (a sticky error of
 * the device); 66602: the engine hangs; 66603: a weight becomes NaN; 66604: all memory of the GPU is taken by another; 66605: as 66601, every time;
 * 66606: the engine's process dies of SIGSEGV, every time. SLOW_MS=N: every task takes so much longer, asleep: leases that live long cost no CPU.
 * PATIENCE_MS=N: what the watchdog gives a stage that nobody has measured. */
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

int __wrap_engine_denoise(struct engine *g, const struct embed *pos, const struct embed *neg, const struct gen *gen, const struct gen_hooks *h,
                          struct latent **out, struct err *e)
{
    static char   old[65536];
    struct tensor hog[64];
    struct dev   *other = NULL;
    int           n = 0, rc;

    if (getenv("SLOW_MS")) usleep((useconds_t)strtoul(getenv("SLOW_MS"), NULL, 10) * 1000);
    if (!first(gen->seed)) return __real_engine_denoise(g, pos, neg, gen, h, out, e);
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
