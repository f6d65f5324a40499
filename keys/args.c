/* args.c - argv -> struct keys_args, by argp. ZFARM_KEYS names the folder when --dir does not. */
#include "keys/args.h"

#include <argp.h>
#include <stdlib.h>
#include <string.h>

#define DIR_DEFAULT "zfarm-keys"

const char *argp_program_version = "zfarm-keys " ZFARM_VERSION;

static const char *const words[N_KEYS_COMMANDS] = {"init", "add", "make", "list", "show", "revoke"};

static const struct argp_option options[] = {
    {"dir", 'd', "DIR", 0, "The farm's folder of keys (ZFARM_KEYS, else ./" DIR_DEFAULT ")", 0},
    {"role", 'r', "ROLE", 0, "add: client (its own jobs), worker (makes images), or admin (sees and stops everything)", 0},
    {"public", 'p', "HEX", 0, "add: a public key that somebody made elsewhere; revoke: only the key that begins so", 0},
    {"output", 'o', "FILE", 0, "add: where the new key goes (DIR/NAME.key)", 0},
    {"name", 'n', "NAME", 0, "make: whose key it is (me)", 0},
    {"server-key", 's', "HEX", 0, "make: the broker's public key, so that the file is all one needs", 0},
    {0},
};

static const char doc[] =
    "Makes, lists and revokes the keys of a farm: who may reach its broker by TCP, and as what."
    "\v"
    "Commands:\n"
    "  init [DIR]     a new farm: the broker's key and an empty list of accounts\n"
    "  add NAME       an account, or one more key of it; --role is needed\n"
    "  list           the accounts and the broker's public key\n"
    "  revoke NAME    its keys are worth nothing any more; a running broker hears of it within a second\n"
    "  make FILE      a key of one's own, without the farm's folder; its public part is for `add --public'\n"
    "  show FILE      the public part of a key file\n"
    "\n"
    "Examples:\n"
    "  zfarm-keys init /etc/zfarm/keys\n"
    "  export ZFARM_KEYS=/etc/zfarm/keys\n"
    "  zfarm-keys add alice --role client\n"
    "  zfarm-keys add gpu3 --role worker\n"
    "  zfarm-broker --listen tcp://0.0.0.0:7777 --data /var/lib/zfarm --keys /etc/zfarm/keys\n"
    "  zfarm-keys revoke alice\n"
    "\n"
    "Exit status: 0 done; 1 could not; 2 wrong command line.\n";

static error_t on_option(int key, char *arg, struct argp_state *state)
{
    struct keys_args *a = state->input;
    int               c = 0;

    switch (key) {
    case 'd': a->dir = arg; return 0;
    case 'r':
        if (!key_role_parse(str_of(arg), &a->role) || a->role == KEY_BROKER) argp_error(state, "--role '%.40s' is none of client, worker, admin", arg);
        return 0;
    case 'p': a->public_hex = arg; return 0;
    case 'o': a->out = arg; return 0;
    case 'n': a->name = arg; return 0;
    case 's': a->server_hex = arg; return 0;
    case ARGP_KEY_ARG:
        if (state->arg_num == 0) {
            while (c < N_KEYS_COMMANDS && strcmp(words[c], arg) != 0) c++;
            if (c == N_KEYS_COMMANDS) argp_error(state, "'%.40s' is none of init, add, list, revoke, make, show", arg);
            a->command = (enum keys_command)c;
        } else if (state->arg_num == 1 && a->command != KEYS_LIST) {
            a->word = arg;
        } else {
            argp_error(state, "'%.40s' is one word too many", arg);
        }
        return 0;
    case ARGP_KEY_END:
        if (state->arg_num == 0) argp_error(state, "a command is missing: init, add, list, revoke, make or show");
        if (a->command == KEYS_INIT && a->word) a->dir = a->word;
        if ((a->command == KEYS_ADD || a->command == KEYS_REVOKE) && !a->word) argp_error(state, "%s NAME: the account's name is missing", words[a->command]);
        if ((a->command == KEYS_MAKE || a->command == KEYS_SHOW) && !a->word) argp_error(state, "%s FILE: the key file is missing", words[a->command]);
        if (a->command == KEYS_ADD && !a->role) argp_error(state, "add %.40s: --role client, worker or admin is missing", a->word);
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

void keys_args_parse(struct keys_args *a, int argc, char **argv)
{
    static const struct argp argp = {.options = options, .parser = on_option, .args_doc = "COMMAND [WORD]", .doc = doc};
    const char              *env = getenv("ZFARM_KEYS");

    *a = (struct keys_args){.dir = env && *env ? env : DIR_DEFAULT, .name = "me"};
    argp_err_exit_status = 2;
    argp_parse(&argp, argc, argv, 0, NULL, a);
}
