/* main.c - zfarm-keys: its commands, one function each.
 * Believes: one command at a time works on a folder (a lock on it); files change whole or not at all; no secret is ever printed. */
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "keys/args.h"
#include "proto/keyring.h"

static int in_dir(const struct keys_args *a, const char *name, char path[PATH_MAX], struct err *e)
{
    return file_join(path, PATH_MAX, a->dir, name, e);
}

/* Held until the process ends. */
static int lock(const struct keys_args *a, struct err *e)
{
    int fd = open(a->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0) return err_errno(e, ERR_NOTFOUND, "no folder of keys at %s (zfarm-keys init DIR makes one; --dir or ZFARM_KEYS names it)", a->dir);
    if (flock(fd, LOCK_EX)) return err_errno(e, ERR_IO, "locking %s", a->dir);
    return 0;
}

static int read_server(const struct keys_args *a, uint8_t public_key[CURVE_BYTES], struct err *e)
{
    char       path[PATH_MAX];
    struct key server;
    int        rc = in_dir(a, "server.key", path, e);

    if (rc || (rc = key_read(&server, path, e))) return rc;
    if (server.role != KEY_BROKER) rc = err_set(e, ERR_FORMAT, "%s: is the key of %s %s, not a broker's", path, key_role_name(server.role), server.name);
    memcpy(public_key, server.public_key, CURVE_BYTES);
    key_wipe(&server);
    return rc;
}

static int read_ring(const struct keys_args *a, char path[PATH_MAX], struct keyring *r, struct err *e)
{
    int rc = lock(a, e);

    if (!rc) rc = in_dir(a, "accounts", path, e);
    return rc ? rc : keyring_read(r, path, e);
}

static int init(const struct keys_args *a, struct err *e)
{
    char           path[PATH_MAX], hex[CURVE_HEX];
    struct key     server;
    struct keyring none = {0};
    mode_t         mask = umask(077);
    int            rc = file_make_folder(a->dir, e);

    umask(mask);
    key_make(&server, "server", KEY_BROKER, NULL);
    hex_of(server.public_key, CURVE_BYTES, hex);
    if (!rc) rc = in_dir(a, "server.key", path, e);
    if (!rc) rc = key_write(&server, path, e);
    key_wipe(&server);
    if (!rc) rc = in_dir(a, "accounts", path, e);
    if (!rc && !file_exists(path)) rc = keyring_write(&none, path, e);
    if (rc) return rc;
    printf("A farm's keys are in %s; keep the folder to yourself. The broker's public key is\n  %s\n\nNext:\n"
           "  zfarm-keys --dir %s add NAME --role client|worker|admin\n"
           "  zfarm-broker --listen tcp://0.0.0.0:7777 --data DIR --keys %s\n", a->dir, hex, a->dir, a->dir);
    return 0;
}

static void say_next(const char *name, enum key_role role, const char *file)
{
    printf("%s is %s of this farm. The key is in\n  %s\nCopy it to where it is used, by a safe way (scp), and delete it here: whoever has it is %s. There:\n", name,
           role == KEY_ADMIN ? "an admin" : role == KEY_WORKER ? "a worker" : "a client", file, name);
    if (role == KEY_WORKER)
        printf("  zfarm-worker --broker tcp://HOST:7777 --key %s.key --model DIR\n", name);
    else
        printf("  export ZFARM_BROKER=tcp://HOST:7777 ZFARM_KEY=%s.key\n  zfarm %s\n", name, role == KEY_ADMIN ? "workers" : "generate -p \"a fox\"");
}

static int add(const struct keys_args *a, struct err *e)
{
    char           ring_path[PATH_MAX], name[80], file[PATH_MAX];
    struct keyring r = {0};
    struct key     k = {0};
    uint8_t        server[CURVE_BYTES];
    bool           ours = !a->public_hex;
    int            rc = key_name_check(str_of(a->word), e);

    if (rc || (rc = read_ring(a, ring_path, &r, e)) || (rc = read_server(a, server, e))) goto done;
    snprintf(name, sizeof name, "%s.key", a->word);
    if (a->out) snprintf(file, sizeof file, "%s", a->out);
    else if ((rc = in_dir(a, name, file, e))) goto done;
    if (ours) key_make(&k, a->word, a->role, server);
    else if ((rc = key_hex(str_of(a->public_hex), "--public", k.public_key, e))) goto done;
    if ((rc = keyring_add(&r, a->word, a->role, k.public_key, e))) goto done;
    if (ours && (rc = key_write(&k, file, e))) { /* the secret first: an account without one would be of no use */
        if (rc == ERR_CONFLICT) err_set(e, rc, "%s exists already: -o FILE puts another key of %s elsewhere", file, a->word);
        goto done;
    }
    if ((rc = keyring_write(&r, ring_path, e))) {
        if (ours) unlink(file);
        goto done;
    }
    if (ours) {
        say_next(a->word, a->role, file);
    } else {
        char hex[CURVE_HEX];

        hex_of(server, CURVE_BYTES, hex);
        printf("%s is known as %s now. The broker's public key is\n  %s\n(--server-key, when the key file does not have it)\n", a->word, key_role_name(a->role), hex);
    }
done:
    key_wipe(&k);
    keyring_release(&r);
    return rc;
}

