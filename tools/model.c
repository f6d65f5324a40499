/* model.c - zfarm-model: looks into checkpoints, checks them, makes smaller and synthetic ones, tokenises. This file only finds the subcommand.
 * Not here: generating images (zfarm). */
#include <argp.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "tools/tools.h"

static const struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    char *full; /* argv[0] of the subcommand, as argp prints it */
} commands[] = {
    {"inspect", tool_inspect, (char[]){"zfarm-model inspect"}}, {"tokenize", tool_tokenize, (char[]){"zfarm-model tokenize"}},
    {"synth", tool_synth, (char[]){"zfarm-model synth"}},       {"quantize", tool_quantize, (char[]){"zfarm-model quantize"}},
    {"verify", tool_verify, (char[]){"zfarm-model verify"}},
};
#define N_COMMANDS (sizeof commands / sizeof *commands)

const char *argp_program_version = "zfarm-model " ZFARM_VERSION;

static const char DOC[] = "Looks into Z-Image checkpoints, checks, quantises and makes them; tokenises prompts.\v"
                          "Commands (each has its own --help):\n"
                          "  inspect DIR|FILE     tensors, sizes, and what is missing\n"
                          "  tokenize             token ids of texts, one JSON array per text\n"
                          "  synth                write a random but sane checkpoint\n"
                          "  quantize IN OUT      a transformer or text encoder as GGUF or F8\n"
                          "  verify DIR|FILE      every value finite, every shape right, checksums\n"
                          "\n"
                          "Exit code: 0 done, 1 failed, 2 the command line is wrong.";

static const struct command *find(const char *name)
{
    for (size_t i = 0; i < N_COMMANDS; i++)
        if (strcmp(commands[i].name, name) == 0) return &commands[i];
    return NULL;
}

static error_t on_option(int key, char *arg, struct argp_state *state)
{
    int *at = state->input;

    if (key == ARGP_KEY_NO_ARGS) argp_error(state, "no command: inspect, verify, quantize, tokenize or synth");
    if (key != ARGP_KEY_ARG) return ARGP_ERR_UNKNOWN;
    if (!find(arg)) argp_error(state, "unknown command '%s': inspect, verify, quantize, tokenize or synth", arg);
    *at = state->next - 1;
    state->next = state->argc; /* the rest is the command's */
    return 0;
}

int main(int argc, char **argv)
{
    const struct argp argp = {.parser = on_option, .args_doc = "COMMAND [OPTION...]", .doc = DOC};
    int               at = 0;

    argp_err_exit_status = 2;
    argv[0] = (char[]){"zfarm-model"};
    argp_parse(&argp, argc, argv, ARGP_IN_ORDER, NULL, &at);
    const struct command *c = find(argv[at]);
    if (!c) return 2;
    argv[at] = c->full;
    return c->run(argc - at, argv + at);
}

int tool_failed(const struct err *e)
{
    fflush(stdout);
    fprintf(stderr, "zfarm-model: %s\n", e->text);
    return 1;
}

int tool_done(void)
{
    struct err e;

    if (fflush(stdout) == 0 && !ferror(stdout)) return 0;
    err_errno(&e, ERR_IO, "cannot write the output");
    return tool_failed(&e);
}

static const char *scaled_text(int64_t n, const char *const unit[4], char *text, size_t cap)
{
    static const double size[] = {1e12, 1e9, 1e6, 1e3};
    static const int    at[] = {3, 2, 1, 0};

    for (size_t i = 0; i < 4; i++)
        if ((double)n >= size[i]) {
            double v = (double)n / size[i];
            snprintf(text, cap, "%.*f %s", v < 10 ? 2 : v < 100 ? 1 : 0, v, unit[at[i]]);
            return text;
        }
    snprintf(text, cap, "%" PRId64, n);
    return text;
}

const char *tool_count_text(int64_t n, char *text, size_t cap)
{
    static const char *const unit[] = {"k", "M", "B", "T"};
    return scaled_text(n, unit, text, cap);
}

const char *tool_bytes_text(int64_t n, char *text, size_t cap)
{
    static const char *const unit[] = {"kB", "MB", "GB", "TB"};
    return scaled_text(n, unit, text, cap);
}
