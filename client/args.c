/* args.c - argp tables and what becomes of each option.
 * Believes: the first thing that is wrong is said in one sentence that names the option, and nothing is done.
 * Not here: ranges of specs (fields.c). */
#include "client/args.h"

#include <argp.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/local.h"
#include "client/suggest.h"

#define OPTIONS_MAX 48
#define TRY_MAX_S   (30 * 24 * 3600)

enum { /* options without a letter */
    O_NEGATIVE = 0x100, O_STEPS, O_INFERENCE, O_NORM, O_TRUNC, O_RNG, O_LATENTS, O_MODEL, O_BROKER, O_JSON, O_DEVICE, O_PRECISION, O_THREADS,
    O_WORKERS, O_PROMPT_FILE, O_SHEET, O_RESUME, O_DETACH, O_KEEP, O_TIMEOUT, O_PATIENCE, O_LISTEN, O_DATA, O_LIMIT, O_DIT, O_TEXT, O_VAE, O_TOKENIZER, O_PROFILE,
    O_CLASS, O_DEADLINE, O_UNDO, O_BUDGET, O_KEY, O_SERVER_KEY, O_KEYS
};

static const struct argp_option prompt_options[] = {
    {0, 0, 0, 0, "What to make:", 1},
    {"prompt", 'p', "TEXT", 0, "the prompt; may be empty", 1},
    {"prompt-file", O_PROMPT_FILE, "FILE", 0, "read the prompt from FILE; - is standard input", 1},
    {0}};

static const struct argp_option spec_options[] = {
    {0, 0, 0, 0, "The image (for batch: the default of every row):", 2},
    {"negative-prompt", O_NEGATIVE, "TEXT", 0, "what guidance leads away from", 2},
    {"width", 'W', "PIXELS", 0, "16 to 4096, a multiple of 16 (what the model was made for)", 2},
    {"height", 'H', "PIXELS", 0, "16 to 4096, a multiple of 16 (as --width)", 2},
    {"steps", O_STEPS, "N", 0, "forward passes, 1 to 200 (the model's default)", 2},
    {"num-inference-steps", O_INFERENCE, "N", 0, "the count of diffusers 0.36-0.39: max(1, N-1) passes", 2},
    {"guidance", 'g', "G", 0, "guidance scale, diffusers convention: 0 is off (the model's default)", 2},
    {"guidance-scale", 'g', 0, OPTION_ALIAS | OPTION_HIDDEN, 0, 2},
    {"cfg-normalization", O_NORM, "X", 0, "limit the guided prediction to X times the norm of the plain one; 0 is off, diffusers' True is 1", 2},
    {"cfg-truncation", O_TRUNC, "X", 0, "guide only while the time 1-sigma is at most X", 2},
    {"seed", 's', "SEED", 0, "0 to 2^64-1; image k is made with SEED + k (default: random, and told)", 2},
    {"rng", O_RNG, "WHOSE", 0, "torch-cuda[:DEVICE], DEVICE as h100, l4, 4090 or SMSxTHREADS, or torch-cpu (torch-cuda:h100)", 2},
    {"count", 'n', "COUNT", 0, "images to make (1); for batch: of every row", 2},
    {0}};

static const struct argp_option generate_options[] = {
    {0, 0, 0, 0, "Where it goes:", 3},
    {"output", 'o', "FILE|DIR", 0, "the PNG, or a folder for zfarm-SEED.png (the current one)", 3},
    {"latents-out", O_LATENTS, "FILE", 0, "also write the final latents (safetensors, F32 `latents' [1,16,H/8,W/8]); one image only", 3},
    {"sheet", O_SHEET, "FILE", OPTION_ARG_OPTIONAL, "also make a contact sheet PNG (DIR/sheet.png)", 3},
    {0}};

static const struct argp_option batch_options[] = {
    {0, 0, 0, 0, "Where it goes:", 3},
    {"output", 'o', "DIR", 0, "the folder for the images; made when missing", 3},
    {"resume", O_RESUME, 0, 0, "go on with the batch that DIR holds; nothing is made or fetched twice", 3},
    {"detach", O_DETACH, 0, 0, "only submit (needs --broker): --resume or `zfarm gather' fetches later", 3},
    {"sheet", O_SHEET, "FILE", OPTION_ARG_OPTIONAL, "also make a contact sheet PNG (DIR/sheet.png)", 3},
    {0}};

