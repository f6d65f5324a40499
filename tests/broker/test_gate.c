/* test_gate.c - what a role may be and say; folders of keys that are refused; the process that holds keys leaves no core. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "broker/gate.h"
#include "proto/peer.h"
#include "tests/tmp.h"

static void roles(void **state)
{
    (void)state;
    for (int who = KEY_CLIENT; who <= KEY_BROKER; who++) {
        assert_int_equal(gate_may_be((enum key_role)who, ROLE_WORKER), who == KEY_WORKER);
        assert_int_equal(gate_may_be((enum key_role)who, ROLE_CLIENT), who == KEY_CLIENT || who == KEY_ADMIN);
    }
    for (int verb = CONTROL_REQUEUE; verb <= CONTROL_RESUME; verb++) {
        struct msg m = {.kind = MSG_CONTROL, .control = {.verb = (enum control_verb)verb}};

        assert_true(gate_may_say(KEY_ADMIN, &m));
        assert_int_equal(gate_may_say(KEY_CLIENT, &m), verb == CONTROL_REQUEUE); /* a pause of nobody is the whole farm's */
        m.control.client = str_of("alice");
        assert_int_equal(gate_may_say(KEY_CLIENT, &m), verb == CONTROL_REQUEUE || verb == CONTROL_PAUSE || verb == CONTROL_RESUME);
    }
    assert_true(gate_may_say(KEY_CLIENT, &(struct msg){.kind = MSG_SUBMIT}));
}

/* In a folder: server.key and accounts with one client. */
static void make(struct tmp *t, struct key *alice)
{
    struct keyring r = {0};
    struct key     server;
    struct err     e = {0};

    tmp_open(t);
    key_make(&server, "server", KEY_BROKER, NULL);
    key_make(alice, "alice", KEY_CLIENT, server.public_key);
    assert_int_equal(key_write(&server, tmp_path(t, "server.key"), &e), 0);
    assert_int_equal(keyring_add(&r, "alice", KEY_CLIENT, alice->public_key, &e), 0);
    assert_int_equal(keyring_write(&r, tmp_path(t, "accounts"), &e), 0);
    keyring_release(&r);
}

static void folders(void **state)
{
    struct tmp  t;
    struct gate g;
    struct key  alice;
    struct err  e = {0};

    (void)state;
    make(&t, &alice);
    assert_int_equal(gate_open(&g, NULL, &e), 0); /* no keys: nobody is asked */
    assert_null(gate_key(&g));
    assert_false(gate_reload(&g, true));
    gate_close(&g);
    assert_int_equal(gate_open(&g, "/nowhere", &e), ERR_NOTFOUND);
    assert_non_null(strstr(e.text, "zfarm-keys init"));
    gate_close(&g);
    chmod(tmp_path(&t, "server.key"), 0640);
    assert_int_equal(gate_open(&g, t.dir, &e), ERR_STATE);
    gate_close(&g);
    chmod(tmp_path(&t, "server.key"), 0600);
    unlink(tmp_path(&t, "accounts"));
    assert_int_equal(gate_open(&g, t.dir, &e), ERR_NOTFOUND);
    gate_close(&g);
    unlink(tmp_path(&t, "server.key"));
    assert_int_equal(key_write(&alice, tmp_path(&t, "server.key"), &e), 0);
    assert_int_equal(gate_open(&g, t.dir, &e), ERR_FORMAT); /* not a broker's */
    gate_close(&g);
    peer_shutdown();
    tmp_close(&t);
}

static void no_core(void **state)
{
    struct tmp  t;
    struct gate g;
    struct key  alice;
    struct err  e = {0};

    (void)state;
    make(&t, &alice);
    prctl(PR_SET_DUMPABLE, 1);
    assert_int_equal(gate_open(&g, t.dir, &e), 0);
    assert_int_equal(prctl(PR_GET_DUMPABLE), 0);
    assert_non_null(gate_account(&g, alice.public_key));
    assert_false(gate_reload(&g, false)); /* the same file */
    assert_true(gate_reload(&g, true));
    unlink(tmp_path(&t, "accounts"));
    assert_false(gate_reload(&g, false)); /* gone: who was known stays known */
    assert_non_null(gate_account(&g, alice.public_key));
    gate_close(&g);
    prctl(PR_SET_DUMPABLE, 1); /* for the leak checker's look at us */
    peer_shutdown();
    tmp_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(roles), cmocka_unit_test(folders), cmocka_unit_test(no_core)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
