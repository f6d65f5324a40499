/* args.c - what becomes of each option.
 * Believes: the first thing that is wrong is said in one sentence that names the option, and nothing is done.
 * Not here: which options there are (options.c), ranges of specs (fields.c). */
#include "client/args.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/local.h"
#include "client/options.h"
#include "client/suggest.h"

#define OPTIONS_MAX 48
#define TRY_MAX_S   (30 * 24 * 3600)

const char *argp_program_version = "zfarm " ZFARM_VERSION;

struct parse {
    struct args *a;
    struct err   err;
};

const char *args_command_word(enum args_command command)
{
    return options_of[command].word;
}

const char *args_command_summary(enum args_command command)
{
    return options_of[command].summary;
}

static int bad(struct parse *p, const char *option)
{
    err_in(&p->err, "--%s", option);
    return EINVAL;
}

static int field(struct parse *p, const char *name, const char *value) /* its sentence names the field */
{
    return field_set(&p->a->row, str_of(name), str_of(value), &p->err) ? EINVAL : 0;
}

static int place(struct parse *p, const char *value)
{
    if (p->a->n_places == ARGS_PLACES_MAX) {
        err_set(&p->err, ERR_ARG, "%.40s is one too many: text=, image= and vae= are said once each", value);
        return bad(p, "place");
    }
    if (!value[0] || strchr(value, ' ')) {
        err_set(&p->err, ERR_ARG, "\"%.40s\": one part with its devices, such as text=cuda:0, or auto", value);
        return bad(p, "place");
    }
    p->a->place[p->a->n_places++] = value;
    return 0;
}

static int text(struct parse *p, const char *option, const char *value, const char **out)
{
    if (!value[0]) {
        err_set(&p->err, ERR_ARG, "the value is empty");
        return bad(p, option);
    }
    *out = value;
    return 0;
}

static int number(struct parse *p, const char *option, const char *value, int low, int high, int *out)
{
    int64_t x;

    if (str_to_i64(str_of(value), &x) || x < low || x > high) {
        err_set(&p->err, ERR_ARG, "\"%.40s\" is not a whole number from %d to %d", value, low, high);
        return bad(p, option);
    }
    *out = (int)x;
    return 0;
}

static int seconds(struct parse *p, const char *option, const char *value, int64_t *out_ms)
{
    double x;

    if (str_to_f64(str_of(value), &x) || !(x >= 0.001 && x <= TRY_MAX_S)) {
        err_set(&p->err, ERR_ARG, "\"%.40s\" is not a number of seconds from 0.001 to %d", value, TRY_MAX_S);
        return bad(p, option);
    }
    *out_ms = (int64_t)(x * 1000.0);
    return 0;
}

static int precision(struct parse *p, const char *value)
{
    if (strcmp(value, "auto") != 0 && strcmp(value, "f32") != 0 && strcmp(value, "bf16") != 0) {
        err_set(&p->err, ERR_ARG, "\"%.40s\" is none of auto, f32, bf16", value);
        return bad(p, "precision");
    }
    p->a->precision = value;
    return 0;
}

static int budget(struct parse *p, const char *value)
{
    double gib;

    if (str_to_f64(str_of(value), &gib) || !(gib >= 0.25 && gib <= 1024)) {
        err_set(&p->err, ERR_ARG, "\"%.40s\" is not a number of GiB from 0.25 to 1024", value);
        return bad(p, "vram-budget");
    }
    p->a->vram_budget = value;
    return 0;
}

static int job_class(struct parse *p, const char *value)
{
    for (int c = CLASS_INTERACTIVE; c <= CLASS_BULK; c++)
        if (strcmp(value, job_class_name((enum job_class)c)) == 0) {
            p->a->job_class = (enum job_class)c;
            return 0;
        }
    err_set(&p->err, ERR_ARG, "\"%.40s\" is none of interactive, normal, bulk", value);
    return bad(p, "class");
}

static int job_and_index(struct parse *p, const char *value)
{
    const char *colon = strchr(value, ':');
    uint64_t    index = 0;
    struct str  job = {value, colon ? (size_t)(colon - value) : strlen(value)};

    if (p->a->job) {
        err_set(&p->err, ERR_ARG, "one job at a time: \"%.60s\" is too many", value);
        return EINVAL;
    }
    if (str_to_u64(job, &p->a->job) || p->a->job == 0 || (colon && (str_to_u64(str_of(colon + 1), &index) || index >= JOB_TASKS_MAX))) {
        err_set(&p->err, ERR_ARG, "\"%.60s\" is not JOB or JOB:INDEX, as 7 or 7:3: zfarm dead lists them", value);
        return EINVAL;
    }
    p->a->index = colon ? (int64_t)index : -1;
    return 0;
}

