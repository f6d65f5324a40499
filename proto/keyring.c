/* keyring.c - accounts by public key.
 * Believes: the file was written by zfarm-keys, or by hand: each line is judged. Out of memory aborts. */
#include "proto/keyring.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"

#define LINE_MAX_BYTES 200
#define FILE_MAX_BYTES ((size_t)KEYRING_MAX * LINE_MAX_BYTES)

static const char head[] = "# zfarm accounts: NAME ROLE PUBLIC-KEY active|revoked. Written by zfarm-keys; the broker reads it again when it changes.\n";

const struct account *keyring_find(const struct keyring *r, const uint8_t public_key[CURVE_BYTES])
{
    struct account *a;

    HASH_FIND(hh, r->account, public_key, CURVE_BYTES, a);
    return a;
}

const struct account *keyring_named(const struct keyring *r, const char *name)
{
    for (const struct account *a = r->account; a; a = a->hh.next)
        if (!strcmp(a->name, name)) return a;
    return NULL;
}

static int put(struct keyring *r, const char *name, enum key_role role, const uint8_t public_key[CURVE_BYTES], bool revoked, struct err *e)
{
    const struct account *same = keyring_find(r, public_key), *named = keyring_named(r, name);
    struct account       *a;
    int                   rc = key_name_check(str_of(name), e);

    if (rc) return rc;
    if (role == KEY_BROKER) return err_set(e, ERR_ARG, "an account is a client's, a worker's or an admin's");
    if (same) return err_set(e, ERR_CONFLICT, "this key belongs to account %s already%s", same->name, same->revoked ? ", and is revoked" : "");
    if (named && named->role != role)
        return err_set(e, ERR_CONFLICT, "account %s has keys of role %s: another role needs another name", name, key_role_name(named->role));
    if (HASH_COUNT(r->account) >= KEYRING_MAX) return err_set(e, ERR_LIMIT, "a farm has at most %d keys", KEYRING_MAX);
    a = calloc(1, sizeof *a);
    if (!a) abort();
    memcpy(a->public_key, public_key, CURVE_BYTES);
    snprintf(a->name, sizeof a->name, "%s", name);
    a->role = role;
    a->revoked = revoked;
    HASH_ADD(hh, r->account, public_key, CURVE_BYTES, a);
    return 0;
}

int keyring_add(struct keyring *r, const char *name, enum key_role role, const uint8_t public_key[CURVE_BYTES], struct err *e)
{
    return put(r, name, role, public_key, false, e);
}

size_t keyring_revoke(struct keyring *r, const char *name, const char *hex_prefix)
{
    size_t n = 0;

    for (struct account *a = r->account; a; a = a->hh.next) {
        char hex[CURVE_HEX];

        hex_of(a->public_key, CURVE_BYTES, hex);
        if (a->revoked || strcmp(a->name, name) != 0 || (hex_prefix && strncmp(hex, hex_prefix, strlen(hex_prefix)) != 0)) continue;
        a->revoked = true;
        n++;
    }
    return n;
}

/* "NAME ROLE KEY STATE" of one line, in place. */
static int take_line(struct keyring *r, char *line, struct err *e)
{
    char         *word[5] = {0}, *save = NULL;
    enum key_role role;
    uint8_t       key[CURVE_BYTES];

    for (int i = 0; i < 5; i++) word[i] = strtok_r(i ? NULL : line, " \t\r", &save);
    if (!word[3] || word[4]) return err_set(e, ERR_FORMAT, "not NAME ROLE PUBLIC-KEY active|revoked");
    if (!key_role_parse(str_of(word[1]), &role)) return err_set(e, ERR_FORMAT, "role \"%.20s\" is none of client, worker, admin", word[1]);
    if (strcmp(word[3], "active") != 0 && strcmp(word[3], "revoked") != 0)
        return err_set(e, ERR_FORMAT, "state \"%.20s\" is neither active nor revoked", word[3]);
    if (key_hex(str_of(word[2]), "the public key", key, e)) return ERR_FORMAT;
    return put(r, word[0], role, key, !strcmp(word[3], "revoked"), e);
}

int keyring_read(struct keyring *r, const char *path, struct err *e)
{
    struct buf b;
    char      *at, *next;
    int        rc, line = 0;

    buf_init(&b, FILE_MAX_BYTES);
    rc = file_read_guarded(path, 0022, &b, e);
    if (rc == 0 && b.len && strlen(b.at) != b.len) rc = err_set(e, ERR_FORMAT, "%s: holds a NUL byte", path);
    for (at = b.at; rc == 0 && at && *at; at = next) {
        char *end = strchr(at, '\n');

        next = end ? end + 1 : at + strlen(at);
        if (end) *end = 0;
        line++;
        if (!at[strspn(at, " \t\r")] || *at == '#') continue;
        rc = take_line(r, at, e);
        if (rc) err_in(e, "%s: line %d", path, line);
    }
    buf_release(&b);
    if (rc) keyring_release(r);
    return rc;
}

int keyring_write(const struct keyring *r, const char *path, struct err *e)
{
    struct buf b;
    mode_t     mask;
    int        rc;

    buf_init(&b, FILE_MAX_BYTES + sizeof head);
    if (buf_puts(&b, head)) abort();
    for (const struct account *a = r->account; a; a = a->hh.next) {
        char hex[CURVE_HEX];

        hex_of(a->public_key, CURVE_BYTES, hex);
        if (buf_printf(&b, "%s %s %s %s\n", a->name, key_role_name(a->role), hex, a->revoked ? "revoked" : "active")) abort();
    }
    mask = umask(077); /* only for this moment: the caller has one thread */
    rc = file_write(path, b.at, b.len, FILE_REPLACE, e);
    umask(mask);
    buf_release(&b);
    return rc;
}

void keyring_release(struct keyring *r)
{
    struct account *a, *next;

    HASH_ITER(hh, r->account, a, next)
    {
        HASH_DEL(r->account, a);
        free(a);
    }
}
