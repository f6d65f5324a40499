/* test_client.c - the library against a scripted broker: answers, refusals, silence, a broker that forgot us, broken bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/file.h"
#include "client/client.h"
#include "tests/client/fake.h"

struct rig {
    char           dir[256];
    struct fake    f;
    struct client *c;
    int            n_away, n_back, n_busy, n_free;
};

static void on_away(void *ctx, bool away)
{
    struct rig *s = ctx;

    if (away)
        s->n_away++;
    else
        s->n_back++;
}

static void on_busy(void *ctx, struct str why)
{
    struct rig *s = ctx;

    if (why.len)
        s->n_busy++;
    else
        s->n_free++;
}

static int set_up(void **state)
{
    struct rig        *s = calloc(1, sizeof *s);
    struct client_opts o = {.timeout_ms = 60000, .patience_ms = 120000, .away = on_away, .busy = on_busy, .ctx = s};

    if (!s || file_temp_folder("zfarm-test", s->dir, sizeof s->dir, NULL)) return -1;
    if (fake_open(&s->f, s->dir)) return -1;
    o.endpoint = s->f.endpoint;
    *state = s;
    return client_open(&s->c, &o, NULL);
}

static int tear_down(void **state)
{
    struct rig *s = *state;

    client_close(s->c);
    fake_close(&s->f);
    file_remove_tree(s->dir, NULL);
    free(s);
    return 0;
}

static struct item *items(size_t n, const char *prompt)
{
    struct item *it = calloc(n, sizeof *it);

    for (size_t k = 0; k < n; k++) {
        spec_init(&it[k].spec);
        it[k].spec.width_px = it[k].spec.height_px = 64;
        it[k].spec.prompt = str_of(prompt);
        it[k].n_images = 1;
    }
    return it;
}

static void submits_in_pieces(void **state)
{
    struct rig  *s = *state;
    struct item *it = items(600, "cat");
    uint8_t      key[KEY_BYTES] = "k";
    uint64_t     job = 0;
    struct err   e = {0};

    assert_int_equal(client_submit(s->c, key, "cats", it, 600, &job, &e), 0);
    assert_true(job == 7);
    assert_int_equal(s->f.n_submit, 3); /* 256 + 256 + 88 */
    assert_int_equal(s->f.n_items, 600);
    free(it);
}

static void large_prompts_stay_below_a_megabyte(void **state)
{
    struct rig  *s = *state;
    char        *prompt = malloc(PROMPT_MAX_BYTES + 1);
    uint8_t      key[KEY_BYTES] = "k";
    uint64_t     job = 0;
    struct item *it;
    struct err   e = {0};

    memset(prompt, 'x', PROMPT_MAX_BYTES);
    prompt[PROMPT_MAX_BYTES] = '\0';
    it = items(100, prompt);
    if (client_submit(s->c, key, "large", it, 100, &job, &e)) fail_msg("%s", e.text);
    assert_int_equal(s->f.n_items, 100);
    assert_true(s->f.n_submit >= 4);
    free(it);
    free(prompt);
}

static void refusal_is_the_brokers_sentence(void **state)
{
    struct rig  *s = *state;
    struct item *it = items(1, "cat");
    uint8_t      key[KEY_BYTES] = "k";
    uint64_t     job = 0;
    struct err   e = {0};

    atomic_store(&s->f.refuse, 1);
    assert_int_equal(client_submit(s->c, key, "cats", it, 1, &job, &e), ERR_ARG);
    assert_string_equal(e.text, "the broker does not like it");
    free(it);
}

static void forgotten_session_is_renewed(void **state)
{
    struct rig *s = *state;
    struct msg  m;
    struct err  e = {0};

    atomic_store(&s->f.forget, 1);
    if (client_jobs(s->c, 0, 10, &m, &e)) fail_msg("%s", e.text);
    assert_int_equal(s->f.n_hello, 2);
}

static void busy_broker_is_asked_again(void **state)
{
    struct rig *s = *state;
    struct msg  m;
    struct err  e = {0};
    int64_t     took = INT64_MAX;

    for (int i = 0; i < 50 && took >= 900; i++) { /* whoever was so slow that it came to a second has a word to say */
        int64_t from = now_ms();

        s->n_busy = s->n_free = 0;
        atomic_store(&s->f.busy, 2);
        if (client_jobs(s->c, 0, 10, &m, &e)) fail_msg("%s", e.text);
        took = now_ms() - from;
        if (took < 900) assert_int_equal(s->n_busy, 0); /* not worth a word */
    }
    assert_int_equal(s->f.n_hello, 1 + s->n_away);
    s->n_busy = s->n_free = 0;
    atomic_store(&s->f.busy_ms, 1000);
    atomic_store(&s->f.busy, 1);
    if (client_jobs(s->c, 0, 10, &m, &e)) fail_msg("%s", e.text);
    assert_int_equal(s->n_busy, 1);
    assert_int_equal(s->n_free, 1);
}

static void busy_forever_is_said(void **state)
{
    struct rig        *s = *state;
    struct client     *c = NULL;
    struct client_opts o = {.endpoint = s->f.endpoint, .timeout_ms = 60000, .patience_ms = 250};
    struct msg         m;
    struct err         e = {0};

    assert_int_equal(client_open(&c, &o, &e), 0);
    atomic_store(&s->f.busy, 1000);
    assert_int_equal(client_jobs(c, 0, 10, &m, &e), ERR_TIMEOUT);
    assert_non_null(strstr(e.text, "asked to wait for 0.25 s: try later"));
    client_close(c);
}

