#include "client/cli.h"
int cli_shell(struct cli *cli, int argc, char **argv)
{
    (void)cli, (void)argc, (void)argv;
    return cli_usage_error("shell", "not there yet");
}
