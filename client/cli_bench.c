#include "client/cli.h"
int cli_bench(struct cli *cli, int argc, char **argv)
{
    (void)cli, (void)argc, (void)argv;
    return cli_usage_error("bench", "not there yet");
}
