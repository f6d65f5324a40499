/* conf.c - argv -> struct broker_conf, by argp. Of the environment ZFARM_KEYS is read, for --keys. */
#include "broker/conf.h"

#include <argp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"

#define MEMORY_MIN_MIB      128 /* the threads' stacks alone are half of it */
#define MEMORY_MAX_MIB      (1 << 24)
#define RETENTION_HOURS     24
#define CRASH_GUARD         3
#define CRASH_GUARD_MAX     15
#define RETENTION_HOURS_MAX 8760
#define REMEMBER_HOURS      168
#define QUEUED_MAX          100000000
#define CLIENT_QUEUED       1000000 /* what memory allows without a thought: some 200 bytes each */
#define FARM_QUEUED         2000000

enum { KEY_QUOTA = 900, KEY_FARM_QUEUED, KEY_MEMORY, KEY_READY_FD = 1000, KEY_LOG_LEVEL, KEY_CRASH_GUARD, KEY_REMEMBER, KEY_VERSION };

static const struct argp_option options[] = {
    {"listen", 'l', "ENDPOINT", 0, "Where clients and workers connect: tcp://127.0.0.1:7777 (port * = any free one) or ipc:///path/socket. May be given up to 8 times", 0},
    {"data", 'd', "DIR", 0, "The folder with the journal and the finished images; made when missing. One broker at a time", 0},
    {"keys", 'k', "DIR", 0, "The farm's keys (zfarm-keys init DIR): every tcp:// endpoint then asks for one, and may be reached from other machines (ZFARM_KEYS)", 0},
    {"retention", 'r', "HOURS", 0, "How long an image stays after its client has collected it, 0..8760 (24)", 0},
    {"remember", KEY_REMEMBER, "HOURS", 0, "How long a job is known after it is over and wholly collected, 0..8760 (168): so long its key answers a SUBMIT that is said again. Some 1.5 KB of memory each", 0},
    {"quota", KEY_QUOTA, "WHAT=N,...", 0, "What one client may have: queued=IMAGES waiting (1000000), leases=IMAGES that workers hold, rate=ITEMS submitted a second, burst=ITEMS at once (10 x rate), gib=GIB of images not yet gathered. 0: no limit, and so it is for all but queued", 0},
    {"farm-queued", KEY_FARM_QUEUED, "IMAGES", 0, "What all clients together may have waiting (2000000)", 0},
    {"crash-guard", KEY_CRASH_GUARD, "STARTS", 0, "After so many starts within five minutes, each after an end in disorder (kill -9, a crash, a power cut), nothing is given to workers until zfarm resume: work that kills the broker must not go round and round. 0: never (3)", 0},
    {"memory-max", KEY_MEMORY, "MIB", 0, "End rather than take more memory than this, 128 and more; nothing acknowledged is lost, and who started it may start it again (no limit)", 0},
    {"log-level", KEY_LOG_LEVEL, "LEVEL", 0, "debug, info, warn, error or none (info)", 0},
    {"ready-fd", KEY_READY_FD, "N", 0, "When listening, write the first endpoint and a newline to this open descriptor", 0},
    {"version", 'V', NULL, 0, "Print the version", 0},
    {0},
};

static const char doc[] =
    "The dispatcher of a farm: takes jobs from zfarm, hands their images to zfarm-worker, and keeps everything in DIR, so that a job it has "
    "acknowledged survives kill -9 and power loss."
    "\v"
    "Examples:\n"
    "  zfarm-broker --listen tcp://127.0.0.1:7777 --data /var/lib/zfarm\n"
    "  zfarm-broker --listen tcp://0.0.0.0:7777 --data /var/lib/zfarm --keys /etc/zfarm/keys\n"
    "  zfarm-broker -l ipc:///run/zfarm/sock -l 'tcp://127.0.0.1:*' -d ./farm --retention 0\n"
    "\n"
    "Without --keys it listens on this machine only. ipc:// asks for no key: its file is yours alone. SIGHUP reads the accounts again, as any change of\n"
    "their file does.\n"
    "SIGTERM and SIGINT end it in order: running workers keep their tasks and go on with the next broker on the same DIR.\n"
    "\n"
    "Exit status: 0 ended in order; 1 could not start or go on; 2 wrong command line; 74 the disk under DIR failed (start it again: "
    "nothing acknowledged is lost).\n";

static int parse_int(const char *text, int64_t min, int64_t max, int64_t *out)
{
    return str_to_i64(str_of(text), out) || *out < min || *out > max;
}

