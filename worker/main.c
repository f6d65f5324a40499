/* main.c - zfarm-worker: the supervisor, the foreman of several, or, when child.c asks for it, the engine child. */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "worker/conf.h"
#include "worker/engine_child.h"
#include "worker/foreman.h"
#include "worker/worker.h"

int main(int argc, char **argv)
{
    struct worker_conf conf;
    struct foreman_set devices;
    struct err         e = {0};
    int                rc;

    if (engine_child_is(argc, argv)) return engine_child_main(argc, argv);
    worker_conf_init(&conf);
    worker_conf_parse(&conf, argc, argv);
    log_name_set("worker");
    log_level_set(conf.log_level);
    if ((rc = foreman_devices(&devices, conf.device, foreman_gpus, &e)) == 0) {
        conf.device = devices.word[0];
        rc = devices.n > 1 ? foreman_run(&conf, &devices, argc, argv, &e) : worker_run(&conf, &e);
    }
    if (!rc) return 0;
    fprintf(stderr, "zfarm-worker: %s\n", e.text);
    return rc == ERR_ARG ? 2 : 1;
}