static const struct argp_option gather_options[] = {
    {0, 0, 0, 0, "Where it goes:", 3},
    {"output", 'o', "DIR", 0, "the folder for the images; made when missing", 3},
    {"sheet", O_SHEET, "FILE", OPTION_ARG_OPTIONAL, "also make a contact sheet PNG (DIR/sheet.png)", 3},
    {"keep", O_KEEP, 0, 0, "leave the images at the broker, for another gather", 3},
    {0}};

static const struct argp_option broker_options[] = {
    {0, 0, 0, 0, "The farm:", 4},
    {"broker", O_BROKER, "ENDPOINT", 0, "tcp://HOST:PORT or ipc://PATH of a zfarm-broker (ZFARM_BROKER)", 4},
    {"key", O_KEY, "FILE", 0, "your key, of a broker that asks for one; its owner makes it with `zfarm-keys add' (ZFARM_KEY)", 4},
    {"server-key", O_SERVER_KEY, "HEX", 0, "the broker's public key, when FILE does not have it", 4},
    {"timeout", O_TIMEOUT, "SECONDS", 0, "wait this long for the broker's first answer (10)", 4},
    {"patience", O_PATIENCE, "SECONDS", 0, "wait this long for a broker that went away (600)", 4},
    {0}};

static const struct argp_option class_options[] = {
    {"class", O_CLASS, "CLASS", 0, "interactive, normal or bulk: while all wait they get a busy farm 8:4:1 (generate: interactive; batch: normal)", 4},
    {"deadline", O_DEADLINE, "SECONDS", 0, "what no worker has begun by then expires; of one client's jobs the one with the earliest deadline goes first", 4},
    {0}};

static const struct argp_option model_options[] = {
    {"model", O_MODEL, "NAME|DIR", 0, "with --broker: a name that its workers announce; without: a folder (ZFARM_MODEL, models/demo)", 4}, {0}};

static const struct argp_option embedded_options[] = {
    {0, 0, 0, 0, "Without --broker this command starts a farm of its own (--broker none: even if ZFARM_BROKER is set):", 5},
    {"dit", O_DIT, "FILE", 0, "a transformer instead of the folder's: .safetensors, .gguf or a folder", 5},
    {"text-encoder", O_TEXT, "FILE", 0, "a text encoder instead of the folder's; with --dit and --vae no folder is needed", 5},
    {"vae", O_VAE, "FILE", 0, "an autoencoder instead of the folder's", 5},
    {"tokenizer", O_TOKENIZER, "DIR", 0, "folder of tokenizer.json, when the model has none", 5},
    {"profile", O_PROFILE, "NAME", 0, "turbo or base, when the model's files do not say", 5},
    {"device", O_DEVICE, "D", 0, "auto, cpu, cuda:N, cuda:all, or a list such as cuda:0,cuda:2 (auto: the first GPU, or the CPU)", 5},
    {"precision", O_PRECISION, "P", 0, "auto, f32 or bf16 (auto)", 5},
    {"vram-budget", O_BUDGET, "GIB", 0, "what the engine may take of a GPU's memory (what is free, less 0.5)", 5},
    {"threads", O_THREADS, "N", 0, "CPU threads of each worker (the machine's, shared out)", 5},
    {"workers", O_WORKERS, "N", 0, "workers to start (1)", 5},
    {0}};