static void silence_is_told_and_survived(void **state)
{
    struct rig      *s = *state;
    struct cancel_ok c;
    struct err       e = {0};

    atomic_store(&s->f.mute, 1);
    if (client_cancel(s->c, 7, &c, &e)) fail_msg("%s", e.text);
    assert_int_equal(c.n_canceled, 2);
    assert_int_equal(s->n_away, 1);
    assert_int_equal(s->n_back, 1);
    assert_int_equal(s->f.n_hello, 2);
}

static void fetches_whole_parts(void **state)
{
    struct rig *s = *state;
    struct part p = fake_part(4);
    uint8_t    *want = malloc(FAKE_PART_BYTES);
    struct buf  b;
    struct err  e = {0};

    buf_init(&b, PART_MAX_BYTES);
    fake_bytes(4, want);
    if (client_fetch(s->c, 5, &p, &b, &e)) fail_msg("%s", e.text);
    assert_int_equal(b.len, FAKE_PART_BYTES);
    assert_memory_equal(b.at, want, b.len);
    atomic_store(&s->f.corrupt, 1);
    assert_int_equal(client_fetch(s->c, 5, &p, &b, &e), ERR_FORMAT);
    assert_non_null(strstr(e.text, "SHA-256"));
    p.sha256[0] ^= 1; /* the broker offers another part than was announced */
    assert_int_equal(client_fetch(s->c, 5, &p, &b, &e), ERR_PROTO);
    p.size_bytes = 0;
    assert_int_equal(client_fetch(s->c, 5, &p, &b, &e), ERR_LIMIT);
    atomic_store(&s->f.gone, 1);
    p = fake_part(4);
    assert_int_equal(client_fetch(s->c, 5, &p, &b, &e), ERR_NOTFOUND);
    buf_release(&b);
    free(want);
}

static void nobody_there(void **state)
{
    struct client     *c = NULL;
    struct client_opts o = {.endpoint = "tcp://127.0.0.1:9", .timeout_ms = 300};
    struct err         e = {0};

    (void)state;
    assert_int_equal(client_open(&c, &o, &e), ERR_TIMEOUT);
    assert_string_equal(e.text, "no answer from the broker at tcp://127.0.0.1:9 within 0.3 s: is zfarm-broker running there?");
    o.endpoint = "";
    assert_int_equal(client_open(&c, &o, &e), ERR_ARG);
    o.endpoint = "udp-or-so";
    assert_int_not_equal(client_open(&c, &o, &e), 0);
    assert_null(c);
}

static void patience_ends(void **state)
{
    struct rig        *s = *state;
    struct client     *c = NULL;
    struct client_opts o = {.endpoint = s->f.endpoint, .timeout_ms = 60000, .patience_ms = 100};
    struct msg         m;
    struct err         e = {0};

    assert_int_equal(client_open(&c, &o, &e), 0);
    atomic_store(&s->f.mute, 1000);
    assert_int_equal(client_jobs(c, 0, 10, &m, &e), ERR_TIMEOUT);
    assert_non_null(strstr(e.text, "has been away for 0.1 s"));
    client_close(c);
}

static int stand_still(void *ctx, struct err *e)
{
    int *times = ctx;

    (void)e;
    if ((*times)-- > 0) usleep(6500000); /* longer than an answer is waited for, and than the patience */
    return 0;
}

/* Ctrl-Z, fg: the time between does not count as the broker's silence. */
static void standing_still_is_no_silence(void **state)
{
    struct rig        *s = *state;
    struct client     *c = NULL;
    int                times = 0;
    struct client_opts o = {.endpoint = s->f.endpoint, .timeout_ms = 60000, .patience_ms = 6000, .idle = stand_still, .ctx = &times};
    struct msg         m;
    struct err         e = {0};

    assert_int_equal(client_open(&c, &o, &e), 0);
    atomic_store(&s->f.mute, 1);
    times = 1;
    if (client_jobs(c, 0, 10, &m, &e)) fail_msg("%s", e.text);
    client_close(c);
}

static void interrupted(void **state)
{
    static volatile sig_atomic_t stop = 1;
    struct client               *c = NULL;
    struct client_opts           o = {.endpoint = "tcp://127.0.0.1:9", .stop = &stop};
    struct err                   e = {0};

    (void)state;
    assert_int_equal(client_open(&c, &o, &e), ERR_CANCELED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(submits_in_pieces, set_up, tear_down),
        cmocka_unit_test_setup_teardown(large_prompts_stay_below_a_megabyte, set_up, tear_down),
        cmocka_unit_test_setup_teardown(refusal_is_the_brokers_sentence, set_up, tear_down),
        cmocka_unit_test_setup_teardown(forgotten_session_is_renewed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(busy_forever_is_said, set_up, tear_down),
        cmocka_unit_test_setup_teardown(busy_broker_is_asked_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(silence_is_told_and_survived, set_up, tear_down),
        cmocka_unit_test_setup_teardown(fetches_whole_parts, set_up, tear_down),
        cmocka_unit_test_setup_teardown(patience_ends, set_up, tear_down),
        cmocka_unit_test_setup_teardown(standing_still_is_no_silence, set_up, tear_down),
        cmocka_unit_test(nobody_there),
        cmocka_unit_test(interrupted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
