/* The main program of a fuzz target without libFuzzer: runs the target on the files named, and on
 * every file of the directories named. So the corpora are part of the default tests, with any
 * compiler and sanitizer. Usage: WHAT_fuzz FILE|DIRECTORY... */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "tests/fuzz/fuzz.h"

static size_t n_run;

static void run_file(const char *path)
{
    FILE *file = fopen(path, "re");
    uint8_t *bytes;
    struct stat found;
    size_t size;

    if (file == NULL || fstat(fileno(file), &found) != 0) {
        perror(path);
        exit(2);
    }
    size = (size_t)found.st_size;
    bytes =
        malloc(size > 0 ? size : 1); /* of just this size: AddressSanitizer sees every step out */
    if (bytes == NULL || fread(bytes, 1, size, file) != size) {
        perror(path);
        exit(2);
    }
    fclose(file);
    LLVMFuzzerTestOneInput(bytes, size);
    free(bytes);
    n_run++;
}

static int is_visible(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

static void run_directory(const char *path)
{
    struct dirent **entries;
    int n = scandir(path, &entries, is_visible, alphasort);

    if (n < 0) {
        perror(path);
        exit(2);
    }
    for (int i = 0; i < n; i++) {
        char file[4096];

        snprintf(file, sizeof(file), "%s/%s", path, entries[i]->d_name);
        printf("%s\n", file); /* the last one printed is the one that crashed */
        fflush(stdout);
        run_file(file);
        free(entries[i]);
    }
    free(entries);
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        struct stat found;

        if (stat(argv[i], &found) == 0 && S_ISDIR(found.st_mode)) {
            run_directory(argv[i]);
        } else {
            run_file(argv[i]);
        }
    }
    LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
    printf("%zu inputs\n", n_run);
    return n_run > 0 ? 0 : 2;
}
