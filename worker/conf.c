/* conf.c - the command line of zfarm-worker. Believes: what is not understood is refused before anything starts. */
#include "worker/conf.h"

#include <argp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/check.h"

#define THREADS_MAX 1024 /* the engine's own bound */

const char *argp_program_version = "zfarm-worker " ZFARM_VERSION;

enum { KEY_BROKER = 'b', KEY_MODEL = 'm', KEY_DEVICE = 'd', KEY_THREADS = 't', KEY_SLOTS = 's', KEY_NAME = 'n', KEY_PRECISION = 'p', KEY_LEVEL = 'l', KEY_DIT = 0x100, KEY_TEXT,
       KEY_VAE, KEY_TOKENIZER, KEY_PROFILE, KEY_BUDGET, KEY_SERVER, KEY_PLACE, KEY_PLAN, KEY_ONE, KEY_KEY = 'k' };

static const struct argp_option options[] = {
    {"broker", KEY_BROKER, "ENDPOINT", 0, "The broker to work for: tcp://HOST:PORT or ipc://PATH (required). It may be absent for now", 1},
    {"key", KEY_KEY, "FILE", 0, "This worker's key, of a broker that asks for one; its owner makes it with `zfarm-keys add NAME --role worker' (ZFARM_KEY)", 1},
    {"server-key", KEY_SERVER, "HEX", 0, "The broker's public key, when FILE does not have it", 1},
    {"model", KEY_MODEL, "[NAME=]DIR", 0, "The checkpoint to offer: a folder in the diffusers layout. NAME is what jobs ask for; default: the folder's name", 1},
    {"dit", KEY_DIT, "FILE", 0, "A transformer in place of the folder's: .safetensors (diffusers or original names, also F8), index of shards, .gguf, or a folder", 1},
    {"text-encoder", KEY_TEXT, "FILE", 0, "A Qwen3 text encoder in place of the folder's: as above; a .gguf may carry its tokenizer", 1},
    {"vae", KEY_VAE, "FILE", 0, "An autoencoder in place of the folder's (diffusers or BFL names). With all three no folder is needed: --model NAME= names the set", 1},
    {"tokenizer", KEY_TOKENIZER, "DIR", 0, "Folder of tokenizer.json, when the model does not have one", 1},
    {"profile", KEY_PROFILE, "NAME", 0, "turbo or base: what the model is, when its files do not say", 1},
    {"device", KEY_DEVICE, "DEVICE", 0, "auto, cpu, cuda:N, cuda:all, or a list such as cuda:0,cuda:2: one worker per device (default auto: the first GPU, or the CPU)", 2},
    {"place", KEY_PLACE, "PART=DEVICE", 0, "Parts of the model on devices of their own, all in one worker: --place text=cuda:0 --place image=cuda:1[,cuda:2...] [--place vae=cuda:0]. Without vae each image device decodes what it made. --place auto chooses by what each GPU has free; not with --device", 2},
    {"one-device", KEY_ONE, "DEVICE", OPTION_HIDDEN, "what the foreman tells a supervisor: this device, whatever --device and --place say", 2},
    {"plan", KEY_PLAN, NULL, 0, "Print what would lie where, in GiB per device, and end; nothing is loaded and no broker is needed. Status 1: it does not fit", 2},
    {"precision", KEY_PRECISION, "TYPE", 0, "auto, f32 or bf16: how products are computed (default auto: bf16 on GPUs and on CPUs with AMX, else f32 with faster products of an error up to 1e-4)", 2},
    {"vram-budget", KEY_BUDGET, "GIB", 0, "What the engine may take of a GPU's memory, beside the driver's own (default: what is free, less 0.5). It measures first, then chooses: widened weights, blocks as stored, the text encoder parked in host memory or read again; larger pictures are refused", 2},
    {"threads", KEY_THREADS, "N", 0, "CPU threads of the engine (default: all CPUs this process may use)", 2},
    {"slots", KEY_SLOTS, "N", 0, "Tasks held at once, 1 to 64: one is made, the others wait at hand; what is only written or sent does not count (default 2; with --place one more than image devices, and one for a vae elsewhere)", 2},
    {"name", KEY_NAME, "TEXT", 0, "The name shown by `zfarm workers` (default HOST:PID); with several devices /0, /1, ... follow", 3},
    {"log-level", KEY_LEVEL, "LEVEL", 0, "debug, info, warn, error or none (default info)", 3},
    {0},
};

void worker_conf_init(struct worker_conf *c)
{
    char host[65] = "worker";

    memset(c, 0, sizeof *c);
    gethostname(host, sizeof host - 1);
    snprintf(c->name, sizeof c->name, "%s:%ld", host, (long)getpid());
    c->device = "auto";
    c->precision = "auto";
    c->n_slots = 2;
    c->log_level = LOG_INFO;
    c->watch = (struct watch){.load_ms = 600000, .first_ms = 120000, .floor_ms = 15000, .kill_ms = 5000, .backoff_ms = 1000,
                              .backoff_max_ms = 60000, .drain_ms = 25000};
}