static const struct argp_option up_options[] = {
    {"model", O_MODEL, "DIR", 0, "the model's folder (ZFARM_MODEL, models/demo)", 4},
    {"workers", O_WORKERS, "N", 0, "workers to start (1)", 4},
    {"listen", O_LISTEN, "ENDPOINT", 0, "where clients and further workers connect (" ARGS_BROKER_DEFAULT ")", 4},
    {"data", O_DATA, "DIR", 0, "journal and finished images; kept (zfarm-data)", 4},
    {"keys", O_KEYS, "DIR", 0, "the farm's keys (zfarm-keys init DIR): --listen then asks for one, and may be reached from elsewhere (ZFARM_KEYS)", 4},
    {"dit", O_DIT, "FILE", 0, "a transformer instead of the folder's: .safetensors, .gguf or a folder", 4},
    {"text-encoder", O_TEXT, "FILE", 0, "a text encoder instead of the folder's; with --dit and --vae no folder is needed", 4},
    {"vae", O_VAE, "FILE", 0, "an autoencoder instead of the folder's", 4},
    {"tokenizer", O_TOKENIZER, "DIR", 0, "folder of tokenizer.json, when the model has none", 4},
    {"profile", O_PROFILE, "NAME", 0, "turbo or base, when the model's files do not say", 4},
    {"device", O_DEVICE, "D", 0, "auto, cpu, cuda:N, cuda:all, or a list such as cuda:0,cuda:2: one worker per device (auto: the first GPU, or the CPU)", 4},
    {"precision", O_PRECISION, "P", 0, "auto, f32 or bf16 (auto)", 4},
    {"vram-budget", O_BUDGET, "GIB", 0, "what each engine may take of its GPU's memory (what is free, less 0.5)", 4},
    {"threads", O_THREADS, "N", 0, "CPU threads of each worker (the machine's, shared out)", 4},
    {0}};

static const struct argp_option undo_options[] = {{"undo", O_UNDO, 0, 0, "it gets work again", 1}, {0}};
static const struct argp_option limit_options[] = {{"limit", 'n', "N", 0, "at most N jobs (20)", 1}, {0}};

static const struct argp_option output_options[] = {
    {0, 0, 0, 0, "What is told:", 6}, {"json", O_JSON, 0, 0, "one JSON object per line on standard output", 6}, {0}};
static const struct argp_option quiet_options[] = {{"quiet", 'q', 0, 0, "no progress, only errors", 6}, {0}};