/* "queued=1000,rate=50" into c->quota; what is not named stays. */
static void quota(struct broker_conf *c, const char *text, struct argp_state *state)
{
    int64_t     gib = -1, burst = -1;
    const struct {
        const char *name;
        uint64_t   *to;
    } word[] = {{"queued", &c->quota.queued}, {"leases", &c->quota.leases}, {"rate", &c->quota.items_per_s}, {"burst", (uint64_t *)&burst}, {"gib", (uint64_t *)&gib}};

    while (*text) {
        size_t  len = strcspn(text, ","), name = strcspn(text, "="), i = 0;
        int64_t n = 0;

        while (i < sizeof word / sizeof *word && (strlen(word[i].name) != name || strncmp(text, word[i].name, name) != 0)) i++;
        if (i == sizeof word / sizeof *word || name >= len || str_to_i64((struct str){text + name + 1, len - name - 1}, &n) || n < 0 || n > QUEUED_MAX)
            argp_error(state, "--quota '%.*s' is not one of queued=, leases=, rate=, burst= or gib= with a number from 0 to %d", (int)len, text, QUEUED_MAX);
        *word[i].to = (uint64_t)n;
        text += len + (text[len] == ',');
    }
    if (gib >= 0) c->quota.bytes = (uint64_t)gib << 30;
    if (burst >= 0) c->quota.burst = (uint64_t)burst;
    if (c->quota.items_per_s && !c->quota.burst) c->quota.burst = 10 * c->quota.items_per_s;
    if (c->quota.items_per_s && c->quota.burst < SUBMIT_ITEMS_MAX) c->quota.burst = SUBMIT_ITEMS_MAX; /* else a whole SUBMIT would never pass */
}

static error_t on_option(int key, char *arg, struct argp_state *state)
{
    struct broker_conf *c = state->input;
    int64_t             n;

    switch (key) {
    case 'l':
        if (c->n_listen == LISTEN_MAX) argp_error(state, "--listen may be given at most %d times", LISTEN_MAX);
        c->listen[c->n_listen++] = arg;
        return 0;
    case 'd': c->data = arg; return 0;
    case 'k': c->keys = arg; return 0;
    case 'r':
        if (parse_int(arg, 0, RETENTION_HOURS_MAX, &n))
            argp_error(state, "--retention '%s' is not a number of hours from 0 to %d", arg, RETENTION_HOURS_MAX);
        c->retention_ms = n * 3600000;
        return 0;
    case KEY_REMEMBER:
        if (parse_int(arg, 0, RETENTION_HOURS_MAX, &n))
            argp_error(state, "--remember '%s' is not a number of hours from 0 to %d", arg, RETENTION_HOURS_MAX);
        c->remember_ms = n * 3600000;
        return 0;
    case KEY_QUOTA: quota(c, arg, state); return 0;
    case KEY_FARM_QUEUED:
        if (parse_int(arg, 1, QUEUED_MAX, &n)) argp_error(state, "--farm-queued '%s' is not a number from 1 to %d", arg, QUEUED_MAX);
        c->farm_queued = (uint64_t)n;
        return 0;
    case KEY_CRASH_GUARD:
        if (parse_int(arg, 0, CRASH_GUARD_MAX, &n)) argp_error(state, "--crash-guard '%s' is not a number of starts from 0 to %d", arg, CRASH_GUARD_MAX);
        c->crash_guard = (int)n;
        return 0;
    case KEY_MEMORY:
        if (parse_int(arg, MEMORY_MIN_MIB, MEMORY_MAX_MIB, &n))
            argp_error(state, "--memory-max '%s' is not a number of MiB from %d to %d", arg, MEMORY_MIN_MIB, MEMORY_MAX_MIB);
        c->memory_max_bytes = (uint64_t)n << 20;
        return 0;
    case KEY_LOG_LEVEL:
        if (!log_level_parse(arg, &c->level)) argp_error(state, "--log-level '%s' is none of debug, info, warn, error, none", arg);
        return 0;
    case KEY_READY_FD:
        if (parse_int(arg, 0, 65535, &n)) argp_error(state, "--ready-fd '%s' is not a descriptor", arg);
        c->ready_fd = (int)n;
        return 0;
    case 'V': printf("zfarm-broker %s\n", ZFARM_VERSION); exit(0);
    case ARGP_KEY_ARG: argp_error(state, "'%s' is not an option", arg); return EINVAL;
    case ARGP_KEY_END:
        if (!c->n_listen) argp_error(state, "--listen ENDPOINT is missing, for example --listen tcp://127.0.0.1:7777");
        if (!c->keys) c->keys = getenv("ZFARM_KEYS");
        if (c->keys && !c->keys[0]) c->keys = NULL;
        if (!c->data || !c->data[0]) argp_error(state, "--data DIR is missing: the folder for the journal and the images");
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

void conf_parse(struct broker_conf *c, int argc, char **argv)
{
    static const struct argp argp = {.options = options, .parser = on_option, .doc = doc};

    *c = (struct broker_conf){.retention_ms = RETENTION_HOURS * 3600000LL, .remember_ms = REMEMBER_HOURS * 3600000LL, .level = LOG_INFO, .crash_guard = CRASH_GUARD, .quota = {.queued = CLIENT_QUEUED}, .farm_queued = FARM_QUEUED, .ready_fd = -1};
    argp_err_exit_status = 2;
    argp_parse(&argp, argc, argv, 0, NULL, c);
}
