/* test_key.c - key files and accounts: what is written is read; what others could read, or is not whole, is refused; no secret in any sentence. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/file.h"
#include "proto/keyring.h"
#include "tests/tmp.h"

static void there_and_back(void **state)
{
    struct tmp  t;
    struct key  server, k, got;
    struct err  e = {0};
    struct stat st;

    (void)state;
    tmp_open(&t);
    key_make(&server, "server", KEY_BROKER, NULL);
    key_make(&k, "alice-1", KEY_CLIENT, server.public_key);
    assert_int_equal(key_write(&server, tmp_path(&t, "server.key"), &e), 0);
    assert_int_equal(key_write(&k, tmp_path(&t, "a.key"), &e), 0);
    assert_int_equal(stat(tmp_path(&t, "a.key"), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(key_write(&k, tmp_path(&t, "a.key"), &e), ERR_CONFLICT); /* never over another one */
    assert_int_equal(key_read(&got, tmp_path(&t, "a.key"), &e), 0);
    assert_memory_equal(got.secret, k.secret, CURVE_BYTES);
    assert_memory_equal(got.server, server.public_key, CURVE_BYTES);
    assert_string_equal(got.name, "alice-1");
    assert_int_equal(got.role, KEY_CLIENT);
    assert_true(got.has_server);
    assert_int_equal(key_read(&got, tmp_path(&t, "server.key"), &e), 0);
    assert_false(got.has_server);
    for (mode_t m = 0604; m <= 0666; m += 2) { /* any bit for others */
        if (!(m & 0077)) continue;
        chmod(tmp_path(&t, "a.key"), m);
        assert_int_equal(key_read(&got, tmp_path(&t, "a.key"), &e), ERR_STATE);
        assert_non_null(strstr(e.text, "chmod 600"));
    }
    tmp_close(&t);
}

static void bad_files(void **state)
{
    struct tmp  t;
    struct key  k, other, got;
    struct err  e = {0};
    char        pub[CURVE_HEX], sec[CURVE_HEX], pub2[CURVE_HEX], text[8][1000];
    const char *want[8] = {"belong", "whole", "twice", "begins neither", "hex digits", "role", "server", "hex digits"};

    (void)state;
    tmp_open(&t);
    key_make(&k, "a", KEY_CLIENT, NULL);
    key_make(&other, "a", KEY_CLIENT, NULL);
    hex_of(k.public_key, CURVE_BYTES, pub);
    hex_of(other.public_key, CURVE_BYTES, pub2);
    hex_of(k.secret, CURVE_BYTES, sec);
    snprintf(text[0], 1000, "name a\nrole client\npublic %s\nsecret %s\n", pub2, sec);
    snprintf(text[1], 1000, "name a\nrole client\npublic %s\n", pub);
    snprintf(text[2], 1000, "name a\nrole client\npublic %s\nsecret %s\nsecret %s\n", pub, sec, sec);
    snprintf(text[3], 1000, "name a\nrole client\npublic %s\n%s\n", pub, sec);
    snprintf(text[4], 1000, "name a\nrole client\npublic %s\nsecret %.63s\n", pub, sec);
    snprintf(text[5], 1000, "name a\nrole king\npublic %s\nsecret %s\n", pub, sec);
    snprintf(text[6], 1000, "name server\nrole admin\npublic %s\nsecret %s\n", pub, sec);
    snprintf(text[7], 1000, "name a\nrole client\npublic %s\nsecret %sab\n", pub, sec);
    for (int i = 0; i < 8; i++) {
        tmp_write(&t, "k", text[i], strlen(text[i]));
        chmod(tmp_path(&t, "k"), 0600);
        assert_int_equal(key_read(&got, tmp_path(&t, "k"), &e), ERR_FORMAT);
        if (!strstr(e.text, want[i])) fail_msg("case %d: %s", i, e.text);
        assert_null(strstr(e.text, sec)); /* X12 */
        assert_null(strstr(e.text, "secret key of"));
    }
    tmp_write(&t, "k", text[0], 0);
    chmod(tmp_path(&t, "k"), 0600);
    assert_int_equal(key_read(&got, tmp_path(&t, "k"), &e), ERR_FORMAT);
    assert_int_equal(key_read(&got, tmp_path(&t, "none"), &e), ERR_NOTFOUND);
    assert_int_equal(key_read(&got, t.dir, &e), ERR_IO);
    tmp_close(&t);
}

