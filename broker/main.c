/* main.c - zfarm-broker: settings, the broker, its loop; nothing else. */
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>

#include "broker/broker.h"
#include "broker/conf.h"

int main(int argc, char **argv)
{
    struct broker_conf conf;
    struct broker     *b = NULL;
    struct err         e = {0};
    struct rlimit      files, memory;
    int                code = 1;

    conf_parse(&conf, argc, argv);
    log_level_set(conf.level);
    log_name_set("broker");
    signal(SIGPIPE, SIG_IGN);
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) { /* one descriptor per peer */
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    memory = (struct rlimit){conf.memory_max_bytes, conf.memory_max_bytes};
    if (conf.memory_max_bytes && setrlimit(RLIMIT_DATA, &memory)) {
        perror("zfarm-broker: --memory-max");
        return 1;
    }
    if (broker_open(&b, &conf, &e))
        fprintf(stderr, "zfarm-broker: %s\n", e.text);
    else if ((code = broker_run(b, &e)))
        fprintf(stderr, "zfarm-broker: %s\n", e.text);
    broker_close(b);
    peer_shutdown();
    return code;
}
