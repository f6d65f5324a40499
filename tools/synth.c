/* synth.c - zfarm-model synth: a random checkpoint in the diffusers layout, for benchmarks and tests.
 * S1 model_index.json comes last: a folder without it is no model. S2 whatever fails, what was made is removed again.
 * Not here: configs (synth_conf.c), the tokenizer (synth_tokenizer.c), weights (synth_weights.c). */
#include <argp.h>
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "tools/quantize.h"
#include "tools/synth.h"
#include "tools/tools.h"

#define SPARE_BYTES (16 << 20) /* headers, configs, file system */

struct synth_args {
    const char *config, *out, *type;
    uint64_t    seed;
    int64_t     threads, shard_mb;
    bool        f32, dry, quiet;
};

static volatile sig_atomic_t stop;

static const struct argp_option OPTIONS[] = {
    {"config", 'c', "FILE|NAME", 0,
     "tiny, small, turbo (6.15 B + 4.02 B parameters, 20 GB), or a JSON file with sections transformer, text_encoder, vae, scheduler "
     "whose keys override those of tiny (required)",
     0},
    {"output", 'o', "DIR", 0, "folder to write; must not exist or be empty (required)", 0},
    {"seed", 's', "N", 0, "seed of the weights, default 0: same seed, same bytes", 0},
    {"dtype", 'd', "bf16|f32", 0, "how weights are stored, default bf16", 0},
    {"type", 't', "TYPE", 0,
     "write transformer and text encoder as GGUF of this type: q8_0, q6_k, q5_k, q4_k_m, q4_0, q3_k, q2_k, f16 or bf16", 0},
    {"threads", 'j', "N", 0, "threads that make numbers, default all CPUs of this process", 0},
    {"shard-mb", 'm', "N", 0, "weight files of at most N MB, default 5000", 0},
    {"dry-run", 'n', NULL, 0, "print what would be written, write nothing", 0},
    {"quiet", 'q', NULL, 0, "no progress", 0},
    {0},
};

static int64_t number(struct argp_state *state, const char *name, const char *arg, int64_t min, int64_t max)
{
    int64_t v = 0;
    if (str_to_i64(str_of(arg), &v) || v < min || v > max)
        argp_error(state, "--%s is '%s', it must be a whole number %" PRId64 " to %" PRId64, name, arg, min, max);
    return v;
}

