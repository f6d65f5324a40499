/* key.c - key files, read with suspicion and written for their owner's eyes.
 * Believes: a secret is worth no more than the mode of its file. Invariants: K1 no sentence and no log line ever holds a secret.
 * K2 a struct key that was read has a public part that belongs to its secret. */
#include "proto/key.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"

#define FILE_MAX_BYTES 4096

static const char *const role_names[] = {[KEY_CLIENT] = "client", [KEY_WORKER] = "worker", [KEY_ADMIN] = "admin", [KEY_BROKER] = "broker"};

const char *key_role_name(enum key_role r)
{
    return role_names[r];
}

bool key_role_parse(struct str word, enum key_role *out)
{
    for (int r = KEY_CLIENT; r <= KEY_BROKER; r++)
        if (str_is(word, role_names[r])) {
            *out = (enum key_role)r;
            return true;
        }
    return false;
}

static bool name_byte(char c, bool first)
{
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9')) return true;
    return !first && (c == '.' || c == '_' || c == '-');
}

int key_name_check(struct str name, struct err *e)
{
    if (name.len < 1 || name.len > ACCOUNT_MAX_BYTES)
        return err_set(e, ERR_ARG, "an account's name has 1 to %d bytes, this one has %zu", ACCOUNT_MAX_BYTES, name.len);
    for (size_t i = 0; i < name.len; i++)
        if (!name_byte(name.at[i], i == 0))
            return err_set(e, ERR_ARG, "an account's name is made of a-z A-Z 0-9 . _ - and begins with a letter or a digit");
    if (str_is(name, "server")) return err_set(e, ERR_ARG, "an account cannot be named \"server\": that is the broker's own key");
    return 0;
}

int key_hex(struct str text, const char *what, uint8_t out[CURVE_BYTES], struct err *e)
{
    char hex[CURVE_HEX];

    if (text.len == CURVE_HEX - 1) {
        memcpy(hex, text.at, text.len);
        hex[text.len] = 0;
        if (hex_to(hex, out, CURVE_BYTES) == 0) {
            wipe(hex, sizeof hex);
            return 0;
        }
    }
    return err_set(e, ERR_ARG, "%s is not %d hex digits", what, CURVE_HEX - 1);
}

void key_make(struct key *k, const char *name, enum key_role role, const uint8_t *server)
{
    memset(k, 0, sizeof *k);
    snprintf(k->name, sizeof k->name, "%s", name);
    k->role = role;
    curve_make(k->public_key, k->secret);
    k->has_server = server != NULL;
    if (server) memcpy(k->server, server, CURVE_BYTES);
}

void key_wipe(struct key *k)
{
    wipe(k, sizeof *k);
}

/* One line; *seen collects the bits of what was said. The value is never repeated: it may be the secret. */
static int take_line(struct key *k, struct str word, struct str value, unsigned *seen, struct err *e)
{
    static const char *const words[] = {"name", "role", "public", "secret", "server"};
    unsigned                 w = 0;
    int                      rc = 0;

    while (w < 5 && !str_is(word, words[w])) w++;
    if (w == 5) return err_set(e, ERR_FORMAT, "not a zfarm key: a line begins neither with name, role, public, secret nor server");
    if (*seen & 1u << w) return err_set(e, ERR_FORMAT, "%s is there twice", words[w]);
    *seen |= 1u << w;
    switch (w) {
    case 0:
        if (k->role != KEY_BROKER && !str_is(value, "server")) rc = key_name_check(value, e);
        if (!rc && value.len < sizeof k->name) memcpy(k->name, value.at, value.len);
        break;
    case 1:
        if (!key_role_parse(value, &k->role)) rc = err_set(e, ERR_FORMAT, "the role is none of client, worker, admin, broker");
        break;
    case 2: rc = key_hex(value, "its public key", k->public_key, e); break;
    case 3: rc = key_hex(value, "its secret key", k->secret, e); break;
    default:
        rc = key_hex(value, "its broker's public key", k->server, e);
        k->has_server = rc == 0;
    }
    return rc ? ERR_FORMAT : 0;
}

