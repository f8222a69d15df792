/* fail_check FILE: the verdict on one recorded history, as one line on standard output; what is
 * wrong goes to standard error. Exit code 0: nothing is; 1: something is; 2: it can't be read. */
#include "tests/cluster/fail_history.h"

static const char *name_of(enum linear_verdict verdict)
{
    return verdict == LINEAR_YES ? "yes" : verdict == LINEAR_NO ? "no" : "undecided";
}

int main(int argc, char **argv)
{
    FILE *file = argc == 2 ? fopen(argv[1], "r") : NULL;
    struct fail_verdict verdict;
    struct buf text = {0};
    bool good;

    if (file == NULL) {
        fprintf(stderr, "usage: fail_check FILE\n");
        return 2;
    }
    fail_judge(file, &verdict, &text);
    fclose(file);
    good = fail_verdict_is_good(&verdict);
    fprintf(stderr, "%.*s", (int)text.len, (const char *)text.data);
    buf_fini(&text);
    printf("linearizable=%s operations=%llu unknown=%llu refused=%llu bad=%llu malformed=%llu "
           "tokens=%llu tokens_unknown=%llu missing=%llu twice=%llu unordered=%llu "
           "refused_there=%llu strange=%llu unread=%llu\n",
           name_of(verdict.linear), (unsigned long long)verdict.operations,
           (unsigned long long)verdict.unknown, (unsigned long long)verdict.refused,
           (unsigned long long)verdict.bad, (unsigned long long)verdict.malformed,
           (unsigned long long)verdict.tokens_acked, (unsigned long long)verdict.tokens_unknown,
           (unsigned long long)verdict.tokens_missing, (unsigned long long)verdict.tokens_twice,
           (unsigned long long)verdict.tokens_unordered,
           (unsigned long long)verdict.tokens_refused_there,
           (unsigned long long)verdict.tokens_strange, (unsigned long long)verdict.keys_unread);
    return good ? 0 : 1;
}
