/* args.h - the command line of zfarm-keys. */
#ifndef KEYS_ARGS_H
#define KEYS_ARGS_H

#include "proto/key.h"

enum keys_command { KEYS_INIT, KEYS_ADD, KEYS_MAKE, KEYS_LIST, KEYS_SHOW, KEYS_REVOKE, N_KEYS_COMMANDS };

struct keys_args {
    enum keys_command command;
    const char       *dir;        /* the farm's folder */
    const char       *word;       /* DIR of init, NAME of add and revoke, FILE of make and show; NULL: none */
    enum key_role     role;       /* 0: not said */
    const char       *public_hex; /* NULL: not said */
    const char       *out;        /* NULL: DIR/NAME.key */
    const char       *name, *server_hex; /* make */
};

/* Ends the process after --help and --version (0) and on a wrong command line (2, with a sentence). */
void keys_args_parse(struct keys_args *a, int argc, char **argv);

#endif
