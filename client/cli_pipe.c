#include "client/cli.h"
int cli_pipe(struct cli *cli, int argc, char **argv)
{
    (void)cli, (void)argc, (void)argv;
    return cli_usage_error("pipe", "not there yet");
}