static const struct command {
    const char               *word, *summary, *words, *doc;
    const struct argp_option *groups[9];
} commands[N_ARGS_COMMANDS] = {
    [ARGS_GENERATE] = {"generate", "make images of one prompt", "", "Make images of one prompt.\v"
        "Examples:\n"
        "  zfarm generate -p \"an orange cat in a green meadow\"\n"
        "  zfarm generate -p \"a red house by the sea at night\" -W 384 -H 256 -s 42 -o house.png\n"
        "  zfarm generate -p \"a white boat, mountains, at dawn\" -n 8 -o out/ --sheet --workers 2\n"
        "  zfarm generate --broker tcp://127.0.0.1:7777 --model turbo -p \"a fox\"\n\n"
        "-o FILE is replaced at once when the image is whole, never half written. Exit codes: 0 made, 1 failed, 2 wrong usage.\n",
        {prompt_options, spec_options, generate_options, broker_options, class_options, model_options, embedded_options, output_options, quiet_options}},
    [ARGS_BATCH] = {"batch", "make the images of a file of prompts", "FILE", "Make the images of a file of prompts.\v"
        "FILE.txt    a prompt per line; blank lines and lines beginning with # are skipped, \\# begins a prompt with #\n"
        "FILE.jsonl  an object per line: prompt, negative_prompt, width, height, steps, num_inference_steps, guidance, "
        "cfg_normalization, cfg_truncation, seed, rng, n, model, name\n"
        "FILE.csv    the same names as a header row; cells stand between , or ; or tabs, as in the header, and may be quoted and hold line breaks\n\n"
        "A row without a seed takes SEED + the index of its image. Files are DIR/INDEX-SEED.png, or DIR/NAME.png for rows with a name "
        "({seed} and {index} in it are filled in).\n\n"
        "Examples:\n"
        "  zfarm batch prompts.txt -o out -s 42 --sheet\n"
        "  zfarm batch rows.csv -o out --broker tcp://127.0.0.1:7777\n"
        "  zfarm batch rows.csv -o out --resume        after anything went wrong\n",
        {spec_options, batch_options, broker_options, class_options, model_options, embedded_options, output_options, quiet_options}},
    [ARGS_JOBS] = {"jobs", "list a broker's jobs", "", "List a broker's jobs, newest first.\v"
        "Examples:\n  zfarm jobs\n  zfarm jobs --json --broker tcp://127.0.0.1:7777\n", {limit_options, broker_options, output_options}},
    [ARGS_SHOW] = {"show", "show every image of a job", "JOB", "Show every image of a job: state, seed, worker, error.\v"
        "Examples:\n  zfarm show 7\n  zfarm show 7 --json\n", {broker_options, output_options}},
    [ARGS_WATCH] = {"watch", "follow a job until it is over", "JOB", "Follow a job until each of its images is made, failed or canceled.\v"
        "Exit code 1 when an image failed or was canceled.\n\nExamples:\n  zfarm watch 7\n", {broker_options, output_options, quiet_options}},
    [ARGS_GATHER] = {"gather", "fetch a job's images into a folder", "JOB", "Wait for a job's images and fetch them into a folder.\v"
        "Works at any time and from any machine; images that are there are not fetched again.\n\n"
        "Examples:\n  zfarm gather 7 -o out\n  zfarm gather 7 -o out --sheet --keep\n", {gather_options, broker_options, output_options, quiet_options}},
    [ARGS_CANCEL] = {"cancel", "end a job", "JOB", "End a job: what waits is dropped at once, what runs stops after its current step.\v"
        "Examples:\n  zfarm cancel 7\n", {broker_options, output_options}},
    [ARGS_WORKERS] = {"workers", "list a broker's workers", "", "List a broker's workers and what they do.\v"
        "Examples:\n  zfarm workers\n", {broker_options, output_options}},
    [ARGS_UP] = {"up", "run a farm on this machine", "", "Run a broker and workers on this machine until Ctrl-C.\v"
        "Examples:\n  zfarm up --model models/demo --workers 2\n  zfarm up --model ~/Z-Image-Turbo --listen ipc:///tmp/farm\n"
        "and elsewhere:\n  export ZFARM_BROKER=" ARGS_BROKER_DEFAULT "\n  zfarm batch prompts.txt -o out\n\n"
        "Ctrl-C lets the workers finish what they are making; a second one ends at once. Nothing that was accepted is lost.\n",
        {up_options}},
    [ARGS_DEAD] = {"dead", "list the images that failed", "", "List the images that failed, of all jobs, with the last words of who tried.\v"
        "Examples:\n  zfarm dead\n  zfarm requeue 7:3      once more\n", {broker_options, output_options}},
    [ARGS_REQUEUE] = {"requeue", "try failed images once more", "JOB[:INDEX]", "Put a job's failed images, or one of them, into the queue again; their attempts start anew.\v"
        "Examples:\n  zfarm requeue 7\n  zfarm requeue 7:3\n", {broker_options, output_options}},
    [ARGS_DRAIN] = {"drain", "give a worker no more work", "WORKER", "Give a worker no more work: what it holds it finishes, then it can be stopped.\v"
        "It goes by the worker's name and holds until --undo, whatever is started again meanwhile.\n\nExamples:\n  zfarm drain gpu3:4711\n  zfarm drain gpu3:4711 --undo\n",
        {undo_options, broker_options, output_options}},
    [ARGS_PAUSE] = {"pause", "let a client's work, or all work, wait", "[CLIENT]", "Give no more work of CLIENT to workers, or no work at all: what runs is finished, and new jobs are taken.\v"
        "Holds until zfarm resume, also when the broker is started again. zfarm jobs --json names the clients.\n\n"
        "Examples:\n  zfarm pause\n  zfarm pause 1000@desk\n", {broker_options, output_options}},
    [ARGS_RESUME] = {"resume", "go on after pause", "[CLIENT]", "Go on with the work of CLIENT, or with all work, after zfarm pause.\v"
        "A client that was paused on its own goes on by its own name.\n\nExamples:\n  zfarm resume\n  zfarm resume 1000@desk\n", {broker_options, output_options}},
};

const char *argp_program_version = "zfarm " ZFARM_VERSION;

struct parse {
    struct args *a;
    struct err   err;
};

const char *args_command_word(enum args_command command)
{
    return commands[command].word;
}

const char *args_command_summary(enum args_command command)
{
    return commands[command].summary;
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
    const char  *own = a->device ? "device" : a->precision ? "precision" : a->vram_budget ? "vram-budget" : a->n_threads ? "threads" : a->n_workers ? "workers" : NULL;

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
    const struct command *c = &commands[command];
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