static int parse(struct key *k, struct str rest, struct err *e)
{
    uint8_t  public_key[CURVE_BYTES];
    unsigned seen = 0;

    while (rest.len) {
        const char *nl = memchr(rest.at, '\n', rest.len), *blank;
        struct str  line = str_sub(rest, 0, nl ? (size_t)(nl - rest.at) : rest.len);
        size_t      n;
        int         rc;

        rest = str_sub(rest, line.len + 1, rest.len);
        line = str_trim(line);
        if (!line.len || line.at[0] == '#') continue;
        blank = memchr(line.at, ' ', line.len);
        n = blank ? (size_t)(blank - line.at) : line.len;
        rc = take_line(k, str_sub(line, 0, n), str_trim(str_sub(line, n, line.len)), &seen, e);
        if (rc) return rc;
    }
    if ((seen & 15) != 15) return err_set(e, ERR_FORMAT, "not a whole zfarm key: name, role, public and secret are needed");
    if (str_is(str_of(k->name), "server") != (k->role == KEY_BROKER))
        return err_set(e, ERR_FORMAT, "the broker's key, and no other, is named server");
    curve_public(k->secret, public_key);
    if (memcmp(public_key, k->public_key, CURVE_BYTES) != 0) return err_set(e, ERR_FORMAT, "its public key does not belong to its secret one");
    return 0;
}

int key_read(struct key *k, const char *path, struct err *e)
{
    struct buf b;
    int        rc;

    memset(k, 0, sizeof *k);
    buf_init(&b, FILE_MAX_BYTES);
    rc = file_read_guarded(path, 0077, &b, e);
    if (rc == 0) {
        rc = parse(k, buf_str(&b), e);
        if (rc) err_in(e, "%s", path);
    }
    if (b.at) wipe(b.at, b.cap);
    buf_release(&b);
    if (rc) key_wipe(k);
    return rc;
}

int key_load(struct key *k, const char *path, const char *server_hex, struct err *e)
{
    int rc = key_read(k, path, e);

    if (rc) return rc;
    if (server_hex && !(rc = key_hex(str_of(server_hex), "--server-key", k->server, e))) k->has_server = true;
    if (!rc && k->role == KEY_BROKER) rc = err_set(e, ERR_ARG, "%s: is a broker's key; --key takes one made with `zfarm-keys add`", path);
    if (!rc && !k->has_server) rc = err_set(e, ERR_ARG, "%s: does not say whose farm it is for: --server-key HEX, as `zfarm-keys list` shows the broker's", path);
    if (rc) key_wipe(k);
    return rc;
}

int key_write(const struct key *k, const char *path, struct err *e)
{
    char   public_key[CURVE_HEX], secret[CURVE_HEX], server[CURVE_HEX], text[1024];
    mode_t mask;
    int    n, rc;

    hex_of(k->public_key, CURVE_BYTES, public_key);
    hex_of(k->secret, CURVE_BYTES, secret);
    hex_of(k->server, CURVE_BYTES, server);
    n = snprintf(text, sizeof text, "# zfarm key of %s (%s). Whoever can read this file is %s: it stays its owner's alone (mode 0600).\n"
                                    "name %s\nrole %s\npublic %s\nsecret %s\n%s%s%s",
                 k->name, role_names[k->role], k->name, k->name, role_names[k->role], public_key, secret, k->has_server ? "server " : "",
                 k->has_server ? server : "", k->has_server ? "\n" : "");
    mask = umask(077); /* only for this moment: the caller has one thread */
    rc = file_write(path, text, (size_t)n, FILE_NEW, e);
    umask(mask);
    wipe(secret, sizeof secret);
    wipe(text, sizeof text);
    return rc;
}