/* The last name of a path; "." and ".." are asked where they are. */
static int base_name(const char *dir, char *out, size_t cap)
{
    char       *real = realpath(dir, NULL);
    const char *path = real ? real : dir;
    size_t      len = strlen(path);
    const char *slash;
    int         n;

    while (len > 1 && path[len - 1] == '/') len--;
    slash = memrchr(path, '/', len);
    if (slash && slash + 1 < path + len) {
        len -= (size_t)(slash + 1 - path);
        path = slash + 1;
    }
    n = snprintf(out, cap, "%.*s", (int)len, path);
    free(real);
    return n > 0 && (size_t)n < cap ? 0 : ERR_LIMIT;
}

int worker_conf_model(struct worker_conf *c, const char *text, struct err *e)
{
    const char *equals = strchr(text, '='), *slash = strchr(text, '/');

    if (equals && (!slash || equals < slash)) {
        size_t len = (size_t)(equals - text);

        if (len == 0 || len > MODEL_MAX_BYTES)
            return err_set(e, ERR_ARG, "a model's name has 1 to %d bytes, this one has %zu", MODEL_MAX_BYTES, len);
        memcpy(c->model, text, len);
        c->model[len] = 0;
        c->model_dir = equals + 1;
    } else {
        c->model_dir = text;
        if (base_name(text, c->model, sizeof c->model))
            return err_set(e, ERR_ARG, "the folder's name is longer than %d bytes: say --model NAME=DIR", MODEL_MAX_BYTES);
    }
    if (!*c->model_dir) {
        if (!equals) return err_set(e, ERR_ARG, "the model's folder is missing");
        c->model_dir = NULL;
    }
    return check_line(str_of(c->model), MODEL_MAX_BYTES, "the model's name", e);
}

int worker_conf_place(struct worker_conf *c, const char *word, struct err *e)
{
    size_t len = strlen(c->place_words);

    if (!*word || strchr(word, ' ')) return err_set(e, ERR_ARG, "\"%.40s\": one part with its devices, such as text=cuda:0, or auto", word);
    if (len && (!strcmp(word, "auto") || !strcmp(c->place_words, "auto"))) return err_set(e, ERR_ARG, "auto goes without other placements");
    if (len + 1 + strlen(word) >= sizeof c->place_words) return err_set(e, ERR_ARG, "placements of more than %zu bytes", sizeof c->place_words - 2);
    snprintf(c->place_words + len, sizeof c->place_words - len, "%s%s", len ? " " : "", word);
    return 0;
}

void worker_conf_placed(struct worker_conf *c, const struct place *p)
{
    c->place = *p;
    if (p->n_image && !c->slots_given) c->n_slots = place_tasks(p);
}

static int check_place(struct worker_conf *c, struct err *e)
{
    struct place p;
    int          rc;

    if (c->device_is_last) c->place_words[0] = 0;
    if (!c->place_words[0]) return 0;
    if (c->device_given) return err_set(e, ERR_ARG, "--device goes without --place: a placement names its devices");
    if (!strcmp(c->place_words, "auto")) return 0;
    if ((rc = place_parse(&p, c->place_words, e))) return rc;
    worker_conf_placed(c, &p);
    return 0;
}

int worker_conf_check(struct worker_conf *c, struct err *e)
{
    bool  set = c->dit && c->text_encoder && c->vae;
    char *dot;
    int   rc;

    if ((rc = check_place(c, e))) return rc;
    if (!c->model_dir && !set)
        return err_set(e, ERR_ARG, "--model [NAME=]DIR is missing, or all of --dit, --text-encoder and --vae");
    if (c->model[0]) return 0;
    if (base_name(c->dit, c->model, sizeof c->model)) return err_set(e, ERR_ARG, "the name of --dit is longer than %d bytes: say --model NAME=", MODEL_MAX_BYTES);
    dot = strrchr(c->model, '.');
    if (dot && dot != c->model) *dot = 0;
    return check_line(str_of(c->model), MODEL_MAX_BYTES, "the model's name", e);
}

enum engine_precision worker_conf_precision(const char *word)
{
    return !strcmp(word, "f32") ? ENGINE_F32 : !strcmp(word, "bf16") ? ENGINE_BF16 : ENGINE_AUTO;
}

int worker_conf_budget(const char *text, size_t *bytes, struct err *e)
{
    double gib = 0;

    if (str_to_f64(str_of(text), &gib) || !(gib >= 0.25 && gib <= 1024))
        return err_set(e, ERR_ARG, "a budget of \"%.40s\" GiB: must be a number from 0.25 to 1024", text);
    *bytes = (size_t)(gib * (double)((size_t)1 << 30));
    return 0;
}

