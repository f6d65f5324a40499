/* test_args.c - command lines that are right, and command lines that are answered with one sentence and exit code 2. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "client/args.h"

#define WORDS_MAX 40

/* Runs args_parse over words split at '|'; what it printed on stderr goes to said. */
static int parse(enum args_command c, const char *line, struct args *a, char *said, size_t cap)
{
    static char text[4][4096]; /* args borrow their words */
    static int  turn;
    char       *words = text[turn++ & 3], *argv[WORDS_MAX + 1], *p = words;
    int         argc = 0, keep = dup(STDERR_FILENO), rc;
    FILE       *f = tmpfile();
    size_t      n;

    snprintf(words, sizeof text[0], "%s", line);
    argv[argc++] = "zfarm";
    while (p && *line) {
        char *next = strchr(p, '|');

        if (next) *next++ = '\0';
        assert_true(argc < WORDS_MAX);
        argv[argc++] = p;
        p = next;
    }
    argv[argc] = NULL;
    fflush(stderr);
    dup2(fileno(f), STDERR_FILENO);
    rc = args_parse(c, argc, argv, a);
    fflush(stderr);
    dup2(keep, STDERR_FILENO);
    close(keep);
    rewind(f);
    n = fread(said, 1, cap - 1, f);
    said[n] = '\0';
    fclose(f);
    return rc;
}

static void good_generate(void **state)
{
    struct args a;
    char        said[2048];

    (void)state;
    unsetenv("ZFARM_BROKER");
    assert_int_equal(parse(ARGS_GENERATE, "-p|a cat|--negative-prompt|dog|-W|640|-H|480|--steps|4|-g|3.5|--cfg-normalization|1.0|--cfg-truncation|0.6|-s|"
                           "18446744073709551615|--rng|torch-cpu|-o|x.png|--latents-out|x.safetensors|--json|--device|cpu|--precision|bf16|"
                           , &a, said, sizeof said), 2); /* the last word is an empty one */
    assert_non_null(strstr(said, "belongs to no option"));
    assert_int_equal(parse(ARGS_GENERATE, "-p|a cat|-W|640|-H|480|--steps|4|-g|3.5|-s|18446744073709551615", &a, said, sizeof said), 0);
    assert_string_equal(said, "");
    assert_true(str_is(a.row.spec.prompt, "a cat"));
    assert_int_equal(a.row.spec.width_px, 640);
    assert_int_equal(a.row.spec.height_px, 480);
    assert_int_equal(a.row.spec.steps, 4);
    assert_true(a.row.spec.guidance == 3.5f);
    assert_true(a.row.spec.cfg_norm == -1.0f);
    assert_true(a.row.spec.seed == UINT64_MAX && a.row.seed_said);
    assert_int_equal(a.n_workers, 1);
    assert_null(a.broker);
    assert_int_equal(parse(ARGS_GENERATE, "-p|x|--rng|torch-cpu|--negative-prompt|dog|--cfg-normalization|1.0|--cfg-truncation=0.6|--workers|3|--prec=f32", &a, said, sizeof said), 0);
    assert_int_equal(a.row.spec.rng.kind, RNG_TORCH_CPU);
    assert_true(str_is(a.row.spec.negative, "dog"));
    assert_true(a.row.spec.cfg_norm == 1.0f && a.row.spec.cfg_trunc == 0.6f);
    assert_string_equal(a.precision, "f32");
    assert_int_equal(a.n_workers, 3);
    assert_int_equal(parse(ARGS_GENERATE, "-p|x|--place|text=cpu|--place=image=cpu,cpu", &a, said, sizeof said), 0);
    assert_int_equal(a.n_places, 2);
    assert_string_equal(a.place[1], "image=cpu,cpu");
}

