/* main.c - zfarm: which command is meant. Exit codes: 0 ok, 1 failed, 2 wrong usage. */
#include <stdio.h>
#include <string.h>

#include "client/commands.h"
#include "client/suggest.h"

typedef int command_f(struct args *a);

static command_f *const run[N_ARGS_COMMANDS] = {
    [ARGS_GENERATE] = cmd_generate, [ARGS_BATCH] = cmd_batch,     [ARGS_JOBS] = cmd_jobs,
    [ARGS_SHOW] = cmd_show,         [ARGS_WATCH] = cmd_watch,     [ARGS_GATHER] = cmd_gather,
    [ARGS_CANCEL] = cmd_cancel,     [ARGS_WORKERS] = cmd_workers, [ARGS_UP] = cmd_up,
    [ARGS_DEAD] = cmd_dead,         [ARGS_REQUEUE] = cmd_requeue, [ARGS_DRAIN] = cmd_drain,
    [ARGS_PAUSE] = cmd_pause,       [ARGS_RESUME] = cmd_resume,
};

static void help(FILE *f)
{
    fprintf(f, "zfarm - images from text, on this machine or on a farm of them\n\nUsage: zfarm COMMAND [OPTION...]\n\n");
    for (int k = 0; k < N_ARGS_COMMANDS; k++)
        fprintf(f, "  %-10s %s\n", args_command_word((enum args_command)k), args_command_summary((enum args_command)k));
    fprintf(f,
            "  %-10s this text, or a command's options\n\n"
            "Examples:\n"
            "  zfarm generate -p \"an orange cat in a green meadow\" -o cat.png\n"
            "  zfarm batch prompts.txt -o out --sheet\n"
            "  zfarm help batch\n\n"
            "Without --broker ENDPOINT (or ZFARM_BROKER) generate and batch start a farm of their own, which ends with them.\n"
            "Exit codes: 0 ok, 1 failed, 2 wrong usage.\n",
            "help");
}

static int find(const char *word)
{
    const char *words[N_ARGS_COMMANDS + 1], *near;

    for (int k = 0; k < N_ARGS_COMMANDS; k++) {
        words[k] = args_command_word((enum args_command)k);
        if (strcmp(word, words[k]) == 0) return k;
    }
    words[N_ARGS_COMMANDS] = "help";
    near = suggest(str_of(word), words, N_ARGS_COMMANDS + 1);
    if (near)
        fprintf(stderr, "zfarm: no command \"%.40s\": did you mean %s?\nTry `zfarm help'\n", word, near);
    else
        fprintf(stderr, "zfarm: no command \"%.40s\"\nTry `zfarm help'\n", word);
    return -1;
}

int main(int argc, char **argv)
{
    struct args a;
    int         k, rc;

    if (argc < 2) {
        help(stderr);
        return 2;
    }
    if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0) {
        printf("zfarm %s\n", ZFARM_VERSION);
        return 0;
    }
    if (strcmp(argv[1], "help") == 0 && argc > 2 && strcmp(argv[2], "help") != 0) {
        char *help_argv[] = {argv[2], (char[]){"--help"}, NULL};

        k = find(argv[2]);
        return k < 0 ? 2 : args_parse((enum args_command)k, 2, help_argv, &a);
    }
    if (strcmp(argv[1], "help") == 0 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        help(stdout);
        return 0;
    }
    k = find(argv[1]);
    if (k < 0) return 2;
    rc = args_parse((enum args_command)k, argc - 1, argv + 1, &a);
    return rc ? rc : run[k](&a);
}
