/* options.c - see options.h. */
#include "client/options.h"

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
    {"place", O_PLACE, "PART=D", 0, "in place of --device: parts of the model on devices of their own: text=cuda:0, image=cuda:1[,cuda:2...], vae=cuda:0, one --place each; or auto", 5},
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
    {"place", O_PLACE, "PART=D", 0, "in place of --device: parts of the model on devices of their own: text=cuda:0, image=cuda:1[,cuda:2...], vae=cuda:0, one --place each; or auto", 4},
    {"precision", O_PRECISION, "P", 0, "auto, f32 or bf16 (auto)", 4},
    {"vram-budget", O_BUDGET, "GIB", 0, "what each engine may take of its GPU's memory (what is free, less 0.5)", 4},
    {"threads", O_THREADS, "N", 0, "CPU threads of each worker (the machine's, shared out)", 4},
    {0}};

static const struct argp_option undo_options[] = {{"undo", O_UNDO, 0, 0, "it gets work again, also out of a quarantine", 1}, {0}};
static const struct argp_option limit_options[] = {{"limit", 'n', "N", 0, "at most N jobs (20)", 1}, {0}};

static const struct argp_option output_options[] = {
    {0, 0, 0, 0, "What is told:", 6}, {"json", O_JSON, 0, 0, "one JSON object per line on standard output", 6}, {0}};
static const struct argp_option quiet_options[] = {{"quiet", 'q', 0, 0, "no progress, only errors", 6}, {0}};

const struct command options_of[N_ARGS_COMMANDS] = {
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
        "It goes by the worker's name and holds until --undo, whatever is started again meanwhile. \n"
        "--undo also ends a quarantine, which a worker gets whose engine fell too often: use it when the machine is mended.\n\n"
        "Examples:\n  zfarm drain gpu3:4711\n  zfarm drain gpu3:4711 --undo\n",
        {undo_options, broker_options, output_options}},
    [ARGS_PAUSE] = {"pause", "let a client's work, or all work, wait", "[CLIENT]", "Give no more work of CLIENT to workers, or no work at all: what runs is finished, and new jobs are taken.\v"
        "Holds until zfarm resume, also when the broker is started again. zfarm jobs --json names the clients.\n\n"
        "Examples:\n  zfarm pause\n  zfarm pause 1000@desk\n", {broker_options, output_options}},
    [ARGS_RESUME] = {"resume", "go on after pause", "[CLIENT]", "Go on with the work of CLIENT, or with all work, after zfarm pause.\v"
        "A client that was paused on its own goes on by its own name.\n\nExamples:\n  zfarm resume\n  zfarm resume 1000@desk\n", {broker_options, output_options}},
};
