/* main.c - zfarm-worker: the supervisor, the foreman of several, or, when child.c asks for it, the engine child. */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "worker/conf.h"
#include "worker/engine_child.h"
#include "worker/foreman.h"
#include "worker/survey.h"
#include "worker/worker.h"

/* One supervisor, or one for each device. */
static int work(struct worker_conf *conf, int argc, char **argv, struct err *e)
{
    struct foreman_set devices;
    int                rc = foreman_devices(&devices, conf->device, foreman_gpus, e);

    if (rc) return rc;
    conf->device = devices.word[0];
    return devices.n > 1 ? foreman_run(conf, &devices, argc, argv, e) : worker_run(conf, e);
}

int main(int argc, char **argv)
{
    struct worker_conf conf;
    struct err         e = {0};
    int                rc = 0;

    if (engine_child_is(argc, argv)) return engine_child_main(argc, argv);
    worker_conf_init(&conf);
    worker_conf_parse(&conf, argc, argv);
    log_name_set("worker");
    log_level_set(conf.log_level);
    if (conf.plan) rc = survey_print(&conf, &e);
    else if (survey_wanted(&conf)) rc = survey_choose(&conf, &e);
    if (!rc && !conf.plan) rc = work(&conf, argc, argv, &e);
    if (!rc) return 0;
    fprintf(stderr, "zfarm-worker: %s\n", e.text);
    return rc == ERR_ARG ? 2 : 1;
}
