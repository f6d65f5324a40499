/* options.h - the commands of `zfarm`, their options and what --help says of them: argp's tables.
 * Not here: what becomes of an option (args.c). */
#ifndef CLIENT_OPTIONS_H
#define CLIENT_OPTIONS_H

#include <argp.h>

#include "client/args.h"

enum { /* options without a letter */
    O_NEGATIVE = 0x100, O_STEPS, O_INFERENCE, O_NORM, O_TRUNC, O_RNG, O_LATENTS, O_MODEL, O_BROKER, O_JSON, O_DEVICE, O_PRECISION, O_THREADS,
    O_WORKERS, O_PROMPT_FILE, O_SHEET, O_RESUME, O_DETACH, O_KEEP, O_TIMEOUT, O_PATIENCE, O_LISTEN, O_DATA, O_LIMIT, O_DIT, O_TEXT, O_VAE, O_TOKENIZER, O_PROFILE,
    O_CLASS, O_DEADLINE, O_UNDO, O_BUDGET, O_KEY, O_SERVER_KEY, O_KEYS, O_PLACE
};

struct command {
    const char               *word, *summary, *words, *doc;
    const struct argp_option *groups[9]; /* each ends with {0} */
};

extern const struct command options_of[N_ARGS_COMMANDS];

#endif