static error_t on_option(int key, char *arg, struct argp_state *state)
{
    struct synth_args *a = state->input;

    switch (key) {
    case 'c':
        a->config = arg;
        return 0;
    case 'o':
        a->out = arg;
        return 0;
    case 's':
        if (str_to_u64(str_of(arg), &a->seed))
            argp_error(state, "--seed is '%s', it must be a whole number 0 to %" PRIu64, arg, UINT64_MAX);
        return 0;
    case 'd':
        a->f32 = strcmp(arg, "f32") == 0;
        if (!a->f32 && strcmp(arg, "bf16") != 0) argp_error(state, "--dtype is '%s', it must be bf16 or f32", arg);
        return 0;
    case 't':
        if (!quantize_is_gguf(arg))
            argp_error(state, "--type is '%s', it must be a type that GGUF has: q8_0, q6_k, q5_k, q4_k_m, q4_0, q3_k, q2_k, f16 or bf16",
                       arg);
        a->type = arg;
        return 0;
    case 'j':
        a->threads = number(state, "threads", arg, 1, 64);
        return 0;
    case 'm':
        a->shard_mb = number(state, "shard-mb", arg, 1, 1000000);
        return 0;
    case 'n':
        a->dry = true;
        return 0;
    case 'q':
        a->quiet = true;
        return 0;
    case ARGP_KEY_ARG:
        argp_error(state, "'%s' is not an option", arg);
        return 0;
    case ARGP_KEY_END:
        if (!a->config) argp_error(state, "--config is missing: tiny, small, turbo or a file");
        if (!a->out && !a->dry) argp_error(state, "--output DIR is missing");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static void on_signal(int number)
{
    (void)number;
    stop = 1;
}

static int n_cpus(void)
{
    cpu_set_t set;
    int       n = sched_getaffinity(0, sizeof set, &set) ? 1 : CPU_COUNT(&set);
    return n < 1 ? 1 : n > 64 ? 64 : n;
}

/* Makes dir, or accepts an empty one. *made: it was not there before. */
static int claim(const char *dir, bool *made, struct err *e)
{
    DIR *d = opendir(dir);
    bool empty = true;

    if (!d && errno == ENOENT) {
        *made = true;
        return file_make_folder(dir, e);
    }
    if (!d) return err_errno(e, ERR_IO, "cannot use %s as the output folder", dir);
    for (struct dirent *f; (f = readdir(d));)
        if (strcmp(f->d_name, ".") != 0 && strcmp(f->d_name, "..") != 0) empty = false;
    closedir(d);
    return empty ? 0 : err_set(e, ERR_CONFLICT, "%s is not empty: name another folder, or remove it first", dir);
}

static int make_folder_in(const char *dir, const char *name, char *path, size_t cap, struct err *e)
{
    int rc = file_join(path, cap, dir, name, e);
    return rc ? rc : file_make_folder(path, e);
}

static int write_in(const char *dir, const char *name, const char *text, struct err *e)
{
    char path[600];
    int  rc = file_join(path, sizeof path, dir, name, e);
    return rc ? rc : file_write(path, text, strlen(text), FILE_NEW, e);
}

static int write_model(struct synth_job *job, const struct synth_conf *c, struct err *e)
{
    char path[600];
    int  rc;

    for (int i = 0; i < SYNTH_PARTS; i++)
        if ((rc = make_folder_in(job->dir, synth_folder[i], path, sizeof path, e)) || (rc = write_in(path, "config.json", c->part[i], e)) ||
            (rc = (job->type && i != SYNTH_VAE ? synth_gguf : synth_weights)(job, synth_folder[i], &c->plan[i], e)))
            return rc;
    if ((rc = make_folder_in(job->dir, "tokenizer", path, sizeof path, e)) || (rc = synth_tokenizer(path, e))) return rc;
    if ((rc = make_folder_in(job->dir, "scheduler", path, sizeof path, e)) ||
        (rc = write_in(path, "scheduler_config.json", c->scheduler, e)))
        return rc;
    return write_in(job->dir, "model_index.json", c->index, e);
}

/* Takes back what write_model made in a folder that was empty before. */
static void take_back(const char *dir, bool made)
{
    static const char *const name[] = {"model_index.json", "transformer", "text_encoder", "vae", "tokenizer", "scheduler"};
    char                     path[600];

    for (size_t i = 0; i < sizeof name / sizeof *name; i++)
        if (file_join(path, sizeof path, dir, name[i], NULL) == 0) {
            if (i == 0)
                unlink(path);
            else
                file_remove_tree(path, NULL);
        }
    if (made) rmdir(dir);
}

static void put_plan(const struct synth_conf *c, bool bf16)
{
    char count[32], size[32];

    for (int i = 0; i < SYNTH_PARTS; i++) {
        int64_t n = plan_values(&c->plan[i]);
        printf("%-13s %4zu tensors  %" PRId64 " parameters (%s)  %s\n", synth_folder[i], c->plan[i].n, n,
               tool_count_text(n, count, sizeof count), tool_bytes_text(n * (bf16 ? 2 : 4), size, sizeof size));
    }
}

static int synth(const struct synth_args *a, struct err *e)
{
    struct synth_conf c = {0};
    struct synth_job  job = {.dir = a->out,
                             .seed = a->seed,
                             .bf16 = !a->f32,
                             .type = a->type,
                             .quiet = a->quiet,
                             .stop = &stop,
                             .shard_bytes = a->shard_mb * 1000000};
    bool              made = false;
    int64_t           free_bytes;
    int               rc;

    if ((rc = synth_conf_open(&c, a->config, job.bf16, e))) return rc;
    for (int i = 0; i < SYNTH_PARTS; i++) job.all_bytes += plan_values(&c.plan[i]) * (job.bf16 ? 2 : 4);
    job.n_threads = a->threads ? (int)a->threads : n_cpus();
    job.began_ms = now_ms();
    if (a->dry) {
        put_plan(&c, job.bf16);
        goto done;
    }
    if ((rc = claim(a->out, &made, e))) goto done;
    free_bytes = file_free_bytes(a->out);
    if (free_bytes >= 0 && free_bytes < job.all_bytes + SPARE_BYTES)
        rc = err_set(e, ERR_LIMIT, "%s: %" PRId64 " bytes are needed, its file system has %" PRId64 " free", a->out,
                     job.all_bytes + SPARE_BYTES, free_bytes);
    if (!rc) rc = write_model(&job, &c, e);
    if (rc)
        take_back(a->out, made);
    else if (!a->quiet)
        put_plan(&c, job.bf16);
done:
    synth_conf_release(&c);
    return rc;
}

int tool_synth(int argc, char **argv)
{
    const struct argp argp = {
        OPTIONS,
        on_option,
        NULL,
        "Writes a random but numerically sane Z-Image checkpoint in the diffusers folder layout, with a byte-level tokenizer.\v"
        "Same config, seed and dtype give the same bytes, whatever the threads. model_index.json is written last: "
        "a folder without it is not a model. Example: zfarm-model synth --config turbo -o models/synthetic",
        NULL,
        NULL,
        NULL};
    struct synth_args a = {.shard_mb = 5000};
    struct err        e = {0};
    struct sigaction  act = {.sa_handler = on_signal};

    argp_parse(&argp, argc, argv, 0, NULL, &a);
    sigaction(SIGINT, &act, NULL);
    sigaction(SIGTERM, &act, NULL);
    return synth(&a, &e) ? tool_failed(&e) : tool_done();
}