static void names(void **state)
{
    static const char *const bad[] = {"", "../x", "a/b", ".a", "-a", "a b", "a\nb", "server", "%2e%2e", "\xc3\xa4", "a\x01"};
    struct err  e = {0};
    char        big[65];

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) assert_int_equal(key_name_check(str_of(bad[i]), &e), ERR_ARG);
    memset(big, 'a', 64);
    big[64] = 0;
    assert_int_equal(key_name_check(str_of(big), &e), ERR_ARG);
    assert_int_equal(key_name_check(str_of(big + 1), &e), 0);
    assert_int_equal(key_name_check(str_of("gpu-3.farm_2"), &e), 0);
}

static void accounts(void **state)
{
    struct tmp           t;
    struct keyring       r = {0}, got = {0};
    struct key           k[4];
    struct err           e = {0};
    char                 hex[CURVE_HEX];
    const struct account *a;

    (void)state;
    tmp_open(&t);
    for (int i = 0; i < 4; i++) key_make(&k[i], "x", KEY_CLIENT, NULL);
    assert_int_equal(keyring_add(&r, "alice", KEY_CLIENT, k[0].public_key, &e), 0);
    assert_int_equal(keyring_add(&r, "alice", KEY_CLIENT, k[1].public_key, &e), 0);
    assert_int_equal(keyring_add(&r, "gpu", KEY_WORKER, k[2].public_key, &e), 0);
    assert_int_equal(keyring_add(&r, "gpu", KEY_WORKER, k[2].public_key, &e), ERR_CONFLICT);
    assert_int_equal(keyring_add(&r, "gpu", KEY_ADMIN, k[3].public_key, &e), ERR_CONFLICT); /* another role */
    assert_int_equal(keyring_add(&r, "a b", KEY_ADMIN, k[3].public_key, &e), ERR_ARG);
    hex_of(k[1].public_key, CURVE_BYTES, hex);
    hex[8] = 0;
    assert_int_equal(keyring_revoke(&r, "alice", hex), 1);
    assert_int_equal(keyring_revoke(&r, "alice", hex), 0);
    assert_int_equal(keyring_write(&r, tmp_path(&t, "accounts"), &e), 0);
    assert_int_equal(keyring_read(&got, tmp_path(&t, "accounts"), &e), 0);
    a = keyring_find(&got, k[0].public_key);
    assert_non_null(a);
    assert_false(a->revoked);
    assert_true(keyring_find(&got, k[1].public_key)->revoked);
    assert_int_equal(keyring_find(&got, k[2].public_key)->role, KEY_WORKER);
    assert_null(keyring_find(&got, k[3].public_key));
    assert_int_equal(keyring_revoke(&got, "alice", NULL), 1);
    keyring_release(&got);
    chmod(tmp_path(&t, "accounts"), 0620);
    assert_int_equal(keyring_read(&got, tmp_path(&t, "accounts"), &e), ERR_STATE); /* others may write it */
    assert_null(got.account);
    keyring_release(&r);
    tmp_close(&t);
}

static void bad_accounts(void **state)
{
    static const char *const bad[] = {"alice client\n", "alice client 00 active\n", "alice king %s active\n", "alice client %s perhaps\n",
                                      "alice client %s active more\n", "a/b client %s active\n", "alice broker %s active\n",
                                      "alice client %s active\nbob client %s active\n"};
    struct tmp     t;
    struct keyring r = {0};
    struct key     k;
    struct err     e = {0};
    char           hex[CURVE_HEX], text[600];

    (void)state;
    tmp_open(&t);
    key_make(&k, "x", KEY_CLIENT, NULL);
    hex_of(k.public_key, CURVE_BYTES, hex);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        size_t n = 0;

        for (const char *p = bad[i]; *p; p++)
            if (*p == '%') n += (size_t)snprintf(text + n, sizeof text - n, "%s", hex), p++;
            else text[n++] = *p;
        tmp_write(&t, "a", text, n);
        chmod(tmp_path(&t, "a"), 0600);
        assert_int_not_equal(keyring_read(&r, tmp_path(&t, "a"), &e), 0);
        assert_non_null(strstr(e.text, "line "));
        assert_null(r.account);
    }
    tmp_write(&t, "a", "# all\0of it", 11);
    chmod(tmp_path(&t, "a"), 0600);
    assert_int_equal(keyring_read(&r, tmp_path(&t, "a"), &e), ERR_FORMAT);
    tmp_write(&t, "a", "\n  \n# nobody yet\n", 17);
    chmod(tmp_path(&t, "a"), 0600);
    assert_int_equal(keyring_read(&r, tmp_path(&t, "a"), &e), 0);
    assert_null(r.account);
    tmp_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(there_and_back), cmocka_unit_test(bad_files), cmocka_unit_test(names),
                                       cmocka_unit_test(accounts), cmocka_unit_test(bad_accounts)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
