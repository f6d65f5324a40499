/* keyed.c - a peer that has a good key and no manners: CurveZMQ (RFC 26) by hand over a socket, for libzmq sends no message that has no end.
 *
 *   keyed more HOST PORT KEYFILE MIB    handshake, then frames with MORE that never end, MIB of them
 *
 * Exit 0: it came in, and all was sent or it was dropped; prints what it saw. Not here: peers without keys (hostile.c). */
#include <signal.h>
#include <sodium.h>

#include "proto/key.h"
#include "tests/security/zmtp.h"

#define COOKIE_BYTES 96
#define SHORT_NONCE  8

struct talk {
    int        fd;
    struct key me;
    uint8_t    public_key[CURVE_BYTES], secret[CURVE_BYTES]; /* of this connection */
    uint8_t    peer[CURVE_BYTES], cookie[COOKIE_BYTES];      /* what WELCOME brings */
    uint64_t   n_sent;
};

static bool take(int fd, uint8_t *at, size_t len)
{
    while (len) {
        ssize_t n = recv(fd, at, len, 0);

        if (n <= 0) return false;
        at += n;
        len -= (size_t)n;
    }
    return true;
}

static bool put_frame(int fd, uint8_t flags, const uint8_t *body, size_t len)
{
    uint8_t h[ZMTP_LONG_BYTES];

    return zmtp_put(fd, h, zmtp_long_header(h, flags, len)) && zmtp_put(fd, body, len);
}

/* A command's body, of len bytes; it must begin with name. */
static bool take_command(int fd, const char *name, uint8_t *body, size_t cap, size_t *len)
{
    uint8_t h[9] = {0};
    size_t  n = 0;

    if (!take(fd, h, 2)) return false;
    if (h[0] & 2) {
        if (!take(fd, h + 2, 7)) return false;
        for (int i = 1; i < 9; i++) n = n << 8 | h[i];
    } else {
        n = h[1];
    }
    *len = n;
    return n <= cap && take(fd, body, n) && n >= strlen(name) && memcmp(body, name, strlen(name)) == 0;
}

/* A short nonce at `at`, and the whole one that it stands for. */
static void nonce(struct talk *t, const char *prefix, uint8_t *at, uint8_t whole[crypto_box_NONCEBYTES])
{
    uint64_t n = ++t->n_sent;

    for (int i = 0; i < SHORT_NONCE; i++) at[i] = (uint8_t)(n >> (56 - 8 * i));
    memcpy(whole, prefix, crypto_box_NONCEBYTES - SHORT_NONCE);
    memcpy(whole + crypto_box_NONCEBYTES - SHORT_NONCE, at, SHORT_NONCE);
}

static bool greet(struct talk *t)
{
    static const uint8_t mine[64] = {0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 3, 1, 'C', 'U', 'R', 'V', 'E'};
    uint8_t              theirs[64];

    return zmtp_put(t->fd, mine, sizeof mine) && take(t->fd, theirs, sizeof theirs) && memcmp(theirs + 12, mine + 12, 20) == 0;
}

static bool hello(struct talk *t)
{
    uint8_t body[200] = "\x05HELLO\x01", zero[64] = {0}, whole[crypto_box_NONCEBYTES];

    memcpy(body + 80, t->public_key, CURVE_BYTES);
    nonce(t, "CurveZMQHELLO---", body + 112, whole);
    return crypto_box_easy(body + 120, zero, sizeof zero, whole, t->me.server, t->secret) == 0 && put_frame(t->fd, 4, body, sizeof body);
}

static bool welcome(struct talk *t)
{
    uint8_t body[256], plain[CURVE_BYTES + COOKIE_BYTES], whole[crypto_box_NONCEBYTES] = "WELCOME-";
    size_t  len;

    if (!take_command(t->fd, "\x07WELCOME", body, sizeof body, &len) || len != 168) return false;
    memcpy(whole + 8, body + 8, 16);
    if (crypto_box_open_easy(plain, body + 24, 144, whole, t->me.server, t->secret)) return false;
    memcpy(t->peer, plain, CURVE_BYTES);
    memcpy(t->cookie, plain + CURVE_BYTES, COOKIE_BYTES);
    return true;
}

/* The key of this connection, vouched for by the one that the farm knows. */
static bool initiate(struct talk *t)
{
    static const uint8_t metadata[] = "\x0bSocket-Type\x00\x00\x00\x06" "DEALER\x08Identity\x00\x00\x00";
    uint8_t body[9 + COOKIE_BYTES + SHORT_NONCE + 16 + 128 + sizeof metadata] = "\x08INITIATE", plain[128 + sizeof metadata];
    uint8_t pair[2 * CURVE_BYTES], whole[crypto_box_NONCEBYTES] = "VOUCH---";
    uint8_t *at = body + 9;

    memcpy(plain, t->me.public_key, CURVE_BYTES);
    randombytes_buf(whole + 8, 16);
    memcpy(plain + 32, whole + 8, 16);
    memcpy(pair, t->public_key, CURVE_BYTES);
    memcpy(pair + CURVE_BYTES, t->me.server, CURVE_BYTES);
    if (crypto_box_easy(plain + 48, pair, sizeof pair, whole, t->peer, t->me.secret)) return false;
    memcpy(plain + 128, metadata, sizeof metadata);
    memcpy(at, t->cookie, COOKIE_BYTES);
    nonce(t, "CurveZMQINITIATE", at + COOKIE_BYTES, whole);
    return crypto_box_easy(at + COOKIE_BYTES + SHORT_NONCE, plain, sizeof plain, whole, t->peer, t->secret) == 0 &&
           put_frame(t->fd, 4, body, sizeof body);
}

static bool ready(struct talk *t)
{
    uint8_t body[1024];
    size_t  len;

    return take_command(t->fd, "\x05READY", body, sizeof body, &len);
}

static bool put_more(void *arg)
{
    static uint8_t body[8 + SHORT_NONCE + crypto_box_MACBYTES + 1 + ZMTP_MORE_BYTES] = "\x07MESSAGE", plain[1 + ZMTP_MORE_BYTES] = {1 /* MORE */};
    struct talk   *t = arg;
    uint8_t        whole[crypto_box_NONCEBYTES];

    nonce(t, "CurveZMQMESSAGEC", body + 8, whole);
    return crypto_box_easy(body + 8 + SHORT_NONCE, plain, sizeof plain, whole, t->peer, t->secret) == 0 && put_frame(t->fd, 0, body, sizeof body);
}

int main(int argc, char **argv)
{
    struct sockaddr_in at;
    struct talk        t = {0};
    struct err         e = {0};
    long               mib = argc == 6 ? strtol(argv[5], NULL, 10) : 0;

    if (argc != 6 || strcmp(argv[1], "more") != 0 || !zmtp_address(&at, argv[2], argv[3]) || mib <= 0 || sodium_init() < 0) return 2;
    signal(SIGPIPE, SIG_IGN);
    if (key_read(&t.me, argv[4], &e)) {
        printf("%s\n", e.text);
        return 2;
    }
    crypto_box_keypair(t.public_key, t.secret);
    t.fd = zmtp_dial(&at);
    if (t.fd < 0) return 2;
    if (!greet(&t) || !hello(&t) || !welcome(&t) || !initiate(&t) || !ready(&t)) {
        printf("not let in\n");
        return 1;
    }
    zmtp_endless((uint64_t)mib, put_more, &t);
    return 0;
}