static int number(struct argp_state *state, const char *what, const char *arg, int64_t low, int64_t high)
{
    int64_t v = 0;

    if (str_to_i64(str_of(arg), &v) || v < low || v > high)
        argp_error(state, "%s \"%.40s\" is not a number from %lld to %lld", what, arg, (long long)low, (long long)high);
    return (int)v;
}

static bool is_one_of(const char *word, const char *const *words)
{
    for (; *words; words++)
        if (!strcmp(word, *words)) return true;
    return false;
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
    static const char *const precisions[] = {"auto", "f32", "bf16", NULL}, *const profiles[] = {"turbo", "base", NULL};
    struct worker_conf      *c = state->input;
    struct err               e = {0};
    size_t                   bytes;

    switch (key) {
    case KEY_BROKER: c->broker = arg; break;
    case KEY_MODEL:
        if (c->model[0]) argp_error(state, "--model is given twice: one worker has one model");
        if (worker_conf_model(c, arg, &e)) argp_error(state, "--model: %s", e.text);
        break;
    case KEY_KEY: c->key = arg; break;
    case KEY_SERVER: c->server_key = arg; break;
    case KEY_DIT: c->dit = arg; break;
    case KEY_TEXT: c->text_encoder = arg; break;
    case KEY_VAE: c->vae = arg; break;
    case KEY_TOKENIZER: c->tokenizer = arg; break;
    case KEY_PROFILE:
        if (!is_one_of(arg, profiles)) argp_error(state, "--profile \"%.40s\" is not known: turbo or base", arg);
        c->profile = arg;
        break;
    case KEY_DEVICE:
        if (check_line(str_of(arg), NAME_MAX_BYTES, "the device", &e)) argp_error(state, "--device: %s", e.text);
        if (!c->device_is_last) c->device = arg;
        c->device_given = true;
        break;
    case KEY_PLACE:
        if (worker_conf_place(c, arg, &e)) argp_error(state, "--place: %s", e.text);
        break;
    case KEY_ONE:
        c->device = arg;
        c->device_is_last = true;
        break;
    case KEY_PLAN: c->plan = true; break;
    case KEY_PRECISION:
        if (!is_one_of(arg, precisions)) argp_error(state, "--precision \"%.40s\" is not known: auto, f32 or bf16", arg);
        c->precision = arg;
        break;
    case KEY_BUDGET:
        if (worker_conf_budget(arg, &bytes, &e)) argp_error(state, "--vram-budget: %s", e.text);
        c->vram_budget = arg;
        break;
    case KEY_THREADS: c->n_threads = number(state, "--threads", arg, 1, THREADS_MAX); break;
    case KEY_SLOTS: c->n_slots = number(state, "--slots", arg, 1, LEASES_MAX); c->slots_given = true; break;
    case KEY_NAME:
        if (!*arg || check_line(str_of(arg), NAME_MAX_BYTES, "the worker's name", &e))
            argp_error(state, "--name: %s", *arg ? e.text : "a name is not empty");
        snprintf(c->name, sizeof c->name, "%s", arg);
        c->name_given = true;
        break;
    case KEY_LEVEL:
        if (!log_level_parse(arg, &c->log_level)) argp_error(state, "--log-level \"%.40s\" is not known: debug, info, warn, error or none", arg);
        break;
    case ARGP_KEY_ARG: argp_error(state, "\"%.100s\" is not understood", arg); break;
    case ARGP_KEY_END:
        if (!c->broker && !c->plan) argp_error(state, "--broker ENDPOINT is missing");
        if (!c->key) c->key = getenv("ZFARM_KEY");
        if (c->key && !*c->key) c->key = NULL;
        if (c->server_key && !c->key) argp_error(state, "--server-key goes with --key FILE (or ZFARM_KEY)");
        if (worker_conf_check(c, &e)) argp_error(state, "%s", e.text);
        break;
    default: return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

void worker_conf_parse(struct worker_conf *c, int argc, char **argv)
{
    static const struct argp argp = {
        options, parse_option, NULL,
        "Makes images for a broker: loads a model, takes tasks, sends back the results.\v"
        "The model is opened before any task is taken; a folder that cannot be opened ends the worker with a sentence and status 1. "
        "The engine runs in a child process: when it crashes or hangs it is started again, and the broker hears which task it was. "
        "SIGTERM or SIGINT drains: the running task is finished if that takes less than 25 s, others are given back. A second one ends at once.\n\n"
        "Exit status: 0 drained, 1 failed, 2 usage.",
        NULL, NULL, NULL};

    argp_err_exit_status = 2;
    argp_parse(&argp, argc, argv, 0, NULL, c);
}