static int make(const struct keys_args *a, struct err *e)
{
    struct key k;
    uint8_t    server[CURVE_BYTES];
    char       hex[CURVE_HEX];
    int        rc = key_name_check(str_of(a->name), e);

    if (!rc && a->server_hex) rc = key_hex(str_of(a->server_hex), "--server-key", server, e);
    if (rc) return rc;
    key_make(&k, a->name, a->role ? a->role : KEY_CLIENT, a->server_hex ? server : NULL);
    hex_of(k.public_key, CURVE_BYTES, hex);
    rc = key_write(&k, a->word, e);
    key_wipe(&k);
    if (rc) return rc;
    printf("The key is in %s; it stays there. Ask the farm's owner to run\n  zfarm-keys add %s --role %s --public %s\n", a->word, a->name,
           key_role_name(a->role ? a->role : KEY_CLIENT), hex);
    return 0;
}

static int list(const struct keys_args *a, struct err *e)
{
    char           path[PATH_MAX], hex[CURVE_HEX];
    struct keyring r = {0};
    uint8_t        server[CURVE_BYTES];
    int            rc = read_ring(a, path, &r, e);

    if (!rc) rc = read_server(a, server, e);
    if (!rc) {
        hex_of(server, CURVE_BYTES, hex);
        printf("%-20s %-7s %-8s %s\n", "(the broker)", "broker", "", hex);
    }
    for (const struct account *k = r.account; !rc && k; k = k->hh.next) {
        hex_of(k->public_key, CURVE_BYTES, hex);
        printf("%-20s %-7s %-8s %s\n", k->name, key_role_name(k->role), k->revoked ? "revoked" : "active", hex);
    }
    keyring_release(&r);
    return rc;
}

static int show(const struct keys_args *a, struct err *e)
{
    struct key k;
    char       hex[CURVE_HEX], server[CURVE_HEX];
    int        rc = key_read(&k, a->word, e);

    if (rc) return rc;
    hex_of(k.public_key, CURVE_BYTES, hex);
    hex_of(k.server, CURVE_BYTES, server);
    printf("name   %s\nrole   %s\npublic %s\n", k.name, key_role_name(k.role), hex);
    if (k.has_server) printf("server %s\n", server);
    key_wipe(&k);
    return 0;
}

static int take_away(const struct keys_args *a, struct err *e)
{
    char           path[PATH_MAX];
    struct keyring r = {0};
    size_t         n = 0;
    int            rc = read_ring(a, path, &r, e);

    if (!rc && !keyring_named(&r, a->word)) rc = err_set(e, ERR_NOTFOUND, "there is no account %s: zfarm-keys list", a->word);
    if (!rc && !(n = keyring_revoke(&r, a->word, a->public_hex))) rc = err_set(e, ERR_NOTFOUND, "no active key of %s is left to revoke", a->word);
    if (!rc) rc = keyring_write(&r, path, e);
    keyring_release(&r);
    if (rc) return rc;
    printf("%zu key%s of %s revoked: a running broker ends its connections within a second\n", n, n == 1 ? "" : "s", a->word);
    return 0;
}

int main(int argc, char **argv)
{
    static int (*const run[N_KEYS_COMMANDS])(const struct keys_args *, struct err *) = {
        [KEYS_INIT] = init, [KEYS_ADD] = add, [KEYS_MAKE] = make, [KEYS_LIST] = list, [KEYS_SHOW] = show, [KEYS_REVOKE] = take_away};
    struct keys_args a;
    struct err       e = {0};

    keys_args_parse(&a, argc, argv);
    if (run[a.command](&a, &e) == 0) return 0;
    fprintf(stderr, "zfarm-keys: %s\n", e.text);
    return 1;
}