static int word(struct parse *p, const char *value)
{
    struct args *a = p->a;
    uint64_t     job;

    switch (a->command) {
    case ARGS_BATCH:
        if (a->file) {
            err_set(&p->err, ERR_ARG, "one file at a time: \"%.60s\" is too many%s", value,
                    a->sheet_said ? " (--sheet=FILE is written with =)" : "");
            return EINVAL;
        }
        return text(p, "FILE", value, &a->file);
    case ARGS_DRAIN:
        if (a->worker) {
            err_set(&p->err, ERR_ARG, "one worker at a time: \"%.60s\" is too many", value);
            return EINVAL;
        }
        if (strlen(value) > NAME_MAX_BYTES) {
            err_set(&p->err, ERR_ARG, "a worker's name has at most %d bytes", NAME_MAX_BYTES);
            return EINVAL;
        }
        return text(p, "WORKER", value, &a->worker);
    case ARGS_PAUSE:
    case ARGS_RESUME:
        if (a->client) {
            err_set(&p->err, ERR_ARG, "one client at a time: \"%.60s\" is too many", value);
            return EINVAL;
        }
        if (!*value || strlen(value) > NAME_MAX_BYTES) {
            err_set(&p->err, ERR_ARG, "a client's name has 1 to %d bytes", NAME_MAX_BYTES);
            return EINVAL;
        }
        return text(p, "CLIENT", value, &a->client);
    case ARGS_REQUEUE:
        return job_and_index(p, value);
    case ARGS_SHOW:
    case ARGS_WATCH:
    case ARGS_GATHER:
    case ARGS_CANCEL:
        if (a->job)
            err_set(&p->err, ERR_ARG, "one job at a time: \"%.60s\" is too many", value);
        else if (str_to_u64(str_of(value), &job) || job == 0)
            err_set(&p->err, ERR_ARG, "\"%.60s\" is not a job's number: zfarm jobs lists them", value);
        else {
            a->job = job;
            return 0;
        }
        return EINVAL;
    default:
        err_set(&p->err, ERR_ARG, "\"%.60s\" belongs to no option%s", value,
                a->command == ARGS_GENERATE ? ": the prompt goes behind -p, in quotes" : "");
        return EINVAL;
    }
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
    struct parse *p = state->input;
    struct args  *a = p->a;

    switch (key) {
    case 'p':
        a->prompt_said = true;
        return field(p, "prompt", arg);
    case O_PROMPT_FILE:
        return text(p, "prompt-file", arg, &a->prompt_file);
    case O_NEGATIVE:
        return field(p, "negative_prompt", arg);
    case 'W':
        return field(p, "width", arg);
    case 'H':
        return field(p, "height", arg);
    case O_STEPS:
        return field(p, "steps", arg);
    case O_INFERENCE:
        return field(p, "num_inference_steps", arg);
    case 'g':
        return field(p, "guidance", arg);
    case O_NORM:
        return field(p, "cfg_normalization", arg);
    case O_TRUNC:
        return field(p, "cfg_truncation", arg);
    case 's':
        return field(p, "seed", arg);
    case O_RNG:
        return field(p, "rng", arg);
    case 'n':
        return a->command == ARGS_JOBS ? number(p, "limit", arg, 1, JOBS_MAX, &a->limit) : field(p, "n", arg);
    case 'o':
        return text(p, "output", arg, &a->out);
    case O_DIT:
        return text(p, "dit", arg, &a->dit);
    case O_TEXT:
        return text(p, "text-encoder", arg, &a->text_encoder);
    case O_VAE:
        return text(p, "vae", arg, &a->vae);
    case O_TOKENIZER:
        return text(p, "tokenizer", arg, &a->tokenizer);
    case O_PROFILE:
        return text(p, "profile", arg, &a->profile);
    case O_LATENTS:
        return text(p, "latents-out", arg, &a->latents);
    case O_SHEET:
        a->sheet_said = true;
        a->sheet = arg ? arg : "";
        return arg ? text(p, "sheet", arg, &a->sheet) : 0;
    case O_RESUME:
        a->resume = true;
        return 0;
    case O_DETACH:
        a->detach = true;
        return 0;
    case O_KEEP:
        a->keep = true;
        return 0;
    case O_BROKER:
        return text(p, "broker", arg, &a->broker);
    case O_KEY:
        return text(p, "key", arg, &a->key);
    case O_KEYS:
        return text(p, "keys", arg, &a->keys);
    case O_SERVER_KEY:
        return text(p, "server-key", arg, &a->server_key);
    case O_UNDO:
        a->undo = true;
        return 0;
    case O_CLASS:
        return job_class(p, arg);
    case O_DEADLINE:
        return seconds(p, "deadline", arg, &a->deadline_ms);
    case O_TIMEOUT:
        return seconds(p, "timeout", arg, &a->timeout_ms);
    case O_PATIENCE:
        return seconds(p, "patience", arg, &a->patience_ms);
    case O_MODEL:
        return text(p, "model", arg, &a->model);
    case O_DEVICE:
        return text(p, "device", arg, &a->device);
    case O_PLACE:
        return place(p, arg);
    case O_PRECISION:
        return precision(p, arg);
    case O_BUDGET:
        return budget(p, arg);
    case O_THREADS:
        return number(p, "threads", arg, 1, 1024, &a->n_threads);
    case O_WORKERS:
        return number(p, "workers", arg, 1, LOCAL_WORKERS_MAX, &a->n_workers);
    case O_LISTEN:
        return text(p, "listen", arg, &a->listen);
    case O_DATA:
        return text(p, "data", arg, &a->data);
    case O_JSON:
        a->json = true;
        return 0;
    case 'q':
        a->quiet = true;
        return 0;
    case ARGP_KEY_ARG:
        return word(p, arg);
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* The option of that long name or unique beginning; NULL: none. */
static const struct argp_option *long_option(const struct argp_option *o, struct str name, bool *several)
{
    const struct argp_option *found = NULL;

    *several = false;
    for (; o->name || o->doc; o++) {
        if (!o->name || strncmp(o->name, name.at, name.len) != 0) continue;
        if (strlen(o->name) == name.len) {
            *several = false;
            return o;
        }
        *several = *several || (found && found->key != o->key);
        found = o;
    }
    return found;
}

static int unknown_option(struct parse *p, const struct argp_option *o, const char *said, size_t len, bool several)
{
    const char *names[OPTIONS_MAX], *near;
    size_t      n = 0;

    for (; o->name || o->doc; o++)
        if (o->name && n < OPTIONS_MAX) names[n++] = o->name;
    near = suggest((struct str){said, len}, names, n);
    if (several)
        err_set(&p->err, ERR_ARG, "option --%.*s could be several", (int)len, said);
    else if (near)
        err_set(&p->err, ERR_ARG, "unknown option --%.*s: did you mean --%s?", (int)(len < 60 ? len : 60), said, near);
    else
        err_set(&p->err, ERR_ARG, "unknown option --%.*s", (int)(len < 60 ? len : 60), said);
    return EINVAL;
}

/* Looks for what getopt would complain about in its own words. */
static int scan(struct parse *p, const struct argp_option *o, int argc, char **argv)
{
    for (int k = 1; k < argc; k++) {
        const char               *w = argv[k];
        const struct argp_option *found;
        bool                      several = false;

        if (strcmp(w, "--") == 0) return 0;
        if (w[0] != '-' || !w[1]) continue;
        if (w[1] == '-') {
            const char *eq = strchr(w, '=');
            struct str  name = {w + 2, eq ? (size_t)(eq - w - 2) : strlen(w + 2)};

            found = long_option(o, name, &several);
            if (!found || several) return unknown_option(p, o, name.at, name.len, several);
            while (found->flags & OPTION_ALIAS) found--;
            if (eq && !found->arg) {
                err_set(&p->err, ERR_ARG, "option --%s takes no value", found->name);
                return EINVAL;
            }
            if (!eq && found->arg && !(found->flags & OPTION_ARG_OPTIONAL) && ++k >= argc) {
                err_set(&p->err, ERR_ARG, "option --%s needs a value (%s)", found->name, found->arg);
                return EINVAL;
            }
            continue;
        }
        for (const char *c = w + 1; *c; c++) {
            for (found = o; found->name || found->doc; found++)
                if (found->key == *c) break;
            if (!found->name) {
                err_set(&p->err, ERR_ARG, "unknown option -%c", *c >= 0x20 && *c < 0x7f ? *c : '?');
                return EINVAL;
            }
            if (!found->arg) continue;
            if (!c[1] && ++k >= argc) {
                err_set(&p->err, ERR_ARG, "option -%c needs a value (%s)", *c, found->arg);
                return EINVAL;
            }
            break;
        }
    }
    return 0;
}

/* What belongs together. */
static int whole(struct parse *p)
{
    struct args *a = p->a;
    bool         makes = a->command == ARGS_GENERATE || a->command == ARGS_BATCH;
    const char  *own = a->device ? "device" : a->n_places ? "place" : a->precision ? "precision" : a->vram_budget ? "vram-budget" : a->n_threads ? "threads" : a->n_workers ? "workers" : NULL;

    if (a->command == ARGS_GENERATE && a->prompt_said == (a->prompt_file != NULL)) {
        return err_set(&p->err, ERR_ARG,
                       a->prompt_said ? "--prompt and --prompt-file: give one of them" : "a prompt is needed: -p \"what to paint\"");
    }
    if (a->command == ARGS_BATCH && !a->file) return err_set(&p->err, ERR_ARG, "a file of prompts is needed (.txt, .jsonl or .csv)");
    if ((a->command == ARGS_BATCH || a->command == ARGS_GATHER) && !a->out)
        return err_set(&p->err, ERR_ARG, "a folder for the images is needed: -o DIR");
    if (a->command == ARGS_DRAIN && !a->worker) return err_set(&p->err, ERR_ARG, "a worker's name is needed: zfarm workers lists them");
    if (((a->command >= ARGS_SHOW && a->command <= ARGS_CANCEL) || a->command == ARGS_REQUEUE) && !a->job)
        return err_set(&p->err, ERR_ARG, "a job's number is needed: zfarm jobs lists them");
    a->own_farm = a->broker && strcmp(a->broker, "none") == 0;
    if (!a->broker) a->broker = getenv("ZFARM_BROKER");
    if (a->broker && (!a->broker[0] || strcmp(a->broker, "none") == 0)) a->broker = NULL;
    if (!a->broker && !makes && a->command != ARGS_UP) a->broker = ARGS_BROKER_DEFAULT;
    if (a->key && !a->broker) return err_set(&p->err, ERR_ARG, "--key is for a broker: --broker ENDPOINT (or ZFARM_BROKER) is missing");
    if (!a->key) a->key = getenv("ZFARM_KEY");
    if (a->key && !a->key[0]) a->key = NULL;
    if (!a->keys) a->keys = getenv("ZFARM_KEYS");
    if (a->keys && !a->keys[0]) a->keys = NULL;
    if (a->server_key && !a->key) return err_set(&p->err, ERR_ARG, "--server-key goes with --key FILE (or ZFARM_KEY)");
    if (makes && a->broker && own) {
        return err_set(&p->err, ERR_ARG,
                       "--%s is for a farm of this command's own, but a broker is given (%.100s); --broker none starts one", own,
                       a->broker);
    }
    if (a->n_places && a->device) return err_set(&p->err, ERR_ARG, "--place goes without --device: it names the devices");
    if (a->n_places && a->n_workers > 1) return err_set(&p->err, ERR_ARG, "--place goes without --workers: one worker has all the devices that it names");
    if (a->detach && !a->broker) return err_set(&p->err, ERR_ARG, "--detach needs --broker: a farm of this command's own ends with it");
    if (a->listen && strchr(a->listen, '*'))
        return err_set(&p->err, ERR_ARG, "--listen %.100s: workers must know the address: give host and port", a->listen);
    if (a->latents && a->row.n > 1)
        return err_set(&p->err, ERR_ARG, "--latents-out is for one image, and %" PRIu32 " are asked for", a->row.n);
    a->model_env = getenv("ZFARM_MODEL");
    if (a->model_env && !a->model_env[0]) a->model_env = NULL;
    if (!a->n_workers) a->n_workers = 1;
    return 0;
}

int args_parse(enum args_command command, int argc, char **argv, struct args *a)
{
    const struct command *c = &options_of[command];
    struct argp_option    all[OPTIONS_MAX + 4];
    struct argp           argp = {.options = all, .parser = parse_option, .args_doc = c->words, .doc = c->doc};
    struct parse          p = {.a = a};
    size_t                n = 0;
    char                  name[64], *first = argv[0];
    int                   rc;

    memset(a, 0, sizeof *a);
    memset(all, 0, sizeof all);
    a->command = command;
    a->limit = 20;
    row_init(&a->row);
    for (size_t g = 0; g < sizeof c->groups / sizeof c->groups[0] && c->groups[g]; g++)
        for (const struct argp_option *o = c->groups[g]; (o->name || o->doc) && n < OPTIONS_MAX; o++) all[n++] = *o;
    all[n] = (struct argp_option){"help", '?', 0, OPTION_HIDDEN, "this text", -1};
    all[n + 1] = (struct argp_option){"usage", 0x7001, 0, OPTION_HIDDEN, "a short form", -1};
    all[n + 2] = (struct argp_option){"version", 'V', 0, OPTION_HIDDEN, "the version", -1};
    rc = scan(&p, all, argc, argv);
    memset(&all[n], 0, 3 * sizeof all[0]); /* argp adds its own */
    snprintf(name, sizeof name, "zfarm %s", c->word);
    argv[0] = name;
    if (rc == 0) rc = argp_parse(&argp, argc, argv, 0, NULL, &p);
    argv[0] = first;
    if (rc == 0) rc = whole(&p);
    if (rc == 0) return 0;
    fprintf(stderr, "zfarm %s: %s\nTry `zfarm %s --help'\n", c->word, p.err.text[0] ? p.err.text : strerror(rc), c->word);
    return 2;
}