static void empty_prompt_and_inference_steps(void **state)
{
    static const struct {
        const char *said;
        int         passes;
    } row[] = {{"1", 1}, {"2", 1}, {"9", 8}, {"201", 200}};
    struct args a;
    char        said[2048], line[64];

    (void)state;
    assert_int_equal(parse(ARGS_GENERATE, "--prompt=", &a, said, sizeof said), 0);
    assert_int_equal(a.row.spec.prompt.len, 0);
    for (size_t k = 0; k < sizeof row / sizeof row[0]; k++) {
        snprintf(line, sizeof line, "-p|x|--num-inference-steps|%s", row[k].said);
        assert_int_equal(parse(ARGS_GENERATE, line, &a, said, sizeof said), 0);
        assert_int_equal(a.row.spec.steps, row[k].passes);
    }
}

static void sheet_and_environment(void **state)
{
    struct args a;
    char        said[2048];

    (void)state;
    setenv("ZFARM_BROKER", "tcp://127.0.0.1:9", 1);
    assert_int_equal(parse(ARGS_BATCH, "f.txt|-o|d|--sheet", &a, said, sizeof said), 0);
    assert_string_equal(a.broker, "tcp://127.0.0.1:9");
    assert_true(a.sheet_said);
    assert_string_equal(a.sheet, "");
    assert_int_equal(parse(ARGS_BATCH, "f.txt|-o|d|--sheet=s.png|--broker|none|--threads|2", &a, said, sizeof said), 0);
    assert_null(a.broker);
    assert_string_equal(a.sheet, "s.png");
    assert_int_equal(parse(ARGS_GENERATE, "-p|x|--threads|2", &a, said, sizeof said), 2);
    assert_non_null(strstr(said, "--threads is for a farm of this command's own"));
    unsetenv("ZFARM_BROKER");
    assert_int_equal(parse(ARGS_JOBS, "-n|5", &a, said, sizeof said), 0);
    assert_string_equal(a.broker, ARGS_BROKER_DEFAULT);
    assert_int_equal(a.limit, 5);
    assert_int_equal(parse(ARGS_GATHER, "12|-o|d|--keep", &a, said, sizeof said), 0);
    assert_true(a.job == 12 && a.keep);
}

static void bad_lines(void **state)
{
    static const struct {
        enum args_command c;
        const char       *line, *sentence;
    } row[] = {
        {ARGS_GENERATE, "", "a prompt is needed"},
        {ARGS_GENERATE, "-p|x|-W|1000", "width 1000 is not a multiple of 16: use 992 or 1008"},
        {ARGS_GENERATE, "-p|x|--place|text=cpu|--device|cpu", "--place goes without --device"},
        {ARGS_GENERATE, "-p|x|--place|text=cpu image=cpu", "one part with its devices"},
        {ARGS_GENERATE, "-p|x|--place|a|--place|b|--place|c|--place|d", "d is one too many"},
        {ARGS_GENERATE, "-p|x|--place|auto|--broker|tcp://127.0.0.1:9", "--place is for a farm of this command's own"},
        {ARGS_UP, "--place|auto|--workers|2", "--place goes without --workers"},
        {ARGS_GENERATE, "-p|x|-W|0", "width 0 is out of range"},
        {ARGS_GENERATE, "-p|x|-H|100000", "height 100000 is out of range"},
        {ARGS_GENERATE, "-p|x|-W|99999999999999999999", "width \"99999999999999999999\" is not a whole number"},
        {ARGS_GENERATE, "-p|x|-W|", "width is empty"},
        {ARGS_GENERATE, "-p|x|-W|64px", "width \"64px\" is not a whole number"},
        {ARGS_GENERATE, "-p|x|--steps|0", "steps 0 is outside 1..200"},
        {ARGS_GENERATE, "-p|x|--steps|-3", "steps -3 is outside 1..200"},
        {ARGS_GENERATE, "-p|x|--steps|201", "steps 201 is outside"},
        {ARGS_GENERATE, "-p|x|--steps|4|--num-inference-steps|5", "give one of them"},
        {ARGS_GENERATE, "-p|x|-s|abc", "seed \"abc\" is not a whole number"},
        {ARGS_GENERATE, "-p|x|-s|-1", "seed \"-1\" is not a whole number"},
        {ARGS_GENERATE, "-p|x|-s|18446744073709551616", "seed \"18446744073709551616\""},
        {ARGS_GENERATE, "-p|x|-g|nan", "guidance \"nan\" is not a number"},
        {ARGS_GENERATE, "-p|x|-g|inf", "guidance \"inf\" is not a number"},
        {ARGS_GENERATE, "-p|x|-g|-1", "guidance -1 is outside 0..100"},
        {ARGS_GENERATE, "-p|x|-g|1e9", "guidance 1e9 is outside 0..100"},
        {ARGS_GENERATE, "-p|x|-n|0", "n 0 is outside 1..100000"},
        {ARGS_GENERATE, "-p|x|--rng|torch-tpu", "rng"},
        {ARGS_GENERATE, "-p|\xff\xfe", "prompt is not valid UTF-8"},
        {ARGS_GENERATE, "-p|x|--stepz|3", "did you mean --steps?"},
        {ARGS_GENERATE, "-p|x|--frobnicate", "unknown option --frobnicate"},
        {ARGS_GENERATE, "-p|x|-k", "unknown option -k"},
        {ARGS_GENERATE, "-p|x|--c|3", "could be several"},
        {ARGS_GENERATE, "-p", "option -p needs a value"},
        {ARGS_GENERATE, "-p|x|--json=1", "takes no value"},
        {ARGS_GENERATE, "-p|x|--model|", "--model: the value is empty"},
        {ARGS_GENERATE, "-p|x|-o|", "--output: the value is empty"},
        {ARGS_GENERATE, "-p|x|-n|2|--latents-out|l", "--latents-out is for one image"},
        {ARGS_GENERATE, "-p|x|--prompt-file|f", "give one of them"},
        {ARGS_GENERATE, "-p|x|--precision|f16", "none of auto, f32, bf16"},
        {ARGS_GENERATE, "-p|x|--vram-budget|0.1", "not a number of GiB from 0.25 to 1024"},
        {ARGS_GENERATE, "-p|x|--broker|tcp://h:1|--vram-budget|12", "--vram-budget is for a farm of this command's own"},
        {ARGS_GENERATE, "-p|x|--workers|0", "--workers: \"0\" is not a whole number from 1"},
        {ARGS_GENERATE, "-p|x|--timeout|never", "--timeout: \"never\""},
        {ARGS_BATCH, "f|-o|d|--class|urgent", "--class: \"urgent\""},
        {ARGS_REQUEUE, "7:x", "JOB:INDEX"},
        {ARGS_REQUEUE, "", "a job's number is needed"},
        {ARGS_DRAIN, "", "a worker's name is needed"},
        {ARGS_BATCH, "-o|d", "a file of prompts is needed"},
        {ARGS_BATCH, "f.txt", "-o DIR"},
        {ARGS_BATCH, "f.txt|g.txt|-o|d", "one file at a time"},
        {ARGS_BATCH, "f.txt|-o|d|--detach", "--detach needs --broker"},
        {ARGS_BATCH, "f.txt|-o|d|-p|x", "unknown option -p"},
        {ARGS_SHOW, "", "a job's number is needed"},
        {ARGS_SHOW, "0", "\"0\" is not a job's number"},
        {ARGS_WATCH, "seven", "\"seven\" is not a job's number"},
        {ARGS_CANCEL, "7|8", "one job at a time"},
        {ARGS_GATHER, "7", "-o DIR"},
        {ARGS_UP, "--listen|tcp://*:7777", "give host and port"},
    };
    struct args a;
    char        said[2048];

    (void)state;
    for (size_t k = 0; k < sizeof row / sizeof row[0]; k++) {
        int rc = parse(row[k].c, row[k].line, &a, said, sizeof said);

        if (rc != 2 || !strstr(said, row[k].sentence)) fail_msg("row %zu (%s): %d, said: %s", k, row[k].line, rc, said);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_generate),
        cmocka_unit_test(empty_prompt_and_inference_steps),
        cmocka_unit_test(sheet_and_environment),
        cmocka_unit_test(bad_lines),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
